"""Make the batches of each update from pairs and token ids; the same seed gives the same batches."""

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
from sentemb.errors import InputError
from sentemb.forward import Features, collate_tokens, to_device
from sentemb.objectives import GuideMargin, copied
from sentemb.pairs import Noise, Numbers, Pairs, Words, draw_chances
from sentemb.training.data.guide import Guide
from sentemb.training.data.samplers import (
    ContiguousSampler,
    EpochLayout,
    LengthBucketedSampler,
    pairs_per_rank,
    rank_share,
)
from sentemb.training.data.teacher import Teacher, TeacherArray
from sentemb.training.signals import ignore_signals

CHUNK = 1_000_000  # sentences whose lengths are read together


@dataclass(frozen=True)
class Batch:
    """A process' share of an update: ``columns[c][i]`` are the token ids of pair i's c-th sentence."""

    columns: list[list[np.ndarray]]
    ids: Tensor  # int64 [n, columns], equal where sentences are the same
    positions: Tensor | None = None  # int64 [n] of runs: one apart where sentences are neighbours
    labels: Tensor | None = None  # int64 [n], equal where pairs belong to one class
    teacher: Tensor | None = None  # float32 [n, sides, D], the teacher's; one side where both are one sentence
    pairs_per_rank: tuple[int, ...] | None = None  # pairs of each process; None: as many as here
    pair_indices: np.ndarray | None = None  # int64 [pairs of all processes], the update's pairs
    prompt_lengths: tuple[int, ...] = ()  # tokens at the start of each column's rows that are its prompt's; (): none
    guide: Tensor | None = None  # float32 [n, columns, D], the guide's; one column where both sides are one sentence
    guide_margin: GuideMargin = GuideMargin()
    has_copies: bool | None = None  # whether a sentence is in two pairs of the update; None: to be looked for

    def __len__(self) -> int:
        return len(self.ids)

    def features(self, model: SentenceTransformer, part: slice, device: torch.device) -> list[Features]:
        """Of these pairs: of all columns, one after another; with two towers of the first, and of the others."""
        rows = [column[part] for column in self.columns]
        lengths = list(self.prompt_lengths or [0] * len(rows))
        cut = 1 if len(towers_of(model)) > 1 else len(rows)
        sides: list[Features] = []
        for columns, prompt_lengths in ((rows[:cut], lengths[:cut]), (rows[cut:], lengths[cut:])):
            if columns:
                token_rows = [row for column in columns for row in column]
                features = collate_tokens(model, token_rows)
                lengths_of_rows = np.fromiter(map(len, token_rows), dtype=np.int64, count=len(token_rows))
                of_host: Features = {"token_count": int(lengths_of_rows.sum()), "lengths": lengths_of_rows}
                if any(prompt_lengths):
                    of_host["prompt_lengths"] = prompt_lengths
                sides.append({name: to_device(value, device) for name, value in features.items()} | of_host)
        return sides


@dataclass(frozen=True)
class TrainingData:
    """The training data: positive pairs of sentences, and the sentences' token ids."""

    pairs: Pairs  # rows of tokens
    tokens: Tokens  # of the first side of each pair
    positive_tokens: Tokens | None = None  # of the other sides, where they have another prompt; None: the same
    words: Words | None = None  # how token ids make words, where the pairs' noise changes some
    teacher: Teacher | None = None  # a teacher's embeddings of the sentences, for objectives that need one
    guide: Guide | None = None  # which candidates of a batch are not negatives; None: all are but copies

    def __post_init__(self) -> None:
        for role, source in (("a teacher", self.teacher), ("a guide", self.guide)):
            if source is not None:
                self.pairs.refuse_passages(role)
        for role, array in (("teacher", self.teacher), ("guide", self.guide and self.guide.embeddings)):
            if isinstance(array, TeacherArray) and len(array) != len(self.tokens):
                raise InputError(
                    f"the {role}'s array has {len(array)} rows and the corpus {len(self.tokens)} sentences; give a "
                    "row for each sentence, in the order of the corpus"
                )


@dataclass(frozen=True)
class BatchDataset:
    """Makes this process' batch of each update."""

    data: TrainingData
    seed: int
    batch_size: int  # pairs per process
    world: int = 1
    rank: int = 0
    smallest_batch: int = 0  # pairs of an epoch's last update, at least, on all processes; 0: two a process
    global_batch: int = 0  # pairs of an update on all processes, where they do not divide; 0: as many on each
    towers: int = 1
    sentence_ids: np.ndarray | None = None  # int64 [sentences], equal where sentences are copies; None: the tokens' own

    @property
    def pairs(self) -> Pairs:
        """The pairs of an epoch."""
        return self.data.pairs

    @property
    def others(self) -> Tokens:
        """Tokens of the second side and of hard negatives."""
        return self.data.tokens if self.data.positive_tokens is None else self.data.positive_tokens

    @property
    def pairs_per_process(self) -> int:
        """Pairs of a full batch on each process."""
        return min(self.batch_size, len(self.pairs) // self.world)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sentence of the second side."""
        tokens = self.others
        starts = range(0, len(tokens), CHUNK)
        return max(int(tokens.lengths(slice(start, start + CHUNK)).max()) for start in starts)

    @cached_property
    def updates(self) -> EpochLayout:
        """The updates of an epoch."""
        return EpochLayout(len(self.pairs), self.batch_size, self.world, self.smallest_batch, self.global_batch)

    @cached_property
    def order(self) -> LengthBucketedSampler | ContiguousSampler:
        """The pairs of each update."""
        if self.pairs.are_contiguous:
            return ContiguousSampler(self.updates, self.seed)
        return LengthBucketedSampler(self.updates, partial(_lengths, self.pairs, self.data.tokens), self.seed)

    def batches(self, done: int, steps: int, workers: int = 0) -> Iterator[Batch]:
        """This process's batches of updates ``done + 1`` to ``steps``, made ahead by ``workers`` processes."""
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
        """This process' batch of update ``step + 1``, whatever was asked for before."""
        pair_indices = self.order[step]
        share = rank_share(pair_indices, self.rank, self.world, self.pairs.are_contiguous)
        if self.pairs.passages is not None:
            return self._of_passages(step, self.pairs.rows[share], share, pair_indices)
        rows = self.pairs.columns(share)  # [n, k]
        of_columns = [self.data.tokens, *[self.others] * (rows.shape[1] - 1)]
        columns = [tokens.rows(column) for tokens, column in zip(of_columns, rows.T, strict=True)]
        sentence_ids = self.data.tokens.distinct() if self.sentence_ids is None else self.sentence_ids
        ids = torch.from_numpy(sentence_ids[rows])
        positions, labels = None, None
        if self.pairs.labels is not None:
            labels = torch.from_numpy(self.pairs.labels[share])
        if self.pairs.positions is not None:
            positions = torch.from_numpy(self.pairs.positions[share])
            if self.towers > 1:
                of_columns = [self.data.tokens, self.others]
                columns, ids = [*columns, self.others.rows(rows[:, 0])], ids.expand(-1, 2)
        if self.pairs.noise is not None and self.data.words is not None:
            columns[1] = self._augmented(columns[1], step, self.data.words, self.pairs.noise)
        return Batch(
            columns,
            ids,
            positions,
            labels,
            self._teacher_rows(rows),
            pairs_per_rank(len(pair_indices), self.world),
            pair_indices,
            prompt_lengths=tuple(tokens.prompt_length for tokens in of_columns),
            guide=self._guide_rows(rows),
            guide_margin=self.data.guide.margin if self.data.guide else GuideMargin(),
            has_copies=copied(torch.from_numpy(sentence_ids[self.pairs.columns(pair_indices)])),
        )

    def _of_passages(self, step: int, rows: Numbers, share: Numbers, pair_indices: Numbers) -> Batch:
        """The batch of these pairs of passages ``[n, 2]``; other sentences and crops are drawn in each epoch."""
        assert self.pairs.passages is not None
        sides, negatives = (self.data.tokens, self.others), self.pairs.negatives
        chances = draw_chances(self.seed, step // len(self.updates), share)
        places = None if negatives is None else negatives.of(share)
        columns, ids = self.pairs.passages.columns(rows, chances, sides, places)
        return Batch(
            columns,
            torch.from_numpy(ids),
            pairs_per_rank=pairs_per_rank(len(pair_indices), self.world),
            pair_indices=pair_indices,
            prompt_lengths=(sides[0].prompt_length, *[sides[1].prompt_length] * (len(columns) - 1)),
        )

    def _teacher_rows(self, rows: Numbers) -> Tensor | None:
        """The teacher's embeddings of both sides of pairs ``rows``, float32 ``[n, sides, D]``; None without one."""
        if self.data.teacher is None:
            return None
        return _embeddings(self.data.teacher, rows[:, : 1 if self.pairs.self_pairs else 2])

    def _guide_rows(self, rows: Numbers) -> Tensor | None:
        """The guide's embeddings of all columns of pairs ``rows``, float32 ``[n, columns, D]``; None without one."""
        if self.data.guide is None:
            return None
        alike = self.pairs.self_pairs and rows.shape[1] == 2
        return _embeddings(self.data.guide.embeddings, rows[:, :1] if alike else rows)

    def _augmented(self, rows: list[np.ndarray], step: int, words: Words, noise: Noise) -> list[np.ndarray]:
        """Token rows with words deleted, repeated or moved; a prompt before them stays as it is."""
        rng = np.random.default_rng((self.seed, step + 1, self.rank))
        prompt = self.others.prompt_length
        longest = self.longest - prompt
        return [np.concatenate([row[:prompt], words.changed(row[prompt:], noise, rng, longest)]) for row in rows]


def _embeddings(source: Teacher, rows: Numbers) -> Tensor:
    """Of sentences ``[n, columns]``, float32 ``[n, columns, D]``."""
    embeddings = np.asarray(source.rows(rows.flatten()), dtype=np.float32)
    return torch.from_numpy(embeddings.reshape(*rows.shape, -1))


def _lengths(pairs: Pairs, tokens: Tokens, numbers: Numbers) -> Numbers:
    if pairs.passages is not None:
        return pairs.passages.lengths(pairs.rows[numbers])
    return tokens.lengths(pairs.rows[numbers]).max(axis=1)


def _as_it_is(batch: Batch) -> Batch:
    return batch
