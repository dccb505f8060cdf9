"""Sentence embeddings from unlabelled text, and why they work, on the hypersphere."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentemb.corpus import CORPORA, Corpus, open_corpus
    from sentemb.encoders import ENCODERS, load
    from sentemb.errors import InputError
    from sentemb.objectives import OBJECTIVES
    from sentemb.pairs import PAIRS
    from sentemb.registry import build
    from sentemb.training import FitConfig, fit

# Imported when they are asked for: torch and sentence-transformers take seconds, which --help should not.
_HOMES = {
    "CORPORA": "corpus",
    "Corpus": "corpus",
    "open_corpus": "corpus",
    "ENCODERS": "encoders",
    "load": "encoders",
    "InputError": "errors",
    "OBJECTIVES": "objectives",
    "PAIRS": "pairs",
    "build": "registry",
    "FitConfig": "training",
    "fit": "training",
}

__all__ = [
    "CORPORA",
    "ENCODERS",
    "OBJECTIVES",
    "PAIRS",
    "Corpus",
    "FitConfig",
    "InputError",
    "build",
    "fit",
    "load",
    "open_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"sentemb.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
