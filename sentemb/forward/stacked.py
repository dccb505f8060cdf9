"""The training forward of several encoders of one shape over one batch, module by module in step."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WordEmbeddings
from torch import Tensor, nn

from sentemb.encoders import has_dropout, towers_of
from sentemb.forward.collate import Features, tensors_of
from sentemb.forward.encoder import TrainingEncoder, is_recurrent
from sentemb.forward.recurrent import (
    library_recurrence,
    padded_recurrence,
    readout_of,
    recurrence_form,
    stacked_recurrence,
)


class StackedEncoder:
    """Several encoders that embed the same token rows: each as :class:`TrainingEncoder` does, to rounding.

    What they have in common is computed once: frozen word embeddings that are equal. Matrix products of recurrent
    stacks are joined (:func:`stacked_recurrence`). Parameters stay those of each encoder, and so do their gradients.

    Args:
        encoders: of one :func:`stacking_shape`, which is not None.
    """

    def __init__(self, encoders: Sequence[TrainingEncoder]) -> None:
        if len({stacking_shape(encoder) for encoder in encoders} - {None}) != 1:
            raise ValueError("encoders can be stacked where they have one shape, and neither dropout nor a transformer")
        self.encoders = list(encoders)
        self.towers = [list(tower) for tower in zip(*(towers_of(each.model) for each in encoders), strict=True)]
        # One word table for all: compared here, as a comparison for each batch would cost more than the look-up.
        self.shares_words = [_same_frozen_words(tower) for tower in self.towers]

    def __call__(self, *features: Features) -> list[Tensor]:
        """Embeddings ``[n, d]`` of each encoder, with what its head makes of them.

        Args:
            features: what :func:`collate_tokens` made of n token rows; two sets of them for two towers.
        """
        by_tower = [
            self._embedded(tower, shares, of_tower)
            for tower, shares, of_tower in zip(self.towers, self.shares_words, features, strict=True)
        ]
        embeddings = [torch.cat(sides) if len(sides) > 1 else sides[0] for sides in zip(*by_tower, strict=True)]
        heads = [encoder.head for encoder in self.encoders]
        return [rows if head is None else head(rows) for rows, head in zip(embeddings, heads, strict=True)]

    def _embedded(self, tower: Sequence[SentenceTransformer], shares_words: bool, features: Features) -> list[Tensor]:
        host_lengths, features = features.get("lengths"), tensors_of(features)
        states: list[Features] = [features for _ in tower]
        levels = list(zip(*tower, strict=True))
        if is_recurrent(list(tower[0])):
            states, levels = self._recurrent(levels, shares_words, features, host_lengths)
        for modules in levels:
            states = [module(dict(state)) for module, state in zip(modules, states, strict=True)]
        return [state["sentence_embedding"] for state in states]

    def _recurrent(
        self, levels: list[tuple[Any, ...]], shares_words: bool, features: Features, host_lengths: np.ndarray | None
    ) -> tuple[list[Features], list[tuple[Any, ...]]]:
        """Each encoder's features after its word embeddings and recurrent stack, and the modules that are left."""
        words, ids, lengths = levels[0], features["input_ids"], features["sentence_lengths"]
        before = [features] * len(words)
        if isinstance(levels[1][0], Pooling):  # (of the words themselves, for a SkipPooling after the recurrence)
            before = [
                pooling(features | {"token_embeddings": module.emb_layer(ids)})
                for module, pooling in zip(words, levels[1], strict=True)
            ]
            levels = [levels[0], *levels[2:]]
        modules = [module.encoder for module in levels[1]]
        form = recurrence_form(modules[0], ids.device)
        for encoder in self.encoders:
            encoder.recurrence = form
        if form == "library":
            read = lengths.cpu().numpy() if host_lengths is None else host_lengths
            hidden = [
                library_recurrence(module, word.emb_layer, ids, read)
                for module, word in zip(modules, words, strict=True)
            ]
            return _with_each(before, "token_embeddings", hidden), levels[2:]
        if form == "padded":
            inputs = [module.emb_layer(ids) for module in (words[:1] if shares_words else words)]
            inputs = inputs * len(modules) if shares_words else inputs
            hidden = [padded_recurrence(module, x, lengths) for module, x in zip(modules, inputs, strict=True)]
            return _with_each(before, "token_embeddings", hidden), levels[2:]
        readout = readout_of(levels[2][0] if len(levels) > 2 else None, modules[0].bidirectional)
        distinct, rows = torch.unique(ids, return_inverse=True)
        tables = torch.stack([module.emb_layer(distinct) for module in (words[:1] if shares_words else words)])
        states = stacked_recurrence(modules, tables, rows, lengths, readout)
        name, rest = ("token_embeddings", levels[2:]) if readout == "tokens" else ("sentence_embedding", levels[3:])
        return _with_each(before, name, states), rest


def _with_each(features: Sequence[Features], name: str, values: Sequence[Tensor]) -> list[Features]:
    return [of_encoder | {name: value} for of_encoder, value in zip(features, values, strict=True)]


def stacking_shape(encoder: TrainingEncoder) -> Hashable | None:
    """What encoders must have in common to be stacked; None for one that cannot be.

    Not stacked are transformers, whose products are large enough alone, and encoders with dropout, which would draw
    other masks than alone.
    """
    if encoder.mlm is not None or has_dropout(encoder):
        return None
    towers = towers_of(encoder.model)
    if any(isinstance(module, Transformer) for tower in towers for module in tower):
        return None
    return tuple(tuple(_described(tower)) for tower in towers)


def stack_bytes(encoder: TrainingEncoder, rows: int, length: int) -> int:
    """Memory that one more encoder of a stack takes while it is trained on ``rows`` of ``length`` tokens, roughly.

    Weights that are trained are there four times (with gradient and AdamW's two moments), and all once more as they
    were before training. Of a recurrent layer's numbers of each token about eight a unit stay for the backward pass.
    """
    weights = sum(5 * p.numel() if p.requires_grad else 2 * p.numel() for p in encoder.parameters())
    widths = 0
    for module in encoder.modules():
        if isinstance(module, nn.LSTM | nn.GRU):
            widths += module.input_size + 8 * module.hidden_size * module.num_layers * (1 + module.bidirectional)
    size = next((p.element_size() for p in encoder.parameters()), 4)
    return size * (weights + rows * length * widths)


def _described(tower: SentenceTransformer) -> Iterator[Hashable]:
    for module in tower:
        options: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        shapes = tuple((name, tuple(p.shape), p.dtype, p.requires_grad) for name, p in module.named_parameters())
        yield type(module), repr(sorted(options.items())), shapes


def _same_frozen_words(tower: Sequence[SentenceTransformer]) -> bool:
    if not isinstance(tower[0][0], WordEmbeddings):
        return False
    tables = [cast(Any, encoder[0]).emb_layer.weight for encoder in tower]
    return all(not table.requires_grad and torch.equal(table, tables[0]) for table in tables)
