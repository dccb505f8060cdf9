"""Sentence embeddings from unlabelled text, and why they work, on the hypersphere."""

from sentemb.corpus import CORPORA, Corpus, open_corpus
from sentemb.encoders import ENCODERS, load
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import PAIRS
from sentemb.registry import InputError, build
from sentemb.train import FitConfig, fit

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
