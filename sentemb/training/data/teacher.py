"""A teacher's embeddings of the training sentences: the targets of distillation."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sentemb.errors import InputError


class Teacher(Protocol):
    """Embeddings of sentences by their rows, which are those of :class:`sentemb.corpus.Tokens`."""

    @property
    def dimension(self) -> int:
        """D, whatever the dimension of the model that is trained."""

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Embeddings of the sentences of these rows ``[n]``, floating point ``[n, D]``."""


class TeacherArray:
    """A teacher whose embeddings are in memory.

    Args:
        embeddings: floating point ``[sentences, D]``, a row for each sentence of the corpus, in its order
            (``corpus.sentences(rows)`` are the texts of rows).

    Raises:
        InputError: not such an array, or a number in it is not finite.
    """

    def __init__(self, embeddings: NDArray[Any]) -> None:
        embeddings = np.asarray(embeddings)
        if embeddings.ndim != 2 or not embeddings.shape[1] or not np.issubdtype(embeddings.dtype, np.floating):
            raise InputError(
                f"a teacher's embeddings have shape {embeddings.shape} and type {embeddings.dtype}; give "
                "floating-point numbers [sentences, D]"
            )
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            raise InputError(
                f"the teacher's embedding of sentence {int(np.argmin(finite))} is not finite; fix or leave out that "
                "sentence"
            )
        self.embeddings = embeddings

    def __len__(self) -> int:
        """Sentences."""
        return len(self.embeddings)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.embeddings.shape[1])

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Embeddings of the sentences of these rows ``[n]``, ``[n, D]``."""
        return self.embeddings[numbers]
