"""The self-contained page of a training run, its figures, and the frame that all pages share."""

from sentemb.report.comparison import ComparedScore, comparison_of
from sentemb.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    LOOK,
    ORANGE,
    VERMILLION,
    Drawn,
    image,
    labelled_axes,
    legend_below,
)
from sentemb.report.examples import nearest_neighbours
from sentemb.report.headline import Headline, Tile
from sentemb.report.page import write_report
from sentemb.report.queries import write_search
from sentemb.report.score_columns import COSTS, SHARE, TEACHER_SIMILARITY, columns_of, mean_scores, tasks_of
from sentemb.report.sphere import sphere_content
from sentemb.report.template import PageTable, html_page

__all__ = [
    "BLUE",
    "COSTS",
    "GREEN",
    "GREY",
    "LOOK",
    "ORANGE",
    "SHARE",
    "TEACHER_SIMILARITY",
    "VERMILLION",
    "ComparedScore",
    "Drawn",
    "Headline",
    "PageTable",
    "Tile",
    "columns_of",
    "comparison_of",
    "html_page",
    "image",
    "labelled_axes",
    "legend_below",
    "mean_scores",
    "nearest_neighbours",
    "sphere_content",
    "tasks_of",
    "write_report",
    "write_search",
]
