"""How near an encoder is to a teacher on held-out sentences."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentemb.geometry import l2_normalize
from sentemb.validation.comparison import spearman
from sentemb.validation.held_out import Encode

TEACHER_SIMILARITY, TEACHER_COSINE = "teacher_similarity", "teacher_cosine"  # in the log
LEAST_SENTENCES = 3  # that can be compared: of two there is one pair
PAIRS, SEED = 20_000, 0  # of two sentences, drawn with replacement: always the same ones


@dataclass(frozen=True)
class TeacherReference:
    """A teacher's embeddings of held-out sentences, which an encoder's are compared with."""

    sentences: list[str]  # n distinct ones
    embeddings: NDArray[np.floating[Any]]  # [n, D], as the teacher gives them
    targets: NDArray[np.floating[Any]] | None = None  # [n, D'] what is learned of them, where it is something else

    def scores(self, encode: Encode, to_teacher: Callable[[Tensor], Tensor | None] | None = None) -> dict[str, float]:
        """How alike the encoder and the teacher find and put the sentences; empty for fewer than three sentences.

        Args:
            encode: sentences to ``[n, d]``, in any d.
            to_teacher: maps embeddings ``[n, d]`` to the teacher's space, ``[n, D]``, as the objective does; None, or
                returns None: there is no such map.

        Returns:
            ``teacher_similarity``, Spearman's correlation of the cosines of PAIRS random pairs of sentences by the
            encoder with those by the teacher; and, with ``to_teacher``, ``teacher_cosine``, the mean cosine of a
            sentence's mapped embedding and the teacher's.
        """
        count = len(self.sentences)
        if count < LEAST_SENTENCES:
            return {}
        rows = torch.from_numpy(np.asarray(encode(self.sentences), dtype=np.float32))
        teacher = l2_normalize(torch.from_numpy(self.embeddings.astype(np.float64)))
        generator = np.random.default_rng(SEED)
        first = generator.integers(count, size=PAIRS)
        second = (first + generator.integers(1, count, size=PAIRS)) % count
        student = l2_normalize(rows.double())
        by_student, by_teacher = ((x[first] * x[second]).sum(dim=1).numpy() for x in (student, teacher))
        scores = {TEACHER_SIMILARITY: spearman(by_student, by_teacher)}
        mapped = None if to_teacher is None else to_teacher(rows)
        if mapped is not None:
            if self.targets is not None:
                teacher = l2_normalize(torch.from_numpy(self.targets.astype(np.float64)))
            scores[TEACHER_COSINE] = float((l2_normalize(mapped.detach().cpu().double()) * teacher).sum(dim=1).mean())
        return scores
