"""Search tasks: judged queries read from files, or sentences that look for the passage they were taken from."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.search.held_out_passages import held_out_task
    from sentemb.search.readers import read_search_task
    from sentemb.search.task import ListedPassages, Passages, SearchTask

__all__ = ["ListedPassages", "Passages", "SearchTask", "held_out_task", "read_search_task"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(("ListedPassages", "Passages", "SearchTask"), "sentemb.search.task"),
        "held_out_task": "sentemb.search.held_out_passages",
        "read_search_task": "sentemb.search.readers",
    },
)
