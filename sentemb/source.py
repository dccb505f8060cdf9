"""What the loop trains on: pairs and token ids become the batches of each update, the same ones for the same seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from sentemb.augment import Words
from sentemb.corpus import Tokens
from sentemb.forward import Features, collate
from sentemb.pairs import Pairs, batch_sizes, batches, runs
from sentemb.towers import towers_of


@dataclass(frozen=True)
class Batch:
    """A process' share of an update: ``columns[c][i]`` are the token ids of pair i's c-th sentence."""

    columns: list[list[np.ndarray]]
    ids: Tensor  # int64 [n, columns], equal where sentences are the same
    positions: Tensor | None = None  # int64 [n] of runs: one apart where sentences are neighbours
    labels: Tensor | None = None  # int64 [n], equal where pairs are of one class

    def __len__(self) -> int:
        return len(self.ids)

    def features(self, model: SentenceTransformer, part: slice, device: torch.device) -> list[Features]:
        """Of these pairs: of all columns, one after another; with two towers of the first, and of the others."""
        rows = [column[part] for column in self.columns]
        sides = [rows[:1], rows[1:]] if len(towers_of(model)) > 1 else [rows]
        collated = (collate(model, [row for column in side for row in column]) for side in sides)
        return [{name: value.to(device) for name, value in side.items()} for side in collated]


@dataclass(frozen=True)
class Source:
    """Makes the batches of updates out of pairs and tokens."""

    pairs: Pairs
    tokens: Tokens
    same: np.ndarray  # int64 [sentences], equal where sentences are copies
    words: Words | None
    towers: int
    seed: int
    batch_size: int  # per process
    world: int
    rank: int

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sentence."""
        return int(self.tokens.lengths().max())

    def order(self, done: int, steps: int) -> Iterator[np.ndarray]:
        """This process's batches of updates ``done + 1`` to ``steps``, as indices of pairs."""
        lengths = self.tokens.lengths()[self.pairs.rows].max(axis=1)
        per_epoch = len(batch_sizes(len(self.pairs), self.batch_size, self.world))
        number = done // per_epoch * per_epoch
        while number < steps:
            cut = runs if self.pairs.runs else batches
            for batch in cut(lengths, self.batch_size, self.world, self.rank, self.seed, number // per_epoch):
                if done <= number < steps:
                    yield batch
                number += 1

    def batch(self, chosen: np.ndarray, step: int) -> Batch:
        """The pairs of these indices."""
        rows = self.pairs.rows[chosen]  # [n, k]
        columns = [[self.tokens[row] for row in column] for column in rows.T]
        ids = torch.from_numpy(self.same[rows])
        positions, labels = None, None
        if self.pairs.labels is not None:
            labels = torch.from_numpy(self.pairs.labels[chosen])
        if self.pairs.positions is not None:
            positions = torch.from_numpy(self.pairs.positions[chosen])
            if self.towers > 1:
                columns, ids = columns * 2, ids.expand(-1, 2)
        if self.pairs.noise is not None and self.words is not None:
            rng = np.random.default_rng((self.seed, step, self.rank))
            columns[1] = [self.words.changed(row, self.pairs.noise, rng, self.longest) for row in columns[1]]
        return Batch(columns, ids, positions, labels)
