"""Search: how well encoders find the passages that answer queries, with intervals (``python -m eval.search``)."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from eval.search.report import compare_search
    from eval.search.scorer import SearchScores, measure_search
    from sentemb.search import SearchTask, held_out_task, read_search_task

__all__ = ["SearchScores", "SearchTask", "compare_search", "held_out_task", "measure_search", "read_search_task"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(("SearchScores", "measure_search"), "eval.search.scorer"),
        "compare_search": "eval.search.report",
        **dict.fromkeys(("SearchTask", "held_out_task", "read_search_task"), "sentemb.search"),
    },
)
