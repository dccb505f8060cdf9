"""The difference of two sets of encoders on the same items, with an interval for other seeds and other items."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from recipes.study.analysis.groups import Values

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its interval."""

    estimate: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Of the claim that the first is higher: holds, fails, or cannot tell."""
        return "holds" if self.low > 0 else "fails" if self.high < 0 else "cannot tell"

    def scaled(self, factor: float) -> "Difference":
        """In another unit."""
        return Difference(factor * self.estimate, factor * self.low, factor * self.high)

    def text(self, digits: int) -> str:
        """As in ``+1.20 [+0.30, +2.10]``; without an interval ``+1.20 [-]``."""
        if math.isinf(self.high):
            return f"{self.estimate:+.{digits}f} [-]"
        return f"{self.estimate:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


def difference(a: Values, b: Values, groups: Values | None = None, paired: bool = False) -> Difference:
    """The mean of ``a`` less that of ``b``, with a 95 % interval.

    Its variance is the sum of that of the items (or of whole groups of them) and of the seeds on either side (or of the
    differences by seed, where these are paired). Student's t has the degrees of freedom of Welch and Satterthwaite. A
    side of one seed is taken as it is: the interval is for other items, and not for other seeds of that side. With one
    item (or group) it is for other seeds only; then a side of one seed leaves it from -inf to inf.

    Args:
        a: ``[seeds, n]``, what each encoder made of each item. b: ``[other seeds, n]``, of the same items.
        groups: ``[n]``, where items of one group (a document) are not independent.
        paired: row i of both has the same seed, and so the same first weights and order of pairs.
    """
    of_items = a.mean(axis=0) - b.mean(axis=0)
    of_seeds = [_of_seeds(a - b)] if paired else [_of_seeds(a), _of_seeds(b)]
    parts = [_of_items(of_items, groups), *of_seeds]
    variance = sum(part for part, _ in parts)
    estimate = float(of_items.mean())
    if not parts[0][1] and not all(df for _, df in of_seeds):
        return Difference(estimate, -math.inf, math.inf)
    if variance <= 0:
        return Difference(estimate, estimate, estimate)
    freedom = variance**2 / sum(part**2 / df for part, df in parts if df)
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * variance**0.5
    return Difference(estimate, estimate - half, estimate + half)


def _of_seeds(values: Values) -> tuple[float, int]:
    """Variance of the mean over seeds, and its degrees of freedom."""
    seeds = len(values)
    return (float(values.mean(axis=1).var(ddof=1)) / seeds, seeds - 1) if seeds > 1 else (0.0, 0)


def _of_items(values: Values, groups: Values | None) -> tuple[float, int]:
    """Variance of the mean over items, or over groups of them, and its degrees of freedom."""
    centred = values - values.mean()
    sums = centred if groups is None else np.bincount(np.unique(groups, return_inverse=True)[1], centred)
    count = len(sums)
    return (float(np.square(sums).sum()) / len(values) ** 2 * count / (count - 1), count - 1) if count > 1 else (0.0, 0)
