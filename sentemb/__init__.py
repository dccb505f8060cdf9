"""Sentence embeddings from unlabelled text, and why they work, on the hypersphere."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.adaptation import AdaptedRun, adapt
    from sentemb.corpus import CORPORA, Corpus, open_corpus
    from sentemb.encoders import ENCODERS, load
    from sentemb.encoding import EncodedCorpus, encode
    from sentemb.errors import InputError
    from sentemb.objectives import OBJECTIVES
    from sentemb.pairs import PAIRS
    from sentemb.pipeline import TrainedRun, train
    from sentemb.registry import build
    from sentemb.training import TrainingSettings, fit

_HOMES = {
    "AdaptedRun": "sentemb.adaptation",
    "adapt": "sentemb.adaptation",
    "CORPORA": "sentemb.corpus",
    "Corpus": "sentemb.corpus",
    "open_corpus": "sentemb.corpus",
    "ENCODERS": "sentemb.encoders",
    "load": "sentemb.encoders",
    "EncodedCorpus": "sentemb.encoding",
    "encode": "sentemb.encoding",
    "InputError": "sentemb.errors",
    "OBJECTIVES": "sentemb.objectives",
    "PAIRS": "sentemb.pairs",
    "TrainedRun": "sentemb.pipeline",
    "train": "sentemb.pipeline",
    "build": "sentemb.registry",
    "TrainingSettings": "sentemb.training",
    "fit": "sentemb.training",
}

__all__ = [
    "CORPORA",
    "ENCODERS",
    "OBJECTIVES",
    "PAIRS",
    "AdaptedRun",
    "Corpus",
    "EncodedCorpus",
    "TrainingSettings",
    "InputError",
    "TrainedRun",
    "adapt",
    "build",
    "encode",
    "fit",
    "load",
    "open_corpus",
    "train",
]


__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
