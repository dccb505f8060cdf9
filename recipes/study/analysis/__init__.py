"""Statistics of a study: best of each family, rank correlations, curves, seeds, and sentences made of the numbers."""

from recipes.study.analysis.summary import printed, statistics

__all__ = [
    "printed",
    "statistics",
]
