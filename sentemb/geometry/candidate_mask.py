"""Which candidates an anchor does not count: itself, copies, and what a guide finds nearer than its positive."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


class MaskCounts:
    """Negatives that a guide has seen, and those that it has left out, while :meth:`counting` is open."""

    def __init__(self) -> None:
        self.seen: Tensor | int = 0
        self.masked: Tensor | int = 0
        self._open = False

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count in this context only: a backward pass, which masks the same candidates once more, comes later."""
        before, self._open = self._open, True
        try:
            yield
        finally:
            self._open = before

    def add(self, masked: Tensor, negatives: Tensor) -> None:
        """Count a tile: which of its scores are masked, and which are those of negatives; bool, of one shape."""
        if self._open:
            self.masked = self.masked + masked.sum()
            self.seen = self.seen + negatives.sum()

    @property
    def share(self) -> float | None:
        """Of the negatives those that were left out, 0 to 1; None: nothing was counted."""
        return float(self.masked) / seen if (seen := float(self.seen)) else None


@dataclass(frozen=True)
class GuideScores:
    """A guide's cosines of anchors and candidates, from its embeddings: rows of unit length, a tile at a time.

    Args:
        anchors: ``[n, D]``. candidates: ``[m, D]``.
        limits: ``[n]``; a candidate with a greater cosine is not a negative. inf: the anchor has no positive.
        counts: where a mask counts what it leaves out.
    """

    anchors: Tensor
    candidates: Tensor
    limits: Tensor
    counts: MaskCounts

    def __getitem__(self, rows: slice) -> "GuideScores":
        """Of some of the anchors."""
        return GuideScores(self.anchors[rows], self.candidates, self.limits[rows], self.counts)

    def nearer(self, rows: slice, columns: slice) -> Tensor:
        """Whether a candidate is above its anchor's limit, bool ``[rows, columns]``."""
        return self.anchors[rows] @ self.candidates[columns].T > self.limits[rows, None]


@dataclass(frozen=True)
class CandidateMask:
    """An edit of scores: which candidates an anchor does not count.

    Args:
        kin: int64 ``[n, k]``, ids of sentences whose copies are not negatives of the anchor; None: there are no copies.
        ids: int64 ``[m]``, of the candidates.
        exempt_columns: int64 ``[n, p]``, columns that count whatever they are: the anchor's positives; -1 for none.
        itself: int64 ``[n, q]``, columns that never count; -1 for none.
        labels: of anchors ``[n]`` and candidates ``[m]``: those of the anchor's own class count whatever they are.
        guide: leaves out the negatives that it finds nearer than the positive; None: there is no guide.
    """

    kin: Tensor | None = None
    ids: Tensor | None = None
    exempt_columns: Tensor | None = None
    itself: Tensor | None = None
    labels: tuple[Tensor, Tensor] | None = None
    guide: GuideScores | None = None

    def __getitem__(self, rows: slice) -> "CandidateMask":
        """Of some of the anchors."""
        return CandidateMask(
            None if self.kin is None else self.kin[rows],
            self.ids,
            None if self.exempt_columns is None else self.exempt_columns[rows],
            None if self.itself is None else self.itself[rows],
            None if self.labels is None else (self.labels[0][rows], self.labels[1]),
            None if self.guide is None else self.guide[rows],
        )

    def __call__(self, scores: Tensor, rows: slice, columns: slice) -> None:
        """-inf for what is left out, in place."""
        if self.kin is not None and self.ids is not None:
            ids = self.ids[columns]
            out = torch.zeros_like(scores, dtype=torch.bool)
            for kin in self.kin[rows].unbind(dim=1):
                out |= kin[:, None] == ids
            self._exempt(out, rows, columns)
            scores.masked_fill_(out, -math.inf)
        self._put(scores, self.itself, rows, columns, -math.inf)
        if self.guide is not None:
            negatives = ~scores.isneginf() & (self.guide.limits[rows, None] < math.inf)
            self._exempt(negatives, rows, columns)
            out = negatives & self.guide.nearer(rows, columns)
            self.guide.counts.add(out, negatives)
            scores.masked_fill_(out, -math.inf)

    def _exempt(self, out: Tensor, rows: slice, columns: slice) -> None:
        """False for positives and candidates of the anchor's class, in place."""
        if self.labels is not None:
            out &= self.labels[0][rows, None] != self.labels[1][columns]
        self._put(out, self.exempt_columns, rows, columns, False)

    @staticmethod
    def _put(tile: Tensor, places: Tensor | None, rows: slice, columns: slice, value: float) -> None:
        if places is None:
            return
        for column in places[rows].unbind(dim=1):
            inside = ((column >= columns.start) & (column < columns.stop))[:, None]
            place = (column - columns.start).clamp(0, tile.shape[1] - 1)[:, None]
            tile.scatter_(1, place, torch.where(inside, value, tile.gather(1, place)))
