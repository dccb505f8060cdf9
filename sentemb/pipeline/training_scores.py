"""Scores of a model while it trains: held-out pairs, a teacher, and the score that chooses the best model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

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

    def measure(self, model: SentenceTransformer) -> dict[str, float]:
        """Scores by their columns in the log; the model's embeddings are in the memory afterwards."""
        encode = CachedEncoder(model, cache=self.memory.of(model, "last"), tokens=self.tokens)
        scores = held_out_scores(model, self.pairs, encode)
        if self.reference is not None:
            scores |= self.reference.scores(sides_of(model, encode).first, self.to_teacher)
        return scores | (self.dev.measure(encode) if self.dev is not None else {})


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
