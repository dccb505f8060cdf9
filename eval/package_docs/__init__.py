"""A collection to search and a corpus to train on, from the documentation of installed Python packages."""

from eval.package_docs.collection import Collection, collect, write_collection
from eval.package_docs.sections import DocSection, docstring_sections, markup_sections, without_title

__all__ = [
    "Collection",
    "DocSection",
    "collect",
    "docstring_sections",
    "markup_sections",
    "without_title",
    "write_collection",
]
