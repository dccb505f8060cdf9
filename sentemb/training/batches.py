"""What the loop trains on: pairs and token ids become the batches of each update, the same ones for the same seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sentemb.corpus import Tokens
from sentemb.encoders import towers_of
from sentemb.forward import Features, collate_tokens
from sentemb.pairs import Numbers, Pairs, Words
from sentemb.training.samplers import ContiguousSampler, EpochLayout, LengthBucketedSampler, pairs_per_rank, rank_share
from sentemb.training.signals import ignore_signals

AT_ONCE = 1_000_000  # sentences looked at


@dataclass(frozen=True)
class Batch:
    """A process' share of an update: ``columns[c][i]`` are the token ids of pair i's c-th sentence."""

    columns: list[list[np.ndarray]]
    ids: Tensor  # int64 [n, columns], equal where sentences are the same
    positions: Tensor | None = None  # int64 [n] of runs: one apart where sentences are neighbours
    labels: Tensor | None = None  # int64 [n], equal where pairs are of one class
    pairs_per_rank: tuple[int, ...] | None = None  # pairs of each process; None: as many as here
    pair_indices: np.ndarray | None = None  # int64 [pairs of all processes], the update's pairs
    prompt_lengths: tuple[int, ...] = ()  # tokens at the start of each column's rows that are its prompt's; (): none

    def __len__(self) -> int:
        return len(self.ids)

    def features(self, model: SentenceTransformer, part: slice, device: torch.device) -> list[Features]:
        """Of these pairs: of all columns, one after another; with two towers of the first, and of the others."""
        rows = [column[part] for column in self.columns]
        lengths = list(self.prompt_lengths or [0] * len(rows))
        cut = 1 if len(towers_of(model)) > 1 else len(rows)
        sides: list[Features] = []
        for columns, own in ((rows[:cut], lengths[:cut]), (rows[cut:], lengths[cut:])):
            if columns:
                features = collate_tokens(model, [row for column in columns for row in column])
                prompts = {"prompt_lengths": own} if any(own) else {}
                sides.append({name: value.to(device) for name, value in features.items()} | prompts)
        return sides


@dataclass(frozen=True)
class BatchDataset:
    """Makes the batches of updates out of pairs and tokens."""

    pairs: Pairs
    tokens: Tokens  # of the first side
    names: np.ndarray | None  # int64 [sentences], equal where sentences are copies; None: the tokens' own
    words: Words | None
    towers: int
    seed: int
    batch_size: int  # per process
    world: int
    rank: int
    least: int = 0  # pairs of the smallest update; 0: two a process
    positive_tokens: Tokens | None = None  # of the other sides, with another prompt; None: the same

    @property
    def others(self) -> Tokens:
        """Tokens of the second side and of hard negatives."""
        return self.tokens if self.positive_tokens is None else self.positive_tokens

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sentence of the second side."""
        tokens = self.others
        starts = range(0, len(tokens), AT_ONCE)
        return max(int(tokens.lengths(slice(start, start + AT_ONCE)).max()) for start in starts)

    @cached_property
    def updates(self) -> EpochLayout:
        """What an epoch is made of."""
        return EpochLayout(len(self.pairs), self.batch_size, self.world, self.least)

    @cached_property
    def order(self) -> LengthBucketedSampler | ContiguousSampler:
        """The pairs of each update."""
        if self.pairs.are_contiguous:
            return ContiguousSampler(self.updates, self.seed)
        return LengthBucketedSampler(self.updates, partial(_lengths, self.pairs, self.tokens), self.seed)

    def batches(self, done: int, steps: int, workers: int = 0) -> Iterator[Batch]:
        """This process's batches of updates ``done + 1`` to ``steps``, made ahead by so many worker processes."""
        loader: DataLoader[Any] = DataLoader(
            cast(Dataset[Any], self),
            sampler=range(done, steps),
            batch_size=None,
            num_workers=workers,
            collate_fn=cast(Any, _as_it_is),
            worker_init_fn=ignore_signals,
            generator=torch.Generator(),  # (the loader draws a number from it; not from the global one)
        )
        return iter(loader)

    def __len__(self) -> int:
        """Updates of an epoch."""
        return len(self.updates)

    def __getitem__(self, step: int) -> Batch:
        """This process's batch of update ``step + 1``, whatever was asked for before."""
        whole = self.order[step]
        chosen = rank_share(whole, self.rank, self.world, self.pairs.are_contiguous)
        rows = self.pairs.rows[chosen]  # [n, k]
        of_columns = [self.tokens, *[self.others] * (rows.shape[1] - 1)]
        columns = [tokens.rows(column) for tokens, column in zip(of_columns, rows.T, strict=True)]
        ids = torch.from_numpy((self.tokens.distinct() if self.names is None else self.names)[rows])
        positions, labels = None, None
        if self.pairs.labels is not None:
            labels = torch.from_numpy(self.pairs.labels[chosen])
        if self.pairs.positions is not None:
            positions = torch.from_numpy(self.pairs.positions[chosen])
            if self.towers > 1:
                of_columns = [self.tokens, self.others]
                columns, ids = [*columns, self.others.rows(rows[:, 0])], ids.expand(-1, 2)
        if self.pairs.noise is not None and self.words is not None:
            rng = np.random.default_rng((self.seed, step + 1, self.rank))
            cut = self.others.prompt_length  # (a prompt stays as it is)
            columns[1] = [
                np.concatenate([row[:cut], self.words.changed(row[cut:], self.pairs.noise, rng, self.longest - cut)])
                if cut
                else self.words.changed(row, self.pairs.noise, rng, self.longest)
                for row in columns[1]
            ]
        lengths = tuple(tokens.prompt_length for tokens in of_columns)
        return Batch(columns, ids, positions, labels, pairs_per_rank(len(whole), self.world), whole, lengths)


def _lengths(pairs: Pairs, tokens: Tokens, numbers: Numbers) -> Numbers:
    return tokens.lengths(pairs.rows[numbers]).max(axis=1)


def _as_it_is(batch: Batch) -> Batch:
    return batch
