"""Paired tests between encoders."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binomtest

from sentemb.validation import ItemScores, compare_encoders

PERMUTATIONS = 10_000
AT_ONCE = 2**22  # signs of a block of permutations

Seeds = Mapping[str, tuple[str, int]]  # of each encoder its model, and the number of its seed


def mcnemar(a: np.ndarray, b: np.ndarray) -> tuple[int, int, float]:
    """Exact McNemar test of two classifiers on the same rows.

    Args:
        a, b: ``[n]`` whether each was right.

    Returns:
        (rows only a had right, rows only b had right, two-sided p): under the null hypothesis each such row is a coin's
        toss. Source: McNemar 1947; the exact form is the sign test on the discordant rows.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    return only_a, only_b, float(binomtest(only_a, discordant).pvalue) if discordant else 1.0


def randomisation_test(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Paired randomisation test: two-sided p of the difference of the means of two encoders on the same queries.

    Under the null hypothesis each query's two scores could be exchanged: each difference has a random sign.

    Args:
        a, b: ``[n]``, scores of query i by each.
        groups: ``[n]``, the document of each query. The queries of one document are exchanged together, as they are not
            independent. None: each by itself.
        permutations: that are drawn. seed: of the draws.

    Returns:
        The share of permutations whose mean difference is at least as large as the one observed, which counts as one
        of them. Source: Smucker, Allan & Carterette 2007, A comparison of statistical significance tests for
        information retrieval evaluation (CIKM).
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if groups is not None:
        differences = np.bincount(np.unique(groups, return_inverse=True)[1], differences).astype(np.float64)
    differences = differences[differences != 0]
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # (sums come in another order)
    generator, as_large = np.random.default_rng(seed), 1
    step = max(1, AT_ONCE // max(1, len(differences)))
    for start in range(0, permutations, step):
        signs = generator.integers(0, 2, (min(step, permutations - start), len(differences)), dtype=np.int8) * 2 - 1
        as_large += int((np.abs(signs @ differences) >= observed).sum())
    return as_large / (permutations + 1)


def compare(correct: Mapping[str, Mapping[str, np.ndarray]], seeds: Seeds | None = None) -> list[dict[str, Any]]:
    """McNemar's test of every two encoders on every task that both have: ``correct[encoder][task]`` is ``[n]`` bool.

    Args:
        correct: of each encoder.
        seeds: (model, number of its seed) of each encoder. Seeds of one model are not compared; of two models, those of
            one number are. None: each encoder is a model.
    """
    rows = []
    for a, b in combinations(correct, 2):
        if not _are_compared(a, b, seeds):
            continue
        for task in correct[a]:
            if task in correct[b]:
                only_a, only_b, p = mcnemar(correct[a][task], correct[b][task])
                rows.append({"task": task, "a": a, "b": b, "only_a": only_a, "only_b": only_b, "p": p})
    return rows


def differences_from_first(
    items: Mapping[str, Mapping[str, ItemScores]], seeds: Seeds | None = None
) -> list[dict[str, Any]]:
    """Each encoder against the first one: rows of :func:`sentemb.validation.compare_encoders`, with their intervals.

    Args:
        items: ``items[encoder][test]``. seeds: as of :func:`compare`.
    """
    first = next(iter(items))
    others = [name for name in items if name != first and _are_compared(first, name, seeds)]
    return [row for name in others for row in compare_encoders({name: items[name], first: items[first]})]


def _are_compared(a: str, b: str, seeds: Seeds | None) -> bool:
    """Whether two encoders are of different models, and of seeds with one number."""
    return not seeds or (seeds[a][0] != seeds[b][0] and seeds[a][1] == seeds[b][1])
