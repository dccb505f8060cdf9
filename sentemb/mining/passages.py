"""Hard negatives of pairs of passages. The texts of the pairs and of a pool become a corpus, whose rows are mined.

The corpus has a row for each passage of the pool, in order, and then the anchor and the positive of each pair, as the
first epoch draws them. Hard negatives are places in the pool, and every epoch has the same ones.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from sentemb.corpus import Corpus, Skip, TextSource, open_corpus
from sentemb.mining.candidates import DRAWN, ExcludedCandidates, draw_distinct
from sentemb.mining.mine import MiningTask, refuse_small_pool
from sentemb.mining.spec import MinedSpec
from sentemb.pairs import Numbers, Pairs, PassagePairs, draw_chances
from sentemb.storage import key_of

READ = 4096  # passages whose sentences are read together
UNIT = "passages"


def passages_of(pairs: Pairs) -> PassagePairs:
    """What makes the texts of pairs of passages."""
    assert pairs.passages is not None
    return pairs.passages


def passage_pool(pairs: Pairs, size: int, seed: int) -> Numbers:
    """Bounds ``[p, 2]`` of passages with distinct texts, in order.

    Arguments: see :func:`sentemb.mining.candidate_pool`; passages in place of sentences.
    """
    passages = passages_of(pairs)
    pool = draw_distinct(pairs, lambda bounds: (bounds, passages.text_ids(bounds)), size, seed).reshape(-1, 2)
    return pool[np.lexsort((pool[:, 1], pool[:, 0]))]


@dataclass(frozen=True)
class PassageTexts:
    """The texts of pairs of passages, other than crops, and of a pool: rows of a corpus of their own.

    Args:
        corpus: whose sentences they consist of.
        pairs: pairs of passages.
        pool: int64 ``[p, 2]``, bounds of passages.
        seed: of the run, which decides what is drawn.
    """

    corpus: Corpus
    pairs: Pairs
    pool: Numbers
    seed: int

    @property
    def passages(self) -> PassagePairs:
        """What makes the texts."""
        return passages_of(self.pairs)

    def anchors(self, numbers: Numbers) -> Numbers:
        """Sentence rows ``[n]`` of the anchors of these pairs in the first epoch."""
        return self.passages.anchors(self.pairs.rows[numbers], draw_chances(self.seed, 0, numbers))

    def positives(self, numbers: Numbers, anchors: Numbers) -> list[Numbers]:
        """Sentence rows of the positive of each of these pairs in the first epoch."""
        return self.passages.positives(self.pairs.rows[numbers], draw_chances(self.seed, 0, numbers), anchors)

    def open(self) -> Corpus:
        """The corpus: p rows of the pool, then a row for the anchor and one for the positive of each pair."""
        source = TextSource(f"passages of {self.corpus.name}", self._key(), lambda: [partial(_read, self)])
        return replace(open_corpus(source, self.corpus.progress, needs_pairs=False), language=self.corpus.language)

    def _key(self) -> str:
        """Hex digest of all that decides the texts."""
        passages, digest = self.passages, hashlib.blake2b(self.pool.tobytes(), digest_size=16)
        for numbers in _blocks(len(self.pairs), DRAWN):
            digest.update(np.ascontiguousarray(self.pairs.rows[numbers]).tobytes())
        if passages.sentence_mask is not None:
            digest.update(np.packbits(passages.sentence_mask).tobytes())
        tokens = str(getattr(passages.text.tokens.folder, "name", ""))
        asked = f"{passages.settings} {self.seed} {len(self.pool)}"
        return key_of("passages", self.corpus.fingerprint, tokens, asked, digest.hexdigest())


def _blocks(count: int, size: int) -> Iterator[Numbers]:
    """The numbers 0 ... count - 1, ``size`` at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _read(texts: PassageTexts, skip: Skip) -> Iterator[str]:
    """The texts, in the order of their rows."""
    for numbers in _blocks(len(texts.pool), READ):
        yield from _joined(texts.corpus, texts.passages.bodies(texts.pool[numbers]))
    for numbers in _blocks(len(texts.pairs), READ):
        anchors = texts.anchors(numbers)
        positives = texts.positives(numbers, anchors)
        both = [rows for pair in zip(anchors[:, None], positives, strict=True) for rows in pair]
        yield from _joined(texts.corpus, both)


def _joined(corpus: Corpus, parts: Sequence[Numbers]) -> Iterator[str]:
    """The text of each list of sentence rows."""
    rows = np.unique(np.concatenate(parts))
    sentences = corpus.sentences(rows)
    for part in parts:
        yield " ".join(sentences[place] for place in np.searchsorted(rows, part).tolist())


class ExcludedPassages:
    """The places in a pool of passages that a pair's negatives must not have.

    These are passages that overlap the pair's own, copies of it and of all positives of its anchor, and passages that
    hold a copy of the anchor or have one as their title.
    """

    def __init__(self, texts: PassageTexts, pairs: Pairs) -> None:
        """``pairs``: rows of the corpus of the texts."""
        passages, self._pairs, self._pool = texts.passages, texts.pairs, texts.pool
        keys, parts = passages.text.tokens.distinct(), [passages.text_ids(texts.pool)]
        for numbers in _blocks(len(pairs), DRAWN):
            both = keys[texts.anchors(numbers)], passages.text_ids(self._pairs.rows[numbers])
            parts.append(np.stack(both, axis=1).ravel())
        self._keys = np.concatenate(parts)
        self._copies = ExcludedCandidates(pairs, np.arange(len(self._pool)), self._keys)
        rows, counts = passages.sentences(self._pool)
        order = np.argsort(keys[rows], kind="stable")
        self._sentences, self._holders = keys[rows][order], np.repeat(np.arange(len(counts)), counts)[order]
        self._furthest = np.maximum.accumulate(self._pool[:, 1])

    def of(self, rows: Numbers) -> list[Numbers]:
        """Places for each of the pairs ``rows`` ``[n, 2]`` (of the corpus of the texts), without a copy."""
        anchors, bounds = self._keys[rows[:, 0]], self._pairs.rows[(rows[:, 0] - len(self._pool)) // 2]
        starts, stops = (np.searchsorted(self._sentences, anchors, side=side) for side in ("left", "right"))
        lows = np.searchsorted(self._furthest, bounds[:, 0])
        highs = np.searchsorted(self._pool[:, 0], bounds[:, 1], side="right")
        out = []
        for number, copies in enumerate(self._copies.of(rows)):
            near = np.arange(lows[number], highs[number])
            near = near[self._pool[near, 1] >= bounds[number, 0]]
            holders = self._holders[starts[number] : stops[number]]
            out.append(np.unique(np.concatenate([copies, holders, near])))
        return out


@dataclass(frozen=True)
class PassageMiningTask(MiningTask):
    """The task of finding hard negatives of pairs of passages; ``corpus``, ``pairs`` and ``pool`` are of ``texts``."""

    texts: PassageTexts

    unit: ClassVar[str] = UNIT

    def excluded(self) -> ExcludedPassages:
        """The passages that a pair must not have as negatives."""
        return ExcludedPassages(self.texts, self.pairs)


def passage_task(texts: PassageTexts, spec: MinedSpec) -> PassageMiningTask:
    """The task of finding hard negatives of pairs of passages.

    Raises:
        InputError: the pool is too small.
    """
    size = len(texts.pool)
    refuse_small_pool(size, spec, texts.corpus, UNIT)
    rows = np.arange(size, size + 2 * len(texts.pairs)).reshape(-1, 2)
    tokens = texts.passages.text.tokens
    return PassageMiningTask(texts.open(), tokens, Pairs(rows), np.arange(size), spec, texts)
