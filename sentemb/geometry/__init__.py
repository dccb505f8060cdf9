"""Geometry of embeddings on the unit sphere, sums over all their scores a tile at a time, and the paired bootstrap."""

from sentemb.geometry.bootstrap import (
    LEVEL,
    RESAMPLES,
    bootstrap_interval,
    resampled_mean_differences,
    resampled_spearman_differences,
)
from sentemb.geometry.candidate_mask import CandidateMask, GuideScores, MaskCounts
from sentemb.geometry.host_reads import reads_are_free
from sentemb.geometry.metrics import (
    alignment,
    effective_rank,
    l2_normalize,
    mean_cosine,
    penalty_entropy,
    ranks_of_positives,
    retrieval,
    spread,
    tolerance,
    uniformity,
    uniformity_of_rows,
    uniformity_optimum,
)
from sentemb.geometry.principal_components import principal_directions
from sentemb.geometry.tiled_scores import (
    expected_scores,
    log_sum_exp,
    log_sum_exp_both,
    log_sum_exp_for_mean,
    nearest,
    sum_above,
)

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "CandidateMask",
    "GuideScores",
    "MaskCounts",
    "alignment",
    "bootstrap_interval",
    "effective_rank",
    "expected_scores",
    "log_sum_exp",
    "log_sum_exp_both",
    "log_sum_exp_for_mean",
    "mean_cosine",
    "nearest",
    "penalty_entropy",
    "principal_directions",
    "ranks_of_positives",
    "reads_are_free",
    "resampled_mean_differences",
    "resampled_spearman_differences",
    "retrieval",
    "spread",
    "sum_above",
    "tolerance",
    "uniformity",
    "uniformity_of_rows",
    "uniformity_optimum",
    "l2_normalize",
]
