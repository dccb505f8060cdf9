"""The time of an adaptation, including earlier sessions."""

import time
from dataclasses import dataclass, field

EVALUATION_SHARE = 0.25  # of the budget, at most, goes into scores


@dataclass
class Budget:
    """Seconds that are given and spent."""

    total: float
    spent_before: float = 0.0  # in earlier sessions
    begun: float = field(default_factory=lambda: time.monotonic())

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self.spent_before + time.monotonic() - self.begun

    @property
    def left(self) -> float:
        """Seconds to go, at least 0."""
        return max(0.0, self.total - self.spent)


def evaluations_of(arms: int, finalists: int, weights: int) -> int:
    """How many models are encoded and scored: the start, each arm of each rung, and the interpolated ones."""
    return 1 + sum(rungs_of(arms)) + finalists * weights


def rungs_of(arms: int) -> list[int]:
    """How many arms each rung of successive halving trains: 4 gives 4, 2, 1.

    Source: Jamieson & Talwalkar 2016, arXiv 1502.07943.
    """
    rungs = [arms] if arms else []
    while rungs and rungs[-1] > 1:
        rungs.append((rungs[-1] + 1) // 2)
    return rungs
