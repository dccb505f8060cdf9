"""How well a mixture of alignment and uniformity ranks accuracy on settings that did not choose its weight.

The most negative of 21 correlations is below zero on pure noise, and so it is in each bootstrap resample. Here the
weight is chosen on one half of the settings, and its mixture is correlated with accuracy on the other half.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from recipes.study.analysis.groups import Values
from recipes.study.analysis.rank_correlation import draws, ranks_in, standardized

WEIGHTS = np.linspace(0, 1, 21)  # of alignment; uniformity has the rest; both losses over their standard deviation
SPLITS, PERMUTATIONS, RESAMPLES, SEED = 20, 999, 200, 0
ALMOST_ONE = 1 - 1e-9  # Fisher's z of 1 is infinite
ZERO = 0.005  # a bound nearer to 0 is printed as 0.00

Halves = list[tuple[Values, Values]]  # numbers of the settings in each half of each split


@dataclass(frozen=True)
class CrossFitted:
    """Spearman's rho of a mixture on settings that did not choose its weight, with its 95 % interval."""

    estimate: float
    low: float
    high: float
    weights: Values  # [2 * splits], of alignment, as chosen on each half


def mixtures(alignment: Values, uniformity: Values) -> Values:
    """``[21, n]``: w * alignment + (1 - w) * uniformity, each over its standard deviation, for w in WEIGHTS."""
    a, u = (values / max(values.std(), 1e-12) for values in (alignment, uniformity))
    return WEIGHTS[:, None] * a + (1 - WEIGHTS[:, None]) * u


def cross_fitted(
    accuracy: Values,
    alignment: Values,
    uniformity: Values,
    splits: int = SPLITS,
    permutations: int = PERMUTATIONS,
    resamples: int = RESAMPLES,
) -> CrossFitted:
    """Choose the weight on one half of the settings, correlate on the other, and the reverse, over seeded splits.

    The estimate is the mean of the correlations within the ``2 * splits`` test halves. Mixtures of different weights
    are never pooled. Where accuracy is independent of the losses, the expectation in each test half is exactly 0. A
    half on which accuracy is constant counts as 0.

    The interval is Fisher's z of the estimate +- 1.96 standard errors, from bootstrap resamples of the settings in
    which the whole procedure is repeated (all draws of a setting in one half). Whether it holds 0 is decided by a
    permutation test, which repeats the whole procedure on permuted accuracies: where the two differ, a bound is moved
    to the other side of 0. So under independence 5 % of the intervals exclude 0, whatever the number of settings.

    Args:
        accuracy, alignment, uniformity: ``[n]``, one value a setting, n >= 4.
        splits: into halves. permutations: 39 at least, for there to be 2.5 % of them. resamples: for the error.
    """
    n, rng = len(accuracy), np.random.default_rng(SEED)
    if np.ptp(accuracy) == 0:
        return CrossFitted(np.nan, np.nan, np.nan, np.full(2 * splits, np.nan))
    halves = [(order[: n // 2], order[n // 2 :]) for order in (rng.permutation(n) for _ in range(splits))]
    orders = rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
    mixed = mixtures(alignment, uniformity)
    rho, weights = _of_orders(accuracy[np.concatenate([np.arange(n)[None], orders])], mixed, halves)
    z = np.arctanh(np.clip(rho, -ALMOST_ONE, ALMOST_ONE))
    error = np.arctanh(
        np.clip(_of_resamples(accuracy, mixed, halves, draws(n, resamples)), -ALMOST_ONE, ALMOST_ONE)
    ).std()
    low, high = np.tanh([z[0] - 1.96 * error, z[0] + 1.96 * error])
    beyond, permuted = int(0.025 * len(rho)), np.sort(rho[1:])
    if rho[0] < permuted[beyond - 1]:
        high = min(high, -ZERO)
    elif rho[0] > permuted[-beyond]:
        low = max(low, ZERO)
    else:
        low, high = min(low, 0.0), max(high, 0.0)
    return CrossFitted(float(rho[0]), float(low), float(high), weights)


def _of_orders(accuracies: Values, mixed: Values, halves: Halves) -> tuple[Values, Values]:
    """The estimate for each row of accuracies ``[r, n]``, and the weights that the first row chooses."""
    total, weights = np.zeros(len(accuracies)), []
    for pair in halves:
        rho = [_unit_ranks(accuracies[:, half]) @ _unit_ranks(mixed[:, half]).T for half in pair]  # [r, 21] each
        total += _crossed(rho)
        weights += [WEIGHTS[_lowest(r[:1])[0]] for r in rho]
    return total / (2 * len(halves)), np.array(weights)


def _of_resamples(accuracy: Values, mixed: Values, halves: Halves, times: Values) -> Values:
    """The estimate for each resample ``[r, n]`` (how often each setting was drawn)."""
    total = np.zeros(len(times))
    for pair in halves:
        rho = []
        for half in pair:
            drawn = times[:, half]
            y = standardized(ranks_in(accuracy[half], drawn), drawn) * drawn
            rho.append(np.stack([(y * standardized(ranks_in(x, drawn), drawn)).sum(axis=1) for x in mixed[:, half]], 1))
        total += _crossed(rho)
    return total / (2 * len(halves))


def _crossed(rho: list[Values]) -> Values:
    """Of correlations ``[r, 21]`` in both halves: in each half that of the weight which the other chose, added up."""
    first, second = rho
    rows = np.arange(len(first))
    return first[rows, _lowest(second)] + second[rows, _lowest(first)]


def _lowest(rho: Values) -> Values:
    """Number of the lowest value in each row; the first of those that differ by rounding errors only."""
    return rho.round(9).argmin(axis=1)


def _unit_ranks(rows: Values) -> Values:
    """``[m, n]`` ranked within each row, centred, of unit length: products are Spearman's. Constant rows are zero."""
    ranks = rankdata(rows, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    return ranks / np.maximum(np.sqrt((ranks * ranks).sum(axis=1, keepdims=True)), 1e-12)
