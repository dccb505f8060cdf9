"""Held-out texts in two halves, their subsamples, and whether a text is in order."""

from dataclasses import replace

import numpy as np
import pytest

from sentemb.adaptation.held_out import (
    halves_of,
    order_of,
    search_measures,
    sentence_halves,
    shortened,
    text_measures,
    thinned,
)
from sentemb.adaptation.measures import Embedder, SearchRanking
from sentemb.corpus import open_corpus
from sentemb.retrieval import ranking_scores, top_k
from sentemb.search import ListedPassages, SearchTask
from sentemb.validation import held_out_pairs
from tests.adaptation.texts import documents_of, shuffled
from tests.helpers import STATIC


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return open_corpus(documents_of(40, 30), progress=False)


def rows_of(ranges: np.ndarray) -> list[int]:
    return [row for start, stop in ranges.tolist() for row in range(start, stop)]


@pytest.mark.parametrize("documents", [2, 40, 300])
def test_the_halves_share_no_sentence_and_leave_none_out(documents, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus(documents_of(documents, 20), progress=False)
    first, second = (rows_of(half) for half in halves_of(corpus))
    assert sorted(first + second) == sorted(rows_of(corpus.split()[1]))
    assert abs(len(first) - len(second)) <= 20


def test_ranges_are_cut_by_the_numbers_of_their_sentences():
    ranges = np.array([[10, 14], [20, 21], [30, 35]])
    for first in range(11):
        for stop in range(first, 11):
            assert rows_of(shortened(ranges, first, stop)) == rows_of(ranges)[first:stop]
    assert rows_of(shortened(ranges, 3, None)) == rows_of(ranges)[3:]


@pytest.mark.parametrize("lengths", [[100, 1, 200], [3] * 500, [1000]])
def test_a_thinned_text_has_runs_of_documents(lengths):
    ends = np.cumsum(lengths)
    ranges = np.stack([ends - lengths, ends], axis=1)
    thin = thinned(ranges, 120)
    assert 100 < np.diff(thin, axis=1).sum() < 120 + 50  # (a long document is not taken as a whole)
    rows = [rows_of(ranges[i : i + 1]) for i in range(len(ranges))]
    for start, stop in thin.tolist():
        (document,) = [each for each in rows if start in each]
        assert stop - 1 in document and (stop - start == len(document) or stop - start >= 50)
    np.testing.assert_array_equal(thinned(ranges, 10_000), ranges)


def test_order_is_seen_where_there_is_one(corpus, encoder, tmp_path):
    embedder = Embedder.of(encoder(STATIC))
    order = order_of(embedder, held_out_pairs(corpus, 200, ranges=corpus.split()[0]))
    assert order.present and order.neighbours > order.others
    mixed = open_corpus(shuffled(40, 30), progress=False)
    assert not order_of(embedder, held_out_pairs(mixed, 200, ranges=mixed.split()[0])).present


def test_the_halves_of_a_sentence_are_cut_at_a_space(corpus):
    pairs = sentence_halves(corpus, corpus.split()[1], 50)
    texts = set(corpus.sentences(np.array(rows_of(corpus.split()[1]))))
    assert len(pairs.first) == len(pairs.documents) == 50
    assert all(f"{a} {b}" in texts for a, b in zip(pairs.first, pairs.second, strict=True))


def test_a_text_without_order_is_measured_by_halves_of_sentences(corpus):
    half = halves_of(corpus)[0]
    assert [m.name for m in text_measures(corpus, half, ordered=False)] == ["halves of a sentence, MRR"]
    assert len(text_measures(corpus, half, ordered=True)) == 2


def test_a_part_of_the_passages_is_searched_with_the_same_judgements(encoder):
    texts = [f"passage {i} about {['cats', 'dogs', 'ships', 'kings'][i % 4]}" for i in range(500)]
    queries, judgements = [f"about passage {i}" for i in range(80)], [{i: 1.0, i + 100: 2.0} for i in range(80)]
    task = SearchTask("t", queries, ListedPassages(texts), judgements, leave_out=[[i + 1] for i in range(80)])
    (first,), (second,) = search_measures(task, 0), search_measures(task, 1)
    assert first.task.queries == queries[::2] and second.task.queries == queries[1::2]
    (part,) = search_measures(task, 0, 0.05)
    assert len(part.task.queries) == 40 and len(part.task.passages) == 200
    for query, grades, left_out in zip(part.task.queries, part.task.judgements, part.task.leave_out, strict=True):
        number = int(query.split()[-1])
        assert {part.task.passages.texts(slice(i, i + 1))[0]: g for i, g in grades.items()} == {
            texts[i]: g for i, g in judgements[number].items()
        }
        assert {part.task.passages.texts(slice(i, i + 1))[0] for i in left_out} <= {texts[number + 1]}


def test_a_search_is_scored_as_all_at_once(encoder):
    model = encoder(STATIC)
    texts = [f"the {a} sees the {b} number {i}" for i, (a, b) in enumerate([("cat", "dog"), ("king", "ship")] * 30)]
    task = SearchTask("t", texts[:10], ListedPassages(texts), [{i: 1.0, i + 20: 1.0} for i in range(10)])
    items = SearchRanking("search", task, "ndcg@10").items(Embedder.of(model))
    ranking, _ = top_k(model.encode(texts[:10]), model.encode(texts), 10)
    np.testing.assert_allclose(items.values, ranking_scores(ranking, task.judgements)["ndcg@10"])
    assert items.score == pytest.approx(100 * items.values.mean())
    left_out = replace(task, leave_out=[[i] for i in range(10)])
    assert SearchRanking("search", left_out, "ndcg@10").items(Embedder.of(model)).score < items.score


def test_mapped_embeddings_are_those_of_the_function(encoder):
    plain = Embedder.of(encoder(STATIC))
    mapped = plain.mapped(lambda rows: 2 * rows + 1)
    texts = ["a cat.", "a dog."]
    np.testing.assert_array_equal(mapped.encode(texts), 2 * plain.encode(texts) + 1)
    np.testing.assert_array_equal(mapped.sides.first(texts), 2 * plain.sides.first(texts) + 1)
