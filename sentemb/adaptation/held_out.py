"""Held-out texts in two halves: methods are chosen on the one, and the choice is judged on the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sentemb.adaptation.measures import GAIN, Embedder, Measure, PairRetrieval, SearchRanking, Similarity, mean_of
from sentemb.corpus import Corpus, open_corpus
from sentemb.retrieval import CUT
from sentemb.search import ListedPassages, SearchTask, held_out_task
from sentemb.validation import HeldOutPairs, ItemScores, held_out_pairs

Ranges = NDArray[np.int64]  # [n, 2], start and stop of rows of sentences
Scores = dict[str, ItemScores]  # by measure

LEAST_PAIRS, LEAST_QUERIES = 100, 20  # of a half: of fewer, nobody can tell
PAIRS, PASSAGES, GENERAL, SEARCHED = 1000, 1000, 1500, 4000  # of a half, at most
PASSAGE = 5  # sentences of a passage, that which looks for it included
RUN = 10 * PASSAGE  # sentences of a document that are taken together, at least
FEW_DOCUMENTS = 10  # fewer are cut in the middle of their sentences
SHORTEST = 20  # characters of a sentence whose halves look for each other
SEED = 0
LEAST_Z = 4.0  # standard errors by which neighbours must be nearer than others


@dataclass(frozen=True)
class HeldOutTests:
    """The tests that score a model."""

    text: list[Measure]  # on the user's text
    general: Similarity

    def score(self, embedder: Embedder) -> Scores:
        """The model's score of each item: for each measure of the text, for their mean, and for general quality."""
        return self.score_text(embedder) | self.score_general(embedder)

    def score_text(self, embedder: Embedder) -> Scores:
        """Of the user's text alone."""
        items = {measure.name: measure.items(embedder) for measure in self.text}
        return {**items, GAIN: mean_of([*items.values()])}

    def score_general(self, embedder: Embedder) -> Scores:
        """Of general quality alone."""
        return {self.general.name: self.general.items(embedder)}


@dataclass(frozen=True)
class Order:
    """Whether neighbouring sentences are nearer to each other than others are, by the start's embeddings."""

    neighbours: float  # mean cosine
    others: float
    z: float  # their difference in standard errors

    @property
    def present(self) -> bool:
        """Whether the text is in order."""
        return self.z > LEAST_Z


def halves_of(corpus: Corpus) -> tuple[Ranges, Ranges]:
    """The held-out documents in two halves: every second one, or, of few, those before and after the middle."""
    ranges = corpus.split()[1]
    if len(ranges) >= FEW_DOCUMENTS:
        return ranges[::2], ranges[1::2]
    middle = int(np.diff(ranges, axis=1).sum()) // 2
    return shortened(ranges, 0, middle), shortened(ranges, middle, None)


def shortened(ranges: Ranges, first: int, stop: int | None) -> Ranges:
    """The sentences number ``first`` to ``stop`` of all in these ranges, as ranges."""
    ends = np.cumsum(np.diff(ranges, axis=1)[:, 0])
    starts = ends - np.diff(ranges, axis=1)[:, 0]
    stop = int(ends[-1]) if stop is None else stop
    cut = np.stack([np.clip(first - starts, 0, None), np.clip(stop - starts, 0, ends - starts)], axis=1)
    cut = ranges[:, :1] + cut
    return cut[cut[:, 1] > cut[:, 0]]


def thinned(ranges: Ranges, sentences: int, seed: int = SEED) -> Ranges:
    """About ``count`` sentences: runs of documents that are drawn by ``seed``, of long ones not all of them."""
    lengths = np.diff(ranges, axis=1)[:, 0]
    longest = max(RUN, math.ceil(sentences / len(ranges)))
    random = np.random.default_rng(seed)
    wanted = np.minimum(lengths, longest)
    starts = ranges[:, 0] + random.integers(0, lengths - wanted + 1)
    order = random.permutation(len(ranges))
    before = np.cumsum(wanted[order]) - wanted[order]  # sentences of the documents drawn earlier
    chosen = np.sort(order[before < sentences])
    return np.stack([starts, starts + wanted], axis=1)[chosen]


def pairs_in(ranges: Ranges) -> int:
    """How many neighbouring pairs there are."""
    return int(np.maximum(np.diff(ranges, axis=1) - 1, 0).sum()) if len(ranges) else 0


def order_of(embedder: Embedder, pairs: HeldOutPairs) -> Order:
    """Compare each pair's cosine with that of its first sentence and another pair's second one."""
    x, y = (np.asarray(embedder.encode(texts), dtype=np.float64) for texts in (pairs.first, pairs.second))
    x, y = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (x, y))
    near, far = (x * y).sum(axis=1), (x * np.roll(y, len(y) // 2, axis=0)).sum(axis=1)
    difference = near - far
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
    return Order(float(near.mean()), float(far.mean()), float(difference.mean()) / max(error, 1e-12))


def text_measures(corpus: Corpus, half: Ranges, ordered: bool, share: float = 1.0) -> list[Measure]:
    """Measures of the user's text on a half of its held-out documents.

    Args:
        corpus: the text. half: its ranges.
        ordered: whether neighbours belong together; if not, the halves of a sentence look for each other.
        share: of the most items that are scored.
    """
    many = max(LEAST_PAIRS // 2, round(share * PAIRS))
    if not ordered:
        return [PairRetrieval("halves of a sentence, MRR", sentence_halves(corpus, half, many))]
    passages = held_out_task(corpus, PASSAGE, documents=thinned(half, PASSAGE * max(50, round(share * PASSAGES))))
    return [
        PairRetrieval("neighbours, MRR", held_out_pairs(corpus, many, ranges=half)),
        SearchRanking(f"a sentence finds its passage, MRR@{CUT}", passages),
    ]


def sentence_halves(corpus: Corpus, half: Ranges, most: int) -> HeldOutPairs:
    """Sentences cut at the space nearest to their middle, or in the middle where there is none."""
    rows = np.concatenate([np.arange(start, stop) for start, stop in half.tolist()])
    rows = np.sort(np.random.default_rng(SEED).permutation(rows)[: 2 * most])
    cuts = [(row, *_cut(text)) for row, text in zip(rows, corpus.sentences(rows), strict=True) if len(text) >= SHORTEST]
    chosen = cuts[:most] if len(cuts) <= most else [cuts[i] for i in np.linspace(0, len(cuts) - 1, most).astype(int)]
    documents = np.searchsorted(corpus.documents, [row for row, _, _ in chosen], side="right") - 1
    source = f"the halves of {len(chosen):,} held-out sentences of {corpus.name}"
    return HeldOutPairs([first for _, first, _ in chosen], [second for _, _, second in chosen], source, documents)


def _cut(text: str) -> tuple[str, str]:
    spaces = [i for i, letter in enumerate(text) if letter.isspace() and text[:i].strip() and text[i:].strip()]
    at = min(spaces, key=lambda i: abs(i - len(text) / 2)) if spaces else len(text) // 2
    return text[:at].strip(), text[at:].strip()


def search_measures(task: SearchTask, half: int, share: float | None = None) -> list[Measure]:
    """nDCG on every second judged query, the first (``half`` 0) or the second (1) of each two.

    ``share`` of the most passages are searched: those that are judged, and others drawn at random; None: all are.
    """
    numbers = np.arange(half, len(task.queries), 2)
    if share is not None:
        most = max(LEAST_QUERIES, round(share * PAIRS))
        numbers = np.sort(np.random.default_rng(SEED).permutation(numbers)[:most])
    part = replace(
        task,
        queries=[task.queries[i] for i in numbers],
        judgements=[task.judgements[i] for i in numbers],
        leave_out=[task.leave_out[i] for i in numbers] if task.leave_out else [],
        documents=None if task.documents is None else task.documents[numbers],
    )
    if share is not None:
        part = _with_fewer_passages(part, max(200, round(share * SEARCHED)))
    return [SearchRanking(f"your queries, nDCG@{CUT}", part, f"ndcg@{CUT}")]


def _with_fewer_passages(task: SearchTask, most: int) -> SearchTask:
    if len(task.passages) <= most:
        return task
    judged = {passage for grades in task.judgements for passage in grades}
    order = np.random.default_rng(SEED).permutation(len(task.passages)).tolist()
    others = [i for i in order if i not in judged]
    chosen = sorted([*judged, *others[: max(0, most - len(judged))]])
    number = {passage: i for i, passage in enumerate(chosen)}
    return replace(
        task,
        passages=ListedPassages([task.passages.texts(slice(i, i + 1))[0] for i in chosen]),
        judgements=[{number[passage]: grade for passage, grade in grades.items()} for grades in task.judgements],
        leave_out=[[number[i] for i in passages if i in number] for passages in task.leave_out],
    )


def agreement_with(start: Embedder) -> Similarity:
    """How a model orders pairs of general sentences, against how the start does: half neighbours, half random pairs.

    Raises:
        InputError: the built-in sample, whose sentences they are, is not available.
    """
    corpus = open_corpus("sample")
    pairs = held_out_pairs(corpus, GENERAL // 2)
    others = [*pairs.second[len(pairs.second) // 2 :], *pairs.second[: len(pairs.second) // 2]]
    first, second = pairs.first * 2, [*pairs.second, *others]
    order = np.random.default_rng(SEED).permutation(len(first))
    name = "agreement with the start on the built-in sample"
    return Similarity(name, [first[i] for i in order], [second[i] for i in order], reference=start)


def general_part(general: Similarity, share: float) -> Similarity:
    """Every n-th pair, so that about ``share`` of the most are left."""
    wanted = max(LEAST_PAIRS, share * GENERAL)
    return general.part(max(1, math.ceil(len(general.first) / wanted)))


def sentences_of(share: float, searched: bool) -> float:
    """How many sentences a model encodes for its scores, about."""
    text = (PAIRS + SEARCHED * PASSAGE) if searched else (2 * PAIRS + PASSAGE * PASSAGES)
    return share * (text + 2 * GENERAL)


def texts_of(measures: Sequence[Measure]) -> list[str]:
    """Texts that the measures encode, for the speed of a model to be measured on."""
    texts = [text for measure in measures if isinstance(measure, PairRetrieval) for text in measure.pairs.first]
    queries = [text for measure in measures if isinstance(measure, SearchRanking) for text in measure.task.queries]
    return texts or queries
