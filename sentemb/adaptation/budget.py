"""The time of an adaptation, including earlier sessions."""

import time
from dataclasses import dataclass, field

EVALUATION_SHARE = 0.25  # of the budget, at most, goes into scores
FEW_UPDATES = 20  # of training, below which a method has hardly changed the model


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


def least_budget(overhead: float, rate: float) -> float:
    """Seconds of a budget in which one method gets ``FEW_UPDATES``, where training has half of them.

    Args:
        overhead: seconds before the first and after the last update of a training. rate: updates a second.
    """
    return 2 * (overhead + FEW_UPDATES / rate)


def affordable_arms(arms: int, left: float, score: float, weights: int, overhead: float, rate: float) -> int:
    """How many arms a search can begin with, at least 1 if there are any.

    Each must be trained for longer in the first rung than it takes to begin and end that. The last one must get
    ``FEW_UPDATES`` in all.

    Args:
        arms: that could be tried. left: seconds for training and scores.
        score: seconds of scoring a model. weights: models that are scored at the end.
        overhead: seconds before the first and after the last update of a training. rate: updates a second.
    """
    for many in range(arms, 1, -1):
        rungs = rungs_of(many)
        training = left - (sum(rungs) + weights) * score
        parts = [training / len(rungs) / count for count in rungs]  # seconds of an arm that stays to the end
        updates = [int(rate * (part - overhead)) for part in parts]
        if min(updates) >= 1 and sum(updates) >= FEW_UPDATES:
            return many
    return min(arms, 1)
