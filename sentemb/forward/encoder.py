"""The training forward: token rows to embeddings, equal to the saved model's ``encode`` and faster.

Both recurrent encoders and transformers work on real tokens only (:mod:`sentemb.forward.recurrent`,
:mod:`sentemb.forward.packed`).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    LSTM,
    Pooling,
    Transformer,
    WordEmbeddings,
)
from torch import Tensor, nn

from sentemb.encoders import GRU, towers_of
from sentemb.errors import InputError
from sentemb.forward.collate import Features, tensors_of
from sentemb.forward.masked_lm import MaskedWords
from sentemb.forward.packed import offset_of, packed_forward, with_attention
from sentemb.forward.products import quick_linear
from sentemb.forward.recurrent import (
    library_recurrence,
    packed_recurrence,
    padded_recurrence,
    readout_of,
    recurrence_form,
)
from sentemb.registry import choose

ATTENTIONS = ("auto", "packed", "padded", "sdpa", "eager")


class TrainingEncoder(nn.Module):
    """The training forward of a model: padded features to embeddings, with what exists in training only.

    Args:
        model: a SentenceTransformer; with two towers (:class:`sentemb.encoders.Towers`) f and g take their own
            features.
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
        self.recurrence = "none"  # the form that the last forward of a recurrent encoder has taken

    @property
    def dimension(self) -> int:
        """Of what the objective sees: the head's, else one tower's."""
        linear = [module for module in self.head.modules() if isinstance(module, nn.Linear)] if self.head else []
        return linear[-1].out_features if linear else int(towers_of(self.model)[0].get_embedding_dimension() or 0)

    def forward(self, *features: Features, masked: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Embeddings ``[n, d]`` of what :func:`collate_tokens` made of n token rows.

        With two towers there are two sets of features, of f and g, whose embeddings follow one another.
        ``masked``: also the loss of ``mlm``, a scalar.
        """
        offsets = iter(self.offsets)
        towers = zip(towers_of(self.model), features, strict=True)
        embeddings = torch.cat([self._embedded(tower, tower_features, offsets) for tower, tower_features in towers])
        if self.head is not None:
            embeddings = self.head(embeddings)
        if not masked or self.mlm is None:
            return embeddings
        inputs, labels = self.mlm.mask(tensors_of(features[0]))
        count, offset = features[0].get("token_count"), self.offsets[0]
        tokens = self._transformed(cast(Transformer, self.model[0]), inputs, offset, count)["token_embeddings"]
        return embeddings, self.mlm(tokens, labels)

    def _embedded(self, tower: SentenceTransformer, features: Features, offsets: Iterator[int | None]) -> Tensor:
        lengths: Any = features.get("prompt_lengths", ())
        host_lengths, count = features.get("lengths"), features.get("token_count")
        features = tensors_of(features)
        if not isinstance(tower[0], Transformer):  # (sentence-transformers counts a prompt's tokens of these only)
            lengths = ()
        modules = list(tower)
        if is_recurrent(modules):
            features, modules = self._recurrent(modules, features, host_lengths)
        for module in modules:
            if isinstance(module, LSTM | GRU):
                tokens = padded_recurrence(module.encoder, features["token_embeddings"], features["sentence_lengths"])
                features = features | {"token_embeddings": tokens}
            elif isinstance(module, Transformer):
                features = self._transformed(module, features, next(offsets), count)
            elif isinstance(module, Pooling) and not module.include_prompt and lengths:
                features = features | {"sentence_embedding": pooled_without_prompts(module, features, lengths)}
            else:
                features = module(dict(features))
        return features["sentence_embedding"]

    def _recurrent(
        self, modules: list[Any], features: Features, host_lengths: np.ndarray | None
    ) -> tuple[Features, list[Any]]:
        """Features after word embeddings and a recurrent stack, with its pooling where both are one; what is left.

        ``host_lengths``: as of the features; None: they are read from their device.
        """
        embeddings, ids, lengths = modules[0].emb_layer, features["input_ids"], features["sentence_lengths"]
        if isinstance(modules[1], Pooling):  # (of the words themselves, for a SkipPooling after the recurrence)
            features = modules[1](features | {"token_embeddings": embeddings(ids)})
            modules = [modules[0], *modules[2:]]
        encoder = modules[1].encoder
        self.recurrence = recurrence_form(encoder, ids.device)
        if self.recurrence == "library":
            read = lengths.cpu().numpy() if host_lengths is None else host_lengths
            return features | {"token_embeddings": library_recurrence(encoder, embeddings, ids, read)}, modules[2:]
        if self.recurrence == "padded":
            return features | {"token_embeddings": padded_recurrence(encoder, embeddings(ids), lengths)}, modules[2:]
        readout = readout_of(modules[2] if len(modules) > 2 else None, encoder.bidirectional)
        distinct, words = torch.unique(ids, return_inverse=True)
        states = packed_recurrence(encoder, embeddings(distinct), words, lengths, readout)
        if readout == "tokens":
            return features | {"token_embeddings": states}, modules[2:]
        return features | {"sentence_embedding": states}, modules[3:]

    def _transformed(self, module: Transformer, features: Features, offset: int | None, count: int | None) -> Features:
        if offset is not None:
            return packed_forward(module, features, offset, count)
        attention = with_attention(module.auto_model, self.chosen) if self.chosen else nullcontext()
        # (torch.compile fuses products by itself, and would break off its graph there)
        products = nullcontext() if torch.compiler.is_compiling() else quick_linear(module)
        with attention, products:
            return module(dict(features))


def is_recurrent(modules: Sequence[Any]) -> bool:
    """Whether these begin with word embeddings and a recurrent stack, perhaps with a pooling between them."""
    if not modules or not isinstance(modules[0], WordEmbeddings):
        return False
    behind = modules[1:3] if len(modules) > 1 and isinstance(modules[1], Pooling) else modules[1:2]
    return bool(behind) and isinstance(behind[-1], LSTM | GRU)


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
