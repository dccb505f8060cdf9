"""A run between its checks and its first update."""

from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from sentemb.corpus import Corpus
from sentemb.pipeline.settings import EvaluationSettings
from sentemb.training import Lane
from sentemb.validation import EmbeddingMemory, HeldOutPairs, TeacherReference


@dataclass(frozen=True)
class BegunRun:
    """A run before its first update: all is checked, its folder is claimed and has a config.json."""

    lane: Lane  # what is trained, how and where
    corpus: Corpus
    untrained: SentenceTransformer  # a copy of the model
    pairs: HeldOutPairs
    evaluation: EvaluationSettings
    memory: EmbeddingMemory  # of the scores during training
    reference: TeacherReference | None = None  # of its teacher
