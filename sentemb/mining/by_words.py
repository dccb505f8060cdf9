"""Hard negatives by words in common: the highest scores of BM25, by the library bm25s."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from sentemb.corpus import Corpus
from sentemb.errors import InputError
from sentemb.mining.spec import MinedSpec
from sentemb.pairs import Numbers

STOPWORDS = (
    "en",
    "de",
    "nl",
    "fr",
    "es",
    "pt",
    "it",
    "ru",
    "sv",
    "no",
    "tr",
    "da",
)  # that bm25s has, and may leave out


def refuse_missing_library() -> None:
    """InputError if bm25s is not installed."""
    if importlib.util.find_spec("bm25s") is None:
        raise InputError(
            "--negatives mined:by=bm25 needs the library bm25s; pip install 'sentemb[bm25]', or give a model as by="
        )


def fingerprint_of_bm25(language: str) -> str:
    """What decides its scores but the text."""
    return f"bm25s {version('bm25s')} {language}"


@dataclass(frozen=True)
class WordSearch:
    """Finds the sentences of a pool that have the highest BM25 scores; those with no word in common are none.

    Words are runs of two letters or digits and more, in lower case, without stopwords where the library has a list for
    the language. Sources: Robertson & Zaragoza 2009 (BM25), k1 = 1.5 and b = 0.75; Lù 2024 (BM25S, arXiv 2407.03618).
    """

    corpus: Corpus
    index: Any  # of the pool; None: no sentence of it has a word
    spec: MinedSpec

    @classmethod
    def of(cls, corpus: Corpus, pool: Numbers, spec: MinedSpec) -> "WordSearch":
        """The index of the sentences of a pool."""
        import bm25s

        words = bm25s.tokenize(corpus.sentences(pool), stopwords=_stopwords(corpus), show_progress=False)
        if not words.vocab:
            return cls(corpus, None, spec)
        index = bm25s.BM25()
        index.index(words, show_progress=False)
        return cls(corpus, index, spec)

    def places(self, rows: Numbers, left_out: Sequence[Numbers]) -> Numbers:
        """As :meth:`sentemb.mining.by_model.EmbeddingSearch.places`; equal scores in the order of the pool."""
        import bm25s

        count, skip = self.spec.per_anchor, self.spec.skip
        out = np.full((len(rows), count), -1, dtype=np.int64)
        if self.index is None:
            return out
        texts = self.corpus.sentences(rows[:, 0])
        queries = bm25s.tokenize(texts, stopwords=_stopwords(self.corpus), return_ids=False, show_progress=False)
        for place, (words, places) in enumerate(zip(queries, left_out, strict=True)):
            scores = self.index.get_scores_from_ids(self.index.get_tokens_ids(words))
            scores[places] = 0
            best = np.flatnonzero(scores > 0)
            if len(best) > skip + count:
                least = np.partition(scores[best], -(skip + count))[-(skip + count)]
                best = best[scores[best] >= least]
            best = best[np.lexsort((best, -scores[best]))][skip : skip + count]
            out[place, : len(best)] = best
        return out


def _stopwords(corpus: Corpus) -> str | None:
    return corpus.language if corpus.language in STOPWORDS else None
