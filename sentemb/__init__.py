"""Sentence embeddings from unlabelled text, and why they work, on the hypersphere."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentemb.config import FitConfig
    from sentemb.corpus import CORPORA, Corpus, open_corpus
    from sentemb.encoders import ENCODERS, load
    from sentemb.errors import InputError
    from sentemb.objectives import OBJECTIVES
    from sentemb.pairs import PAIRS
    from sentemb.registry import build
    from sentemb.train import fit

# Imported when they are asked for: torch and sentence-transformers take seconds, which --help should not.
_HOMES = {
    "CORPORA": "corpus",
    "Corpus": "corpus",
    "open_corpus": "corpus",
    "ENCODERS": "encoders",
    "load": "loading",
    "OBJECTIVES": "objectives",
    "PAIRS": "pairs",
    "InputError": "registry",
    "build": "registry",
    "FitConfig": "config",
    "fit": "train",
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
