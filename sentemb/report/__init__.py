"""The self-contained page of a training run, its figures, and the frame that all pages share."""

from sentemb.report.comparison import ComparedScore, comparison_of
from sentemb.report.drawing import BLUE, GREEN, GREY, LOOK, ORANGE, VERMILLION, image, labelled_axes, legend_below
from sentemb.report.page import write_report
from sentemb.report.template import html_page

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "LOOK",
    "ORANGE",
    "VERMILLION",
    "ComparedScore",
    "comparison_of",
    "html_page",
    "image",
    "labelled_axes",
    "legend_below",
    "write_report",
]
