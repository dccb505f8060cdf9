"""The figures of a study, each drawn from its files, or the reason why it cannot be."""

from recipes.study.figures.all_figures import draw_all, draw_results

__all__ = [
    "draw_results",
    "draw_all",
]
