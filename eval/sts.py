"""Similarity of sentence pairs: cosine against human scores (STS), and the regressor of the supervised tasks."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr

Similarity = Callable[[np.ndarray, np.ndarray], float]  # of two embeddings [d]


@dataclass(frozen=True)
class Correlation:
    """Pearson's and Spearman's coefficient (ties take their mean rank) and their p values; 0 and 1 where undefined."""

    pearson: float
    spearman: float
    pearson_p: float
    spearman_p: float
    n: int


def correlate(scores: np.ndarray, gold: np.ndarray) -> Correlation:
    """Of finite ``scores`` ``[n]`` with ``gold`` ``[n]``. Constant scores give 0, as in SentEval."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        statistics = [*pearsonr(scores, gold), *spearmanr(scores, gold)]
    pearson, spearman = (float(np.nan_to_num(value)) for value in statistics[::2])
    pearson_p, spearman_p = (float(np.nan_to_num(value, nan=1.0)) for value in statistics[1::2])
    return Correlation(pearson, spearman, pearson_p, spearman_p, len(gold))


def cosines(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Cosine ``[n]`` of the rows of ``u`` and ``v`` ``[n, d]``, in float64; 0 where a row is zero."""
    u, v = u.astype(np.float64), v.astype(np.float64)
    length = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    return np.divide((u * v).sum(axis=1), length, out=np.zeros(len(u)), where=length > 0)


def aggregate(subsets: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Scores of an STS task from ``{subset: (scores, gold)}``, as percentages.

    ``spearman`` and ``pearson`` are over all pairs together (``all``: what SimCSE, SBERT and MTEB report);
    ``spearman_mean`` is the mean over subsets, ``spearman_wmean`` the mean weighted by pairs (what SentEval reports).
    """
    correlations = {name: correlate(*pairs) for name, pairs in subsets.items()}
    overall = correlate(
        np.concatenate([scores for scores, _ in subsets.values()]),
        np.concatenate([gold for _, gold in subsets.values()]),
    )
    spearmans = [c.spearman for c in correlations.values()]
    return {
        "spearman": 100 * overall.spearman,
        "pearson": 100 * overall.pearson,
        "spearman_mean": 100 * float(np.mean(spearmans)),
        "spearman_wmean": 100 * float(np.average(spearmans, weights=[c.n for c in correlations.values()])),
        "subsets": {
            name: {"spearman": 100 * c.spearman, "pearson": 100 * c.pearson, "n": c.n}
            for name, c in correlations.items()
        },
        "n": overall.n,
    }
