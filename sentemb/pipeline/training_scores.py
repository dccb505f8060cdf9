"""Scores of a model while it trains: held-out pairs, a teacher, and the score that chooses the best model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from sentemb.encoders import truncated
from sentemb.forward import TrainingEncoder
from sentemb.objectives import Objective
from sentemb.validation import (
    CachedEncoder,
    DevScore,
    EmbeddingMemory,
    HeldOutPairs,
    TeacherReference,
    TextTokens,
    held_out_scores,
    sides_of,
)


@dataclass(frozen=True)
class ScoresOfTraining:
    """What a model is scored on while it trains."""

    pairs: HeldOutPairs
    dev: DevScore | None
    memory: EmbeddingMemory  # of embeddings, which the scores at the end use again
    tokens: TextTokens  # of the scored texts, at each evaluation
    reference: TeacherReference | None
    to_teacher: Callable[[Tensor], Tensor | None]
    prefixes: Sequence[int] = ()  # lengths that its embeddings are cut to, and scored again

    def measure(self, model: SentenceTransformer) -> dict[str, float]:
        """Scores by their columns in the log, those of a prefix with ``_64d`` behind their names.

        The model's embeddings are in the memory afterwards, from which those of prefixes are cut.
        """
        encode = CachedEncoder(model, cache=self.memory.of(model, "last"), tokens=self.tokens)
        scores = self._scores(encode, self.to_teacher)
        if self.dev is not None:
            scores |= self.dev.measure(encode)
        for size in self.prefixes:
            cut = CachedEncoder(truncated(model, size), cache=encode.cache, tokens=self.tokens)
            of_prefix = self._scores(cut)
            if self.dev is not None and self.dev.encoded_scores is not None:
                of_prefix |= self.dev.encoded_scores(cut)
            scores |= {f"{name}_{size}d": score for name, score in of_prefix.items()}
        return scores

    def _scores(
        self, encode: CachedEncoder, to_teacher: Callable[[Tensor], Tensor | None] | None = None
    ) -> dict[str, float]:
        """Of held-out pairs and of the teacher."""
        scores = held_out_scores(encode.model, self.pairs, encode)
        if self.reference is not None:
            scores |= self.reference.scores(sides_of(encode.model, encode).first, to_teacher)
        return scores


@torch.no_grad()
def in_space_of_teacher(encoder: TrainingEncoder, objective: Objective, rows: Tensor) -> Tensor | None:
    """Embeddings ``[n, d]`` of the model as the objective compares them with a teacher's; None: it does not."""
    rows = rows.to(next(encoder.parameters()).device)
    if encoder.head is None:
        return objective.to_teacher(rows)
    training = encoder.head.training
    try:  # (a head with dropout or batch statistics must not be changed by a score)
        return objective.to_teacher(encoder.head.eval()(rows))
    finally:
        encoder.head.train(training)
