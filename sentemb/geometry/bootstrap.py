"""Paired bootstrap: is the difference of two encoders on the same items more than chance?

Items are drawn with replacement, the same ones for both encoders, and the difference is computed again of each draw.
Source: Efron & Tibshirani 1993, chapter 13.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, t

Values = NDArray[np.float64]
Draws = NDArray[np.int64]

RESAMPLES, LEVEL = 2000, 0.95
AT_ONCE = 2**22  # numbers of a block of resamples


def resampled_mean_differences(
    a: Values, b: Values, groups: Draws | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Values:
    """The difference of the means of ``a`` and ``b``, of each of ``resamples`` draws.

    Args:
        a, b: ``[n]``, item i of both is the same item: the reciprocal rank of a pair, whether a test row was right.
        groups: ``[n]``, the document of each item. Whole groups are drawn then, as items of one group are not
            independent. None: each item is drawn by itself.
        resamples: draws. seed: of the draws.

    Returns:
        ``[resamples]``, of mean(a) - mean(b).
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    sums, sizes = difference, np.ones_like(difference)
    if groups is not None:
        _, number = np.unique(groups, return_inverse=True)
        sums, sizes = (np.bincount(number, values).astype(np.float64) for values in (sums, sizes))
    parts = [sums[draw].sum(axis=1) / sizes[draw].sum(axis=1) for draw in _draws(len(sums), resamples, seed)]
    return np.concatenate(parts)


def resampled_spearman_differences(
    a: Values, b: Values, gold: Values, resamples: int = RESAMPLES, seed: int = 0
) -> Values:
    """The difference of the rank correlations of ``a`` and of ``b`` with ``gold``, of each of ``resamples`` draws.

    Args:
        a, b: ``[n]``, similarities of the same pairs by two encoders. gold: ``[n]``, human scores.
        resamples: draws. seed: of the draws.

    Returns:
        ``[resamples]``, of spearman(a, gold) - spearman(b, gold). Ties take their mean rank; constant values have the
        correlation 0. A draw is a weight of each pair, so that values are sorted once and not for each draw.
    """
    dense = [rankdata(values, method="dense") - 1 for values in (a, b, gold)]  # 0, 1, ... without gaps
    order = [np.argsort(rank, kind="stable") for rank in dense]
    starts = [np.searchsorted(rank[o], np.arange(rank.max() + 1)) for rank, o in zip(dense, order, strict=True)]
    parts = []
    for draw in _draws(len(dense[0]), resamples, seed):
        rows = np.arange(len(draw))[:, None] * draw.shape[1]
        weights = np.bincount((draw + rows).ravel(), minlength=draw.size).reshape(draw.shape).astype(np.float64)
        ranks = []
        for rank, o, start in zip(dense, order, starts, strict=True):
            ties = np.add.reduceat(weights[:, o], start, axis=1)  # how often each distinct value was drawn
            mean_rank = ties.cumsum(axis=1) - (ties - 1) / 2
            ranks.append(mean_rank[:, rank])
        parts.append(_correlation(ranks[0], ranks[2], weights) - _correlation(ranks[1], ranks[2], weights))
    return np.concatenate(parts)


def bootstrap_interval(differences: Values, units: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval that holds the true difference with probability ``level``: expanded percentiles.

    Args:
        differences: ``[resamples]`` resampled differences.
        units: how many items or groups were drawn from, at least 2. Plain percentiles of few units are too narrow by
            sqrt((units - 1) / units), and by the normal instead of Student's t; both are corrected.
        level: of the interval.

    Raises:
        ValueError: fewer than two units.

    Source: Hesterberg 2015, arXiv 1411.5279, section 5.2.
    """
    if units < 2:
        raise ValueError(f"an interval needs two units, got {units}")
    quantile = t.ppf((1 + level) / 2, units - 1) * math.sqrt(units / (units - 1))
    tail = float(norm.cdf(-quantile))
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)


def _draws(units: int, resamples: int, seed: int) -> Iterator[Draws]:
    """Blocks ``[some, units]`` of ``resamples`` draws; the same ones whatever the size of a block."""
    generator = np.random.default_rng(seed)
    step = max(1, AT_ONCE // max(1, units))
    for start in range(0, resamples, step):
        yield generator.integers(0, units, (min(step, resamples - start), units))


def _correlation(x: Values, y: Values, weights: Values) -> Values:
    """Pearson's, of each row of ``x`` and ``y`` ``[some, n]``; 0 where a side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    x = x - (weights * x).sum(axis=1, keepdims=True) / total
    y = y - (weights * y).sum(axis=1, keepdims=True) / total
    both = (weights * x * y).sum(axis=1)
    scale = np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))
    return np.divide(both, scale, out=np.zeros(len(both)), where=scale > 1e-9)
