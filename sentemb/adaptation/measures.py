"""The measures of a model: retrieval on the user's text, and general quality, both item by item."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from sentemb.retrieval import CUT, NearestPassages, ranking_scores
from sentemb.search import SearchTask
from sentemb.validation import CachedEncoder, HeldOutPairs, ItemScores, Sides, held_out_items, sides_of

GAIN = "gain"  # the mean of all measures of the user's text
BLOCK = 2048  # passages that are encoded at a time
MANY = 20_000  # passages whose embeddings are not held
Encode = Callable[[list[str]], np.ndarray]  # texts to [n, d]


@dataclass(frozen=True)
class Embedder:
    """A model as the measures see it; it meets each distinct text once."""

    sides: Sides  # of queries and passages
    encode: Encode  # of texts without a side
    model: SentenceTransformer | None = None  # None: another one's embeddings, mapped

    @classmethod
    def of(cls, model: SentenceTransformer) -> "Embedder":
        """Of a model."""
        encode = CachedEncoder(model)
        return cls(sides_of(model, encode), encode, model)

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "Embedder":
        """The embeddings ``[n, d]`` seen through a function; nothing is encoded twice."""

        def through(encode: Encode) -> Encode:
            return lambda texts: function(encode(texts))

        sides = self.sides
        second = None if sides.second is None else through(sides.second)
        return Embedder(Sides(through(sides.first), second, sides.score, sides.names), through(self.encode))


class Measure(Protocol):
    """One score of a model."""

    @property
    def name(self) -> str:
        """For outputs."""

    def items(self, embedder: Embedder) -> ItemScores:
        """The model's score of each item."""


@dataclass(frozen=True)
class PairRetrieval:
    """Reciprocal rank of each pair's second text among all second texts, by similarity to the first."""

    name: str
    pairs: HeldOutPairs

    def items(self, embedder: Embedder) -> ItemScores:
        """Reciprocal ranks, times 100 in the mean."""
        return _in_points(held_out_items(embedder.sides, self.pairs)["retrieval_mrr"])


@dataclass(frozen=True)
class SearchRanking:
    """How well queries find the passages that answer them."""

    name: str
    task: SearchTask
    metric: str = f"mrr@{CUT}"  # of sentemb.retrieval.ranking_scores

    def items(self, embedder: Embedder) -> ItemScores:
        """The metric of each query, times 100 in the mean; passages are encoded block by block."""
        task, sides = self.task, embedder.sides
        nearest = NearestPassages(sides.first(task.queries), CUT, sides.score, task.leave_out or None)
        for start in range(0, len(task.passages), BLOCK):
            texts = task.passages.texts(slice(start, min(start + BLOCK, len(task.passages))))
            if embedder.model is not None and len(task.passages) > MANY:
                sides = Embedder.of(embedder.model).sides  # (an encoder holds what it has encoded)
            nearest.add((sides.second or sides.first)(texts))
        values = ranking_scores(nearest.result()[0], task.judgements)[self.metric]
        return _in_points(ItemScores(values, documents=task.documents, items="queries"))


@dataclass(frozen=True)
class Similarity:
    """Rank correlation of the cosines of pairs with what they should be."""

    name: str
    first: Sequence[str]
    second: Sequence[str]
    gold: NDArray[np.float64] | None = None  # [n] human scores; None: the cosines of ``reference``
    reference: Embedder | None = field(default=None, compare=False)

    def items(self, embedder: Embedder) -> ItemScores:
        """Cosines with their gold scores; the correlation is given times 100."""
        gold = cosines(self.reference, self.first, self.second) if self.reference is not None else self.gold
        values = cosines(embedder, self.first, self.second)
        assert gold is not None, "human scores, or a model whose cosines take their place"
        return ItemScores(values, np.asarray(gold, dtype=np.float64), items="pairs", scale=100)

    def part(self, step: int, start: int = 0) -> "Similarity":
        """Every ``step``-th pair, from number ``start`` on."""
        gold = None if self.gold is None else np.asarray(self.gold)[start::step]
        return Similarity(self.name, self.first[start::step], self.second[start::step], gold, self.reference)


def cosines(embedder: Embedder, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
    """Cosine ``[n]`` of each pair of texts."""
    x, y = (np.asarray(embedder.encode(list(texts)), dtype=np.float64) for texts in (first, second))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.divide((x * y).sum(axis=1), lengths, out=np.zeros(len(x)), where=lengths > 0)


def mean_of(items: Sequence[ItemScores]) -> ItemScores:
    """One test with the mean score of several, so that the bootstrap draws their common documents together."""
    total = sum(len(each.values) for each in items)
    values = [each.values * (total / (len(items) * len(each.values))) for each in items]
    grouped = all(each.documents is not None for each in items)
    documents = np.concatenate([np.asarray(each.documents) for each in items]) if grouped else None
    names = " and ".join(dict.fromkeys(each.items for each in items))
    return ItemScores(np.concatenate(values), documents=documents, items=names, scale=100)


def _in_points(items: ItemScores) -> ItemScores:
    return ItemScores(items.values, documents=items.documents, items=items.items, scale=100)
