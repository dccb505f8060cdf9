"""Embeddings of one run in memory: a model that was scored while it trained is not encoded again at the end."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from sentence_transformers import SentenceTransformer

from sentemb.encoders import full_size
from sentemb.validation.embedding_cache import fingerprint


class Embeddings(Protocol):
    """Embeddings of one model, by sentence."""

    def find(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The rows ``[d]`` of those sentences that were encoded before."""

    def keep(self, texts: Sequence[str], rows: np.ndarray) -> None:
        """Add the rows ``[n, d]`` of n sentences."""

    def of(self, model: SentenceTransformer, prompt: str | None = None) -> "Embeddings | None":
        """Those of one tower of the model, or of the model with this prompt; None: they are not stored."""


class EmbeddingMemory:
    """Embeddings of the models of one run, by what they depend on: the model's fingerprint, its device, the prompt.

    A model may have roles ("untrained", "last", "best"). When a role goes to another model, models without one are
    forgotten, so that a long run holds the embeddings of no more models than there are roles.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}  # of a model: of a side: of a sentence
        self._roles: dict[str, tuple[str, str]] = {}

    def of(self, model: SentenceTransformer, role: str | None = None) -> Embeddings:
        """The embeddings of a model on its device; with a role, the model has it from now on."""
        key = fingerprint(full_size(model)), str(model.device)  # (rows are cut where they are read)
        if role is not None:
            self._roles[role] = key
            self._rows = {each: rows for each, rows in self._rows.items() if each in self._roles.values()}
        return _Side(self._rows.setdefault(key, {}), "")


class _Side:
    """Embeddings of a model as one side of pairs is encoded: by one tower, or with one prompt."""

    def __init__(self, rows_by_side: dict[str, dict[str, np.ndarray]], name: str) -> None:
        self._rows_by_side = rows_by_side
        self._rows = rows_by_side.setdefault(name, {})

    def find(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        return {text: self._rows[text] for text in texts if text in self._rows}

    def keep(self, texts: Sequence[str], rows: np.ndarray) -> None:
        self._rows.update(zip(texts, rows, strict=True))

    def of(self, model: SentenceTransformer, prompt: str | None = None) -> Embeddings:
        return _Side(self._rows_by_side, f"{fingerprint(full_size(model))} {prompt!r}")
