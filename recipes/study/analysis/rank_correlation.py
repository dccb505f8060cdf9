"""Rank correlations of many bootstrap resamples at once. A resample says how often each row was drawn."""

import numpy as np

from recipes.study.analysis.groups import Values

RESAMPLES, SEED = 1000, 0


def draws(n: int, resamples: int = RESAMPLES, seed: int = SEED) -> Values:
    """``[resamples, n]``: how often each of n rows is in a bootstrap resample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def ranks_in(x: Values, times: Values) -> Values:
    """``[r, n]``: midranks of ``x`` ``[n]`` in a sample that has row i ``times[r, i]`` times."""
    values, group = np.unique(x, return_inverse=True)
    sizes = times @ (group[:, None] == np.arange(len(values)))  # [r, distinct values]
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def standardized(values: Values, times: Values) -> Values:
    """``[r, n]`` centred and of unit length where row i counts ``times[r, i]`` times; zero where all are equal."""
    size = np.maximum(times.sum(axis=1, keepdims=True), 1)
    centred = values - (times * values).sum(axis=1, keepdims=True) / size
    length = np.sqrt((times * centred * centred).sum(axis=1, keepdims=True))
    return np.where(length > 1e-9, centred / np.maximum(length, 1e-9), 0)


def spearman(x: Values, y: Values, times: Values | None = None) -> Values:
    """``[r]``: Spearman's rho of ``[n]`` and ``[n]`` in each resample (default: each row once); NaN if constant."""
    times = np.ones((1, len(x))) if times is None else times
    first, second = (standardized(ranks_in(values, times), times) for values in (x, y))
    is_defined = first.any(axis=1) & second.any(axis=1)
    return np.where(is_defined, (times * first * second).sum(axis=1), np.nan)


def kendall(x: Values, y: Values, times: Values | None = None) -> Values:
    """``[r]``: Kendall's tau-b in each resample, as :func:`spearman`."""
    times = np.ones((1, len(x))) if times is None else times
    first, second = (np.sign(values[:, None] - values) for values in (x, y))
    concordant, untied_x, untied_y = (
        ((times @ signs) * times).sum(axis=1) for signs in (first * second, np.abs(first), np.abs(second))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return concordant / np.sqrt(untied_x * untied_y)
