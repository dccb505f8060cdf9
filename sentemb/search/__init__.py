"""Search tasks: judged queries read from files, or sentences that look for the passage they were taken from."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.search.held_out_passages import MOST_QUERIES, SENTENCES, held_out_task
    from sentemb.search.readers import check_search, read_dev_and_test, read_search_task
    from sentemb.search.sampling import search_halves, search_sample
    from sentemb.search.task import ListedPassages, Passages, SearchTask

_HOMES = {
    "held_out_passages": ("MOST_QUERIES", "SENTENCES", "held_out_task"),
    "readers": ("check_search", "read_dev_and_test", "read_search_task"),
    "sampling": ("search_halves", "search_sample"),
    "task": ("ListedPassages", "Passages", "SearchTask"),
}

__all__ = [
    "ListedPassages",
    "MOST_QUERIES",
    "Passages",
    "SENTENCES",
    "SearchTask",
    "check_search",
    "held_out_task",
    "read_dev_and_test",
    "read_search_task",
    "search_halves",
    "search_sample",
]

__getattr__, __dir__ = lazy_exports(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
