"""Search: how well encoders find the passages that answer queries, with intervals (``python -m eval.search``)."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from eval.search.dev_score import search_dev_score
    from eval.search.evaluator import SearchEvaluator
    from eval.search.held_out_passages import held_out_task
    from eval.search.names import is_search, search_task
    from eval.search.readers import check_search, read_dev_and_test, read_search_task
    from eval.search.report import compare_search, describe_search
    from eval.search.sampling import search_halves, search_sample
    from eval.search.scorer import SearchScores, measure_search, search_items
    from eval.search.task import SearchTask

_HOMES = {
    "dev_score": ("search_dev_score",),
    "evaluator": ("SearchEvaluator",),
    "held_out_passages": ("held_out_task",),
    "names": (
        "is_search",
        "search_task",
    ),
    "readers": (
        "check_search",
        "read_dev_and_test",
        "read_search_task",
    ),
    "report": (
        "compare_search",
        "describe_search",
    ),
    "sampling": (
        "search_halves",
        "search_sample",
    ),
    "scorer": (
        "SearchScores",
        "measure_search",
        "search_items",
    ),
    "task": ("SearchTask",),
}

__all__ = [
    "SearchEvaluator",
    "SearchScores",
    "SearchTask",
    "check_search",
    "compare_search",
    "describe_search",
    "held_out_task",
    "is_search",
    "measure_search",
    "read_dev_and_test",
    "read_search_task",
    "search_dev_score",
    "search_halves",
    "search_items",
    "search_sample",
    "search_task",
]

__getattr__, __dir__ = lazy_exports(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
