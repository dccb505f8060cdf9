"""Embeddings of sentences: each distinct one encoded once in a run, and once for all with a cache folder."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.encoders import cut_rows, full_size
from sentemb.errors import InputError
from sentemb.forward import quick_linear
from sentemb.validation.embedding_memory import Embeddings
from sentemb.validation.text_tokens import TextTokens, reads_token_ids, rules_of


class CachedEncoder:
    """A model's ``encode``, to rounding, that meets each distinct sentence once, whatever the tasks.

    Linear layers multiply by the library that training takes (:func:`sentemb.forward.quick_linear`).

    ``encoded`` and ``reused`` count the distinct sentences that the model met and that came from the cache. ``prompt``
    goes before each sentence; None: the model's default one. ``tokens``: of sentences that other encoders or other
    weights have met, which need no tokenizer then. A model whose embeddings are cut (``truncate_dim``) is asked for all
    of each, which is what ``cache`` holds, and what is returned is cut.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        batch_size: int = 128,
        progress: bool = False,
        cache: Embeddings | None = None,
        prompt: str | None = None,
        tokens: TextTokens | None = None,
    ) -> None:
        self.model, self.batch_size, self.progress, self.cache = model, batch_size, progress, cache
        self._full = full_size(model)
        self.prompt, self.tokens = prompt, tokens
        self._rules: str | None = None  # of the model's tokenizer
        self.position: dict[str, int] = {}
        self.broken: set[str] = set()  # sentences whose embedding is not finite
        self.rows = np.empty((0, 0), dtype=np.float32)
        self.encoded = self.reused = 0

    def of(self, model: SentenceTransformer, prompt: str | None = None) -> "CachedEncoder":
        """An encoder like this one, of one tower of the model, or of the model with this prompt."""
        cache = self.cache.of(model, prompt) if self.cache else None
        return CachedEncoder(model, self.batch_size, self.progress, cache, prompt, self.tokens)

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode the sentences that are new, shortest last (as the model's own ``encode`` orders them).

        Raises:
            InputError: the model gives another number of rows than it got sentences.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self.position]
        if not new:
            return
        cached_rows = self.cache.find(new) if self.cache else {}
        missing = [text for text in new if text not in cached_rows]
        self.encoded, self.reused = self.encoded + len(missing), self.reused + len(cached_rows)
        parts = [(list(cached_rows), np.stack(list(cached_rows.values())))] if cached_rows else []
        if missing:
            rows = self._encode(missing)
            if rows.ndim != 2 or len(rows) != len(missing):
                raise InputError(f"the model gave an array of shape {rows.shape} for {len(missing)} sentences")
            if self.cache:
                self.cache.keep(missing, rows)
            parts.append((missing, rows))
        for sentences, rows in parts:
            self.broken.update(sentences[i] for i in _broken(rows))
            self.position.update(
                zip(sentences, range(len(self.position), len(self.position) + len(sentences)), strict=True)
            )
        arrays = [array for array in (self.rows, *(rows for _, rows in parts)) if len(array)]
        self.rows = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _encode(self, texts: list[str]) -> np.ndarray:
        with quick_linear(self._full) if isinstance(self._full, nn.Module) else nullcontext():
            return self._embedded(texts)

    def _embedded(self, texts: list[str]) -> np.ndarray:
        if self.tokens is not None and reads_token_ids(self._full):
            self._rules = self._rules or rules_of(self._full, self.prompt)
            return self.tokens.encode(self._full, texts, self.batch_size, self.prompt, self._rules)
        prompt: Any = {} if self.prompt is None else {"prompt": self.prompt}
        rows = self._full.encode(texts, batch_size=self.batch_size, show_progress_bar=self.progress, **prompt)
        return np.asarray(rows, dtype=np.float32)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings ``[n, d]`` float32.

        Raises:
            InputError: an embedding is not finite; the sentence is named. As :meth:`prepare`.
        """
        self.prepare(texts)
        self.refuse(texts)
        return cut_rows(self.model, self.rows[[self.position[text] for text in texts]])

    def refuse(self, texts: Sequence[str]) -> None:
        """InputError that names the first of ``texts``, all prepared, whose embedding is not finite."""
        first = next((text for text in texts if text in self.broken), None) if self.broken else None
        if first is not None:
            raise InputError(BROKEN.format(first))


BROKEN = "the embedding of {!r} is not finite; the checkpoint is damaged"


def _broken(rows: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a sum is finite where each number is, and needs no [n, d] of booleans
        return np.flatnonzero(~np.isfinite(rows.sum(axis=1, dtype=np.float64)))


def refuse_broken(texts: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """``rows`` ``[n, d]`` if all are finite, else an InputError that names the first sentence whose row is not."""
    broken = _broken(rows)
    if len(broken):
        raise InputError(BROKEN.format(texts[broken[0]]))
    return rows
