"""What is in a text before hours of training on it, and how long those take (``python -m sentemb.corpus``)."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.inspection.inspector import inspect
    from sentemb.inspection.text import Section

__all__ = ["Section", "inspect"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"Section": "sentemb.inspection.text", "inspect": "sentemb.inspection.inspector"}
)
