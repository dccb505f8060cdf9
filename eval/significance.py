"""Paired tests between encoders."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binomtest


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


def compare(
    correct: Mapping[str, Mapping[str, np.ndarray]], seeds: Mapping[str, tuple[str, int]] | None = None
) -> list[dict[str, Any]]:
    """McNemar's test of every two encoders on every task that both have: ``correct[encoder][task]`` is ``[n]`` bool.

    Args:
        correct: of each encoder.
        seeds: (model, number of its seed) of each encoder. Seeds of one model are not compared; of two models, those of
            one number are. None: each encoder is a model.
    """
    rows = []
    for a, b in combinations(correct, 2):
        if seeds and (seeds[a][0] == seeds[b][0] or seeds[a][1] != seeds[b][1]):
            continue
        for task in correct[a]:
            if task in correct[b]:
                only_a, only_b, p = mcnemar(correct[a][task], correct[b][task])
                rows.append({"task": task, "a": a, "b": b, "only_a": only_a, "only_b": only_b, "p": p})
    return rows
