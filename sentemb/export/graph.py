"""An encoder as an ONNX graph, by torch's own exporter: token ids and mask ``[n, T]`` to embeddings ``[n, d]``.

n and T are free. Stock modules are exported as they are; what the exporter cannot express has another form here: the
embedding bag of averaged word embeddings, and recurrences over packed rows.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import LSTM, StaticEmbedding
from torch import Tensor, nn

from sentemb.encoders import GRU, ONNX_INPUTS, ONNX_OUTPUT
from sentemb.errors import InputError, in_a_line

SINGLE_FILE = 1_500_000_000  # bytes of weights; a graph of more has them in a second file, as its format ends at 2 GB
# ONNX's order of gates, as numbers of PyTorch's: i, o, f, c of i, f, g, o; and z, r, h of r, z, n.
OPERATORS = {nn.LSTM: ("LSTM", (0, 3, 1, 2)), nn.GRU: ("GRU", (1, 0, 2))}


def write_graph(model: SentenceTransformer, file: Path) -> None:
    """Export an encoder.

    Args:
        model: float32, on the CPU, without two towers.
        file: to be written.

    Raises:
        InputError: a module of it cannot be expressed.
    """
    graph = _Graph(model).eval()
    ids = torch.zeros(2, 3, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])  # (of ones, a transformer leaves the mask out)
    axes = {0: "n", 1: "tokens"}
    with quiet():
        try:
            program: Any = torch.onnx.export(
                graph,
                (ids, mask),
                input_names=list(ONNX_INPUTS),
                output_names=[ONNX_OUTPUT],
                dynamic_shapes=(axes, axes),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # of its stages, each with classes of its own
            reason = in_a_line(error)
            raise InputError(f"torch's exporter cannot express this encoder in ONNX: {reason}") from error
    weights = sum(weight.numel() * weight.element_size() for weight in graph.state_dict().values())
    program.save(str(file), external_data=weights > SINGLE_FILE)


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings and the libraries' advice, which are on packages and steps that this export does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Graph(nn.Module):
    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_expressible(part) for part in model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        for part in self.parts:
            features = part(features)
        return features[ONNX_OUTPUT]


def _expressible(part: nn.Module) -> nn.Module:
    if isinstance(part, StaticEmbedding):
        return _MeanOfRows(part)
    return _Recurrence(part) if isinstance(part, LSTM | GRU) else part


class _MeanOfRows(nn.Module):
    """Averaged word embeddings over padded rows, as a product with the mask; a text without a token has zeros."""

    def __init__(self, module: StaticEmbedding) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(module.embedding.weight)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = self.table(features["input_ids"])  # [n, T, d]
        mask = features["attention_mask"].to(rows.dtype)[:, None]  # [n, 1, T]
        return features | {ONNX_OUTPUT: (mask @ rows)[:, 0] / mask.sum(dim=2).clamp(min=1)}


class _Recurrence(nn.Module):
    """Recurrent layers as ONNX's own operators, which take each row's length.

    The backward direction so begins at a row's last token and not at its padding, as in the packed form. An empty row
    reads its first padding, as sentence-transformers has it.
    """

    def __init__(self, module: LSTM) -> None:
        super().__init__()
        encoder = module.encoder
        self.operator, gates = OPERATORS[type(encoder)]
        self.layers, self.hidden = encoder.num_layers, encoder.hidden_size
        self.directions = 2 if encoder.bidirectional else 1
        for layer in range(self.layers):
            ends = [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]
            for name in ("weight_ih", "weight_hh"):  # [directions, gates * hidden, ...]
                weights = [_reordered(getattr(encoder, name + end), gates) for end in ends]
                self.register_buffer(f"{name}{layer}", torch.stack(weights))
            biases = [
                torch.cat([_reordered(getattr(encoder, f"{name}{end}"), gates) for name in ("bias_ih", "bias_hh")])
                for end in ends
            ]
            self.register_buffer(f"bias{layer}", torch.stack(biases))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """As :class:`sentence_transformers.sentence_transformer.modules.LSTM`."""
        x = features["token_embeddings"].transpose(0, 1)  # [T, n, in]
        lengths = features["attention_mask"].sum(dim=1).clamp(min=1).to(torch.int32)  # [n]
        attributes: dict[str, Any] = {"hidden_size": self.hidden}
        attributes["direction"] = "bidirectional" if self.directions == 2 else "forward"
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1  # PyTorch's form: r times (U h + b')
        for layer in range(self.layers):
            weights = [getattr(self, f"{name}{layer}") for name in ("weight_ih", "weight_hh", "bias")]
            states = torch.onnx.ops.symbolic(
                self.operator,
                (x, *weights, lengths),
                attributes,
                dtype=x.dtype,
                shape=(x.shape[0], self.directions, x.shape[1], self.hidden),
            )
            x = states.transpose(1, 2).flatten(2)  # [T, n, directions * hidden]
        return features | {"token_embeddings": x.transpose(0, 1)}


def _reordered(weights: Tensor, gates: tuple[int, ...]) -> Tensor:
    return weights.detach().unflatten(0, (len(gates), -1))[list(gates)].flatten(0, 1)
