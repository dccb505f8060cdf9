"""A loss that is shared out over processes: each computes the scores of its part of the anchors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from sentemb.geometry import CandidateMask

Values = TypeVar("Values", Tensor, CandidateMask)


@dataclass(frozen=True)
class AnchorRows:
    """Which anchors of the global batch are this process's. The losses of all processes add up to the loss.

    Args:
        counts: anchors of each process; in the views the rows of one process come after those of the one before.
        rank: number of this process.
        gather: takes rows ``[k, ...]`` of this process and the rows of each process (such as ``counts``) and returns
            those of all processes. Its gradient is the sum of the gradients of all processes.
    """

    counts: tuple[int, ...]
    rank: int
    gather: Callable[[Tensor, tuple[int, ...]], Tensor]

    @property
    def rows(self) -> slice:
        """Of the views."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])

    @property
    def share(self) -> float:
        """Of the anchors that are this process's, 0 to 1."""
        return self.counts[self.rank] / sum(self.counts)

    def mean(self, losses: Tensor) -> Tensor:
        """What this process adds to the mean over all anchors, from the losses of its part of them."""
        return losses.sum() / sum(self.counts)

    def joined(self, values: Tensor) -> Tensor:
        """Values of all anchors ``[n, ...]``, with gradients, from those of this process's."""
        return self.gather(values, self.counts)

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes, without a gradient."""
        return self.gather(values.detach()[None], (1,) * len(self.counts)).sum(dim=0)
