"""The figures of a study, each drawn from its files, or the reason why it cannot be."""

from recipes.study.figures.all_figures import Drawn, draw_all, draw_results

__all__ = [
    "Drawn",
    "draw_results",
    "draw_all",
]
