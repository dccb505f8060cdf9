"""What all objectives share: the contract with the training loop, and checks of options."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn

from sentemb.geometry import l2_normalize
from sentemb.objectives.anchor_rows import AnchorRows, Values
from sentemb.objectives.guide import GuideEmbeddings

NEEDS = {
    "runs": "runs of consecutive sentences; choose --pairs contiguous",
    "labels": "a class for each pair; give a labelled corpus and its column (labelled:path=FILE,label=COLUMN), or "
    "--pairs neighbours:classes=true",
    "negatives": "hard negatives; give a labelled corpus with columns `negative...`",
    "targets": "the momentum encoder's embeddings, which the training loop makes",
    "teacher": "a teacher's embeddings; give --teacher",
    "guide": "a guide's embeddings; give --guide",
}


@dataclass(frozen=True)
class Extras:
    """What an objective may take in addition to the two views: each optional, each of the global batch."""

    ids: Tensor | None = None  # int64 [n, 2 + k], equal where sentences are the same: of x, of y, of each negative
    negatives: Tensor | None = None  # [n, k, d] hard negatives, k for each anchor
    positions: Tensor | None = None  # int64 [n] of runs, one apart where sentences are neighbours; None: rows in order
    labels: Tensor | None = None  # int64 [n], equal where pairs are of one class
    targets: tuple[Tensor, Tensor] | None = None  # [n, d] each: x and y as the momentum encoder sees them
    teacher: tuple[Tensor, Tensor] | None = (
        None  # [n, D] each, any D: the sentences of x and y as the teacher sees them
    )
    guide: GuideEmbeddings | None = None  # which candidates are not negatives
    copies: bool | None = None  # whether an id is in two rows; None: to be looked for, which reads it from the device
    rows: AnchorRows | None = None  # which anchors are this process's; None: all, the loss is not shared out

    def only(self, names: frozenset[str]) -> "Extras":
        """Ids and rows, and of the rest what is in ``names`` (of NEEDS)."""
        return Extras(
            ids=self.ids,
            negatives=self.negatives if "negatives" in names else None,
            positions=self.positions if "runs" in names else None,
            labels=self.labels if "labels" in names else None,
            targets=self.targets if "targets" in names else None,
            teacher=self.teacher if "teacher" in names else None,
            guide=self.guide if "guide" in names else None,
            copies=self.copies,
            rows=self.rows,
        )

    @property
    def copied_ids(self) -> Tensor | None:
        """``ids`` where one of them is in two rows; else None: there are no copies to look for."""
        return self.ids if (copied(self.ids) if self.copies is None else self.copies) else None

    def anchors(self, values: Values) -> Values:
        """Of values ``[n, ...]`` (or a mask) of all anchors those of this process's anchors."""
        return values if self.rows is None else values[self.rows.rows]

    def mean(self, losses: Tensor) -> Tensor:
        """What this process adds to the mean over all anchors: ``losses`` are those of :meth:`anchors`."""
        return losses.mean() if self.rows is None else self.rows.mean(losses)

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes, without a gradient."""
        return values if self.rows is None else self.rows.total(values)

    def part_of(self, loss: Tensor) -> Tensor:
        """What this process adds to a loss that all processes compute alike."""
        return loss if self.rows is None else self.rows.share * loss


class Objective(nn.Module):
    """Base of all objectives: brings both views to the sphere in float32 or wider, whatever the autocast.

    A subclass has a ``loss`` and says what it is; what it learns or remembers it makes in ``prepare`` and changes in
    ``update_state``, both of which the loop calls.
    """

    formula: ClassVar[str] = ""  # s_ij is the score x_i . y_j / temperature, u a row of unit length
    negatives_per_anchor: ClassVar[str] = "0"  # negatives per anchor, of a batch of n pairs with h hard negatives each
    interchangeable_views: ClassVar[str] = "no"  # whether x and y may change places: yes, no, or by which option
    source: ClassVar[str] = ""
    needs: frozenset[str] = frozenset()  # of NEEDS: what the loop must provide
    takes: frozenset[str] = frozenset()  # of NEEDS: what it uses where there is some
    contrastive = False  # whether the loss is a cross-entropy over candidates
    bounds_mutual_information = (
        False  # whether log(candidates) - loss is a lower bound of the views' mutual information
    )
    needs_sentence_ids = False  # whether sentences' ids have to be 0, 1, 2, ...: it keeps something for each
    teacher_is_start = False  # whether its teacher is the model that training begins from
    requires_shared_encoder = (
        False  # whether both sides' embeddings are kept in one place: two encoders' are not comparable
    )
    shares_loss = False  # whether ``loss`` computes what ``Extras.rows`` asks for; else each process computes all
    remembers = False  # whether ``update_state`` keeps what it is given: then no update may be taken back unseen
    normalise = True  # whether rows get unit length first
    similarity = "cosine"  # or dot: how its scores compare embeddings, and so the saved model
    _teacher_dimension = _guide_dimension = 0

    def __init_subclass__(cls, **more: Any) -> None:
        """A class with a loss of its own computes all of it, unlike its parent, unless it sets ``shares_loss``.

        One with an ``update_state`` of its own remembers, unless it sets ``remembers``.
        """
        super().__init_subclass__(**more)
        if "update_state" in cls.__dict__ and "remembers" not in cls.__dict__:
            cls.remembers = True
        if "loss" in cls.__dict__ and "shares_loss" not in cls.__dict__:
            cls.shares_loss = False

    def forward(self, x: Tensor, y: Tensor, extras: Extras | None = None) -> Tensor:
        """Scalar loss of positive pairs ``x``, ``y`` ``[n, d]``, at least float32; of ``extras.rows`` their part of it.

        Finite, with finite gradient, whatever the rows: alike, zero, one alone, 1e4 long (float16 excepted where the
        gradient itself is larger than float16 can hold).
        """
        extras = extras or Extras()
        counting = nullcontext() if extras.guide is None else extras.guide.counts.counting()
        with torch.autocast(x.device.type, enabled=False), counting:
            if self.shares_loss:
                return self.loss(*self._ready(x, y, extras))
            return extras.part_of(self.loss(*self._ready(x, y, replace(extras, rows=None))))

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor, extras: Extras | None = None) -> None:
        """Remember a batch that has been learned from; the loop calls it once after each update."""
        self.update_state(*self._ready(x, y, extras or Extras()))

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """Make what is learned or remembered, for embeddings of ``dimension`` and ids below ``sentences``; once.

        The loop calls it before it makes the optimiser; else the first batch does. 0: ids are any numbers
        (``needs_sentence_ids`` asks for small ones).
        """

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """The paper's formula, of rows of unit length (``normalise``).

        Where ``shares_loss`` is True: of the anchors that ``extras.rows`` names, so that the losses of all processes
        add up to the formula's (:meth:`Extras.anchors`, :meth:`Extras.mean`).
        """
        raise TypeError(f"{type(self).__name__} defines no loss")

    def update_state(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Change what is remembered, given what ``loss`` was given."""

    @property
    def teacher_dimension(self) -> int:
        """Of the teacher's embeddings; 0: there is no teacher. The loop sets it before it calls ``prepare``."""
        return self._teacher_dimension

    @teacher_dimension.setter
    def teacher_dimension(self, dimension: int) -> None:
        self._teacher_dimension = dimension

    @property
    def guide_dimension(self) -> int:
        """Of the guide's embeddings; 0: there is no guide. The loop sets it before it calls ``prepare``."""
        return self._guide_dimension

    @guide_dimension.setter
    def guide_dimension(self, dimension: int) -> None:
        self._guide_dimension = dimension

    def terms(self) -> "list[Objective]":
        """The objectives that this is a weighted sum of: itself, where it is none."""
        return [self]

    def refuse_too_short(self, dimension: int) -> None:
        """InputError where embeddings have fewer dimensions than the objective needs."""

    def refuse_dimensions(self, dimension: int, teacher: int) -> None:
        """InputError where embeddings of ``dimension`` cannot be compared with a teacher's of ``teacher``."""

    def is_in_space_of_teacher(self, dimension: int, teacher: int) -> bool:
        """Whether embeddings of ``dimension`` are compared with the teacher's as they are, coordinate by coordinate."""
        return False

    def to_teacher(self, x: Tensor) -> Tensor | None:
        """Rows ``[n, d]`` where the loss compares them with a teacher's, ``[n, D]``; None: it does not compare rows."""
        return None

    @torch.no_grad()
    def log_metrics(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Further numbers for the log; rows i of ``x`` and ``y`` ``[n, d]`` are a positive pair."""
        return {}

    def momentum(self, done: float) -> float:
        """Share of the momentum encoder that an update leaves, at a share ``done`` of the training."""
        raise TypeError(f"{type(self).__name__} has no momentum encoder")

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """Rows an anchor picks its positive from, in a global batch of ``n`` pairs with ``hard`` negatives each.

        ``runs``: of n consecutive sentences instead.
        """
        return n

    def chance_loss(self, n: int, hard: int = 0, runs: bool = False) -> float | None:
        """The loss of guessing (all embeddings alike), nats, where that is what the loss is to be compared with."""
        return math.log(max(1, self.num_candidates(n, hard, runs))) if self.contrastive else None

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """What each anchor is contrasted with in a global batch of ``n`` pairs, for the first log line."""
        return f"{self.num_candidates(n, hard, runs) - 1} in-batch negatives per anchor (copies of a sentence are none)"

    def _ready(self, x: Tensor, y: Tensor, extras: Extras) -> tuple[Tensor, Tensor, Extras]:
        """As ``loss`` takes them."""
        if extras.teacher is not None:
            teacher_x, teacher_y = (rows.detach().to(x.device, wide(x[:0]).dtype) for rows in extras.teacher)
            extras = replace(extras, teacher=(teacher_x, teacher_y))
            self.teacher_dimension = teacher_x.shape[1]
        if extras.guide is not None:
            guide = extras.guide.normalised(wide(x[:0]))
            extras, self.guide_dimension = replace(extras, guide=guide), guide.x.shape[1]
        self.prepare(x.shape[1])
        self.to(device=x.device, dtype=wide(x[:0]).dtype)
        if extras.negatives is not None:
            flat = self._rows(extras.negatives.flatten(0, 1))
            extras = replace(extras, negatives=flat.view(*extras.negatives.shape))
        if extras.targets is not None:
            momentum_x, momentum_y = (self._rows(rows.detach()) for rows in extras.targets)
            extras = replace(extras, targets=(momentum_x, momentum_y))
        return self._rows(x), self._rows(y), extras

    def _rows(self, x: Tensor) -> Tensor:
        return l2_normalize(x) if self.normalise else wide(x)


def wide(x: Tensor) -> Tensor:
    """float32 or wider."""
    return x if x.dtype == torch.float64 else x.float()


def positive(name: str, value: float) -> float:
    """``value`` if it is above 0 and float32 can bear it; else a ValueError."""
    if not 1e-8 <= value <= 1e8:
        raise ValueError(f"{name} must be a positive number (1e-8 to 1e8), got {value}")
    return value


def weight(name: str, value: float) -> float:
    """``value`` if it is 0 or more and finite; else a ValueError."""
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be 0 or a positive number, got {value}")
    return value


def share(name: str, value: float) -> float:
    """``value`` if it lies in [0, 1]; else a ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
    return value


def count(name: str, value: int, least: int = 1, most: int = 2**31) -> int:
    """``value`` if it is from ``least`` to ``most``; else a ValueError."""
    if not least <= value <= most:
        raise ValueError(
            f"{name} must be {'at least' if value < least else 'at most'} "
            f"{least if value < least else most}, got {value}"
        )
    return value


def order(x: Tensor) -> Tensor:
    """0, 1, ..., n - 1 for rows ``x``."""
    return torch.arange(len(x), device=x.device)


def mean_of(values: Tensor, counted: Tensor, number: Tensor | None = None) -> Tensor:
    """Mean of the values ``[n]`` that are counted (bool ``[n]``); 0, with gradient 0, if none is.

    ``number``: how many are counted on all processes, where these are the values of one of them.
    """
    return torch.where(counted, values, 0).sum() / (counted.sum() if number is None else number).clamp_min(1)


def group_numbers(values: Tensor) -> Tensor:
    """For each of the values ``[n]`` its place among the distinct ones, in order: int64 ``[n]``, below n.

    ``unique`` says the same, and waits for the values' device to learn how many there are.
    """
    ordered, places = values.sort(stable=True)
    numbers = torch.cat([places[:1] * 0, (ordered[1:] != ordered[:-1]).cumsum(0)])
    return torch.empty_like(places).scatter_(0, places, numbers)


def copied(ids: Tensor | None) -> TypeGuard[Tensor]:
    """Whether there are ids ``[n, columns]`` and one of them is in two rows: else there are no copies to look for."""
    if ids is None:
        return False
    sorted_ids, places = ids.flatten().sort(stable=True)
    rows = places // ids.shape[1]  # those of one id come in order, so that two rows of it are neighbours somewhere
    return bool(((sorted_ids[1:] == sorted_ids[:-1]) & (rows[1:] != rows[:-1])).any())
