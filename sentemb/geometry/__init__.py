"""Geometry of embeddings on the unit sphere, and sums over all scores of two sets of them, a tile at a time."""

from sentemb.geometry.metrics import (
    alignment,
    effective_rank,
    l2_normalize,
    mean_cosine,
    penalty_entropy,
    retrieval,
    spread,
    tolerance,
    uniformity,
    uniformity_optimum,
)
from sentemb.geometry.tiled_scores import CandidateMask, log_sum_exp, log_sum_exp_both, nearest, sum_above

__all__ = [
    "CandidateMask",
    "alignment",
    "effective_rank",
    "log_sum_exp",
    "log_sum_exp_both",
    "mean_cosine",
    "nearest",
    "penalty_entropy",
    "retrieval",
    "spread",
    "sum_above",
    "tolerance",
    "uniformity",
    "uniformity_optimum",
    "l2_normalize",
]
