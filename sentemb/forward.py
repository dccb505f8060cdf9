"""The training forward: token rows to embeddings, equal to the saved model's ``encode`` and faster.

Recurrent encoders run over padded rows, transformers over packed ones (:mod:`sentemb.packing`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    LSTM,
    Pooling,
    StaticEmbedding,
    Transformer,
    WordEmbeddings,
)
from tokenizers import Tokenizer, processors
from torch import Tensor, nn

from sentemb.errors import InputError
from sentemb.gru import GRU
from sentemb.mlm import MaskedWords
from sentemb.packing import NAME, Packing, quick_dropout, using
from sentemb.registry import choose
from sentemb.towers import towers_of

ATTENTIONS = ("auto", "packed", "padded", "sdpa", "eager")
Features = dict[str, Any]  # tensors, and ``prompt_lengths``: a list of the tokens in each column's prompt


class Embedder(nn.Module):
    """The training forward of a model: padded features to embeddings, with what exists in training only.

    Args:
        model: a SentenceTransformer; with two towers (:class:`sentemb.towers.Towers`) f and g take their own features.
        head: maps embeddings ``[n, d]`` to what the objective sees; not part of the model.
        mlm: the masked-language-model task on the side, or None.
        attention: packed (no padding, where the model's code allows it), padded (the model's own), sdpa, eager, or
            auto: packed where it works, else padded.

    Raises:
        InputError: this model's code has not that ``attention``, or there is no transformer to choose it for.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        head: nn.Module | None = None,
        mlm: MaskedWords | None = None,
        attention: str = "auto",
    ) -> None:
        super().__init__()
        self.model, self.head, self.mlm = model, head, mlm
        choose("attention", attention, ATTENTIONS)
        transformers = [m for tower in towers_of(model) for m in tower if isinstance(m, Transformer)]
        self.offsets: list[int | None] = []  # of packed positions, a transformer each; None where it is padded
        if not transformers and attention not in ("auto", "padded"):
            raise InputError(f"attention {attention} is an option of transformer encoders; leave it out")
        for module in transformers:
            offset = offset_of(module) if attention in ("auto", "packed") else None
            if offset is None and attention == "packed":
                raise InputError(f"{type(module.auto_model).__name__} cannot be packed; choose attention padded")
            if attention == "sdpa" and not getattr(module.auto_model, "_supports_sdpa", False):
                raise InputError(f"{type(module.auto_model).__name__} has no sdpa; choose attention padded")
            self.offsets.append(offset)
        self.chosen = attention if attention in ("sdpa", "eager") else None
        packed = bool(transformers) and None not in self.offsets
        self.attention = "packed" if packed else (self.chosen or "padded") if transformers else "none"

    @property
    def dimension(self) -> int:
        """Of what the objective sees: the head's, else one tower's."""
        linear = [module for module in self.head.modules() if isinstance(module, nn.Linear)] if self.head else []
        return linear[-1].out_features if linear else int(towers_of(self.model)[0].get_embedding_dimension() or 0)

    def forward(self, *features: Features, masked: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Embeddings ``[n, d]`` of what :func:`collate` made of n token rows.

        With two towers there are two sets of features, of f and g, whose embeddings follow one another.
        ``masked``: also the loss of ``mlm``, a scalar.
        """
        offsets = iter(self.offsets)
        towers = zip(towers_of(self.model), features, strict=True)
        embeddings = torch.cat([self._embedded(tower, own, offsets) for tower, own in towers])
        if self.head is not None:
            embeddings = self.head(embeddings)
        if not masked or self.mlm is None:
            return embeddings
        inputs, labels = self.mlm.mask({name: v for name, v in features[0].items() if name != "prompt_lengths"})
        tokens = self._transformed(cast(Transformer, self.model[0]), inputs, self.offsets[0])["token_embeddings"]
        return embeddings, self.mlm(tokens, labels)

    def _embedded(self, tower: SentenceTransformer, features: Features, offsets: Iterator[int | None]) -> Tensor:
        lengths: Any = features.get("prompt_lengths", ())
        features = {name: value for name, value in features.items() if name != "prompt_lengths"}
        if not isinstance(tower[0], Transformer):  # (sentence-transformers counts a prompt's tokens of these only)
            lengths = ()
        for module in tower:
            if isinstance(module, LSTM | GRU):
                tokens = dense_recurrence(module.encoder, features["token_embeddings"], features["sentence_lengths"])
                features = features | {"token_embeddings": tokens}
            elif isinstance(module, Transformer):
                features = self._transformed(module, features, next(offsets))
            elif isinstance(module, Pooling) and not module.include_prompt and lengths:
                features = features | {"sentence_embedding": pooled_without_prompts(module, features, lengths)}
            else:
                features = module(dict(features))
        return features["sentence_embedding"]

    def _transformed(self, module: Transformer, features: Features, offset: int | None) -> Features:
        if offset is not None:
            return packed_forward(module, features, offset)
        if self.chosen:
            with using(module.auto_model, self.chosen):
                return module(dict(features))
        return module(dict(features))


def pooled_without_prompts(module: Pooling, features: Features, lengths: Sequence[int]) -> Tensor:
    """Sentence embeddings ``[n, d]`` of a pooling that leaves prompts out.

    Args:
        features: of as many rows of each column, one column after another. lengths: of each column's prompt, in tokens.
    """
    count = len(features["token_embeddings"])
    embeddings = []
    for column, length in enumerate(lengths):
        rows = slice(column * count // len(lengths), (column + 1) * count // len(lengths))
        part: dict[str, Any] = {name: value[rows] for name, value in features.items() if len(value) == count}
        embeddings.append(module(part | {"prompt_length": length})["sentence_embedding"])
    return torch.cat(embeddings)


def packed_forward(module: Transformer, features: Features, offset: int) -> Features:
    """A Transformer module's forward of padded features with no work on the padding of its linear layers.

    Returns:
        The features with ``token_embeddings`` ``[n, L, d]``, zero at padding.
    """
    mask = features["attention_mask"]
    packing = Packing.of(mask)
    where = torch.arange(offset, offset + mask.shape[1], device=mask.device).expand_as(mask)
    with using(module.auto_model, NAME), quick_dropout(module.auto_model):
        tokens = module.auto_model(
            input_ids=features["input_ids"].flatten()[packing.places][None],
            position_ids=where.flatten()[packing.places][None],
            packing=packing,
        ).last_hidden_state[0]  # [tokens, d]
    return features | {"token_embeddings": packing.padded(tokens)}


@torch.no_grad()
def offset_of(module: Transformer) -> int | None:
    """The first position id of a packed sentence if the packed forward equals the padded one, else None.

    BERT counts positions from 0, RoBERTa from the id of its padding token + 1.
    """
    model = module.auto_model
    device = model.device
    lengths = torch.tensor([3, 7, 5], device=device)
    mask = (torch.arange(7, device=device) < lengths[:, None]).long()
    pad = int(getattr(model.config, "pad_token_id", None) or 0)
    size = int(cast(Any, model).get_input_embeddings().weight.shape[0])
    ids = torch.arange(21, device=device).view(3, 7) * 13 % max(1, size - 10) + min(9, size - 1)
    features = {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask}
    training = model.training
    model.eval()
    try:
        expected = module(dict(features))["token_embeddings"] * mask[:, :, None]
        for offset in dict.fromkeys((0, pad + 1)):
            try:
                found = packed_forward(module, features, offset)["token_embeddings"]
            except Exception:  # each architecture has its own way not to know our attention
                return None
            if torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
                return offset
        return None
    finally:
        model.train(training)


def dense_recurrence(encoder: nn.LSTM | nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """A recurrent stack over padded rows, equal on real tokens to the packed form and several times faster.

    The backward direction reads each row reversed within its own length, layer by layer: padding is then always
    behind the last real token and never reaches it. (nn.LSTM on padded rows starts backwards from the padding.)

    Args:
        encoder: batch-first LSTM or GRU, one- or bidirectional.
        x: ``[n, T, in]`` token embeddings; lengths: ``[n]`` real tokens a row.

    Returns:
        ``[n, T, directions * hidden]``; rows past their length hold numbers that pooling masks.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))  # before it is copied about, at half the bytes
    step = torch.arange(x.shape[1], device=x.device)
    ends = lengths.to(x.device).clamp(min=1)[:, None]
    mirrored = torch.where(step < ends, ends - 1 - step, step)  # [n, T]
    rows = (mirrored + step.new_tensor(x.shape[1]) * torch.arange(len(x), device=x.device)[:, None]).flatten()
    for layer in range(encoder.num_layers):
        outputs = [_one_direction(encoder, layer, "", x)]
        if encoder.bidirectional:
            outputs.append(_mirror(_one_direction(encoder, layer, "_reverse", _mirror(x, rows)), rows))
        x = torch.cat(outputs, dim=2)
        if layer + 1 < encoder.num_layers:
            x = nn.functional.dropout(x, encoder.dropout, encoder.training)
    return x


class _Mirror(torch.autograd.Function):
    """Rows in an order that is its own inverse: so the gradient's is the same order, and nothing is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return x.flatten(0, 1).index_select(0, rows).view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return slopes[0].flatten(0, 1).index_select(0, rows).view_as(slopes[0]), None


def _mirror(x: Tensor, rows: Tensor) -> Tensor:
    return _Mirror.apply(x, rows)


def _one_direction(encoder: nn.LSTM | nn.GRU, layer: int, suffix: str, x: Tensor) -> Tensor:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(encoder, f"{name}_l{layer}{suffix}") for name in names]
    start = x.new_zeros(1, len(x), encoder.hidden_size)
    if isinstance(encoder, nn.LSTM):
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, encoder.training, False, True)[0]
    return torch.gru(x, start, weights, True, 1, 0.0, encoder.training, False, True)[0]


def tokenizer_of(model: SentenceTransformer) -> Tokenizer:
    """The Rust tokenizer behind an encoder, with the special tokens that ``encode`` adds and no padding."""
    first: Any = towers_of(model)[0][0]
    if isinstance(first, StaticEmbedding):
        tokenizer = Tokenizer.from_str(first.tokenizer.to_str())
        tokenizer.post_processor = processors.Sequence([])  # its encode adds no special tokens
    else:
        wrapped = first.tokenizer
        if isinstance(first, WordEmbeddings):
            wrapped = cast(Any, wrapped).tokenizer
        if not hasattr(wrapped, "backend_tokenizer"):
            raise InputError("this model's tokenizer is not one of the fast ones, which training needs; choose another")
        tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def collate(model: SentenceTransformer, rows: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Token rows (``[length]`` ids each) as the features an encoder's first module takes, padded to the longest."""
    first: Any = towers_of(model)[0][0]
    lengths = torch.tensor([len(row) for row in rows])
    if isinstance(first, StaticEmbedding):
        flat = np.concatenate(rows).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
        return {"input_ids": torch.from_numpy(flat), "offsets": lengths.cumsum(0) - lengths}
    pad = 0 if isinstance(first, WordEmbeddings) else (first.tokenizer.pad_token_id or 0)
    ids = np.full((len(rows), max(1, int(lengths.max()))), pad, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    features = {"input_ids": torch.from_numpy(ids), "attention_mask": mask}
    return features | {"sentence_lengths": lengths} if isinstance(first, WordEmbeddings) else features
