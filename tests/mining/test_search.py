"""Hard negatives by a model, by words, and what they are chosen from, equal loops that say what they are."""

import math

import numpy as np
import pytest

from sentemb.corpus import Tokens, open_corpus
from sentemb.mining import MinedSpec, WordSearch, candidate_pool
from sentemb.mining.by_model import EmbeddingSearch, ceilings
from sentemb.mining.candidates import ExcludedCandidates
from sentemb.pairs import Pairs, dropout, neighbours
from sentemb.retrieval import pair_scores


class Embeddings:
    """float16 rows of a corpus, in memory."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows.astype(np.float16)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        return self._rows[numbers]


def by_loop(anchor, positive, pool, left_out, spec, score):
    """Places of the hard negatives of one pair: the ranking of all others, then what is left out of it."""

    def scored(y):
        x, y = anchor.astype(np.float64), y.astype(np.float64)
        product = float(x @ y)
        if score == "cosine":
            product /= max(float(np.linalg.norm(x)), 1e-12) * max(float(np.linalg.norm(y)), 1e-12)
        return np.float32(product)

    ranking = sorted((-scored(row), place) for place, row in enumerate(pool) if place not in left_out)
    p, margin = scored(positive), spec.relative_margin
    highest = math.inf if margin is None else np.float32(float(p) - margin * abs(float(p)))
    chosen = [place for rank, (minus, place) in enumerate(ranking) if rank >= spec.skip and -minus <= highest]
    return (chosen + [-1] * spec.per_anchor)[: spec.per_anchor]


@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("margin", ["none", 0.0, 0.05, 0.5])
@pytest.mark.parametrize("skip", [0, 3])
def test_negatives_by_a_model_are_those_of_a_loop(score, margin, skip):
    for seed, rounded in enumerate((False, True, False)):
        random = np.random.default_rng(seed)
        rows = random.normal(size=(70, 4))
        rows = rows.round() if rounded else rows  # (whole numbers: ties, zero rows, and scores equal to the ceiling)
        rows = (rows * (1e-3 if seed == 2 else 1)).astype(np.float16)
        pairs, pool = random.integers(0, 70, (25, 2)), np.sort(random.permutation(70)[:50])
        spec = MinedSpec("x", per_anchor=4, pool=0, skip=skip, margin=margin)
        left_out = [random.integers(0, 50, 3) for _ in pairs]
        search = EmbeddingSearch(Embeddings(rows), Embeddings(rows), rows[pool], score, spec)
        expected = [
            by_loop(rows[a], rows[p], rows[pool], o, spec, score) for (a, p), o in zip(pairs, left_out, strict=True)
        ]
        np.testing.assert_array_equal(search.places(pairs, left_out), expected)


def test_the_ceiling_is_a_share_of_the_positive_below_it():
    assert ceilings(np.array([0.8, 0.0, -0.5], np.float32), 0.05) == pytest.approx([0.76, 0.0, -0.525])


def test_scores_of_pairs():
    x, y = (np.random.default_rng(i).normal(size=(5, 3)).astype(np.float32) for i in (0, 1))
    expected = [float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(x, y, strict=True)]
    assert pair_scores(x, y) == pytest.approx(expected, rel=1e-6)
    assert pair_scores(x, y, "dot") == pytest.approx((x * y).sum(axis=1), rel=1e-6)


def test_a_pool_holds_each_sentence_of_the_second_sides_once():
    keys = np.array([0, 1, 2, 1, 4, 0, 6, 7])  # 3 is a copy of 1, 5 of 0
    pairs = neighbours(np.array([[0, 8]]))
    assert {int(keys[row]) for row in candidate_pool(pairs, keys, 0, 0)} == {0, 1, 2, 4, 6, 7}
    pools = [candidate_pool(pairs, keys, 3, seed) for seed in (0, 0, 1, 2)]
    assert all(len(set(keys[pool])) == 3 and (np.diff(pool) > 0).all() for pool in pools)
    assert (pools[0] == pools[1]).all() and len({tuple(pool) for pool in pools}) > 1
    labelled = Pairs(np.array([[0, 2, 4], [1, 6, 7]]))  # an anchor is not a candidate, a labelled negative is one
    assert candidate_pool(labelled, np.arange(8), 0, 0).tolist() == [2, 4, 6, 7]


def test_a_pool_is_drawn_without_looking_at_all_pairs(monkeypatch):
    from sentemb.mining import candidates

    monkeypatch.setattr(candidates, "DRAWN", 50)
    keys, pairs = np.arange(10_000) % 5000, dropout(np.array([[0, 10_000]]))
    pool = candidate_pool(pairs, keys, 40, 3)
    assert len(pool) == len(set(keys[pool])) == 40 and pool.max() > 5000  # from all of the text
    assert len(candidate_pool(pairs, keys, 0, 3)) == 5000


@pytest.mark.parametrize("drawn", [2, 65_536])
def test_no_pair_gets_its_anchor_a_positive_or_a_copy(drawn, monkeypatch):
    from sentemb.mining import candidates

    monkeypatch.setattr(candidates, "DRAWN", drawn)
    keys = np.array([5, 1, 2, 5, 4, 7, 6, 1])  # 3 is a copy of 0, 7 of 1
    pairs, pool = neighbours(np.array([[0, 8]]), window=2), np.array([0, 1, 2, 4, 5, 6])
    left_out = ExcludedCandidates(pairs, pool, keys)
    rows = np.asarray(pairs.rows)
    for (anchor, _), places in zip(rows, left_out.of(rows), strict=True):
        positives = {int(keys[p]) for a, p in rows if keys[a] == keys[anchor]}
        expected = [place for place, row in enumerate(pool) if keys[row] in positives | {int(keys[anchor])}]
        assert places.tolist() == expected


TEXTS = ["the red cat sat", "a red red dog", "cats and dogs", "", "Dog, cat; RED!", "nothing shared here", "the of and"]


def bm25_by_loop(query, texts):
    """Robertson & Zaragoza 2009 with the idf of Lucene, k1 1.5, b 0.75."""
    import re

    from bm25s.stopwords import STOPWORDS_EN

    words = [[w for w in re.findall(r"\w\w+", text.lower()) if w not in STOPWORDS_EN] for text in [query, *texts]]
    documents = words[1:]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in words[0]:
            containing = sum(word in each for each in documents)
            idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean)) if tf else 0
        scores.append(score)
    return scores


@pytest.mark.parametrize("skip", [0, 1])
def test_negatives_by_words_are_those_of_the_formula(skip, tmp_path, monkeypatch):
    pytest.importorskip("bm25s", reason="bm25s is not installed (the extra bm25)")
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path))
    corpus = open_corpus([[text or "..." for text in TEXTS]], progress=False)
    pool, pairs = np.arange(len(corpus)), np.array([[0, 2], [1, 3], [4, 5], [5, 6], [6, 0]])
    spec = MinedSpec("bm25", per_anchor=2, pool=0, skip=skip)
    left_out = [np.array([a, b]) for a, b in pairs]
    places = WordSearch.of(corpus, pool, spec).places(pairs, left_out)
    for row, (anchor, positive) in zip(places.tolist(), pairs, strict=True):
        scores = bm25_by_loop(TEXTS[anchor], TEXTS)
        ranking = sorted((-round(s, 5), i) for i, s in enumerate(scores) if s > 0 and i not in (anchor, positive))
        assert row == ([i for _, i in ranking][skip:] + [-1, -1])[:2]


def test_a_pool_without_a_word_has_no_negatives_by_words(tmp_path, monkeypatch):
    pytest.importorskip("bm25s", reason="bm25s is not installed (the extra bm25)")
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path))
    corpus = open_corpus([["the", "of a", "and", "red cat"]], progress=False)
    search = WordSearch.of(corpus, np.arange(3), MinedSpec("bm25", per_anchor=1, pool=0, skip=0))
    assert search.places(np.array([[3, 0]]), [np.array([0])]).tolist() == [[-1]]


def test_a_missing_negative_is_the_anchor_which_no_loss_counts():
    import torch

    from sentemb.objectives import Extras, InfoNCE

    class Missing:
        per_pair = 2

        def of(self, numbers):
            return np.stack([numbers + 5, np.full(len(numbers), -1)], axis=1)

    pairs = Pairs(np.array([[0, 1], [2, 3]]), negatives=Missing())
    assert pairs.num_hard_negatives == 2
    assert pairs.columns(np.array([1, 0])).tolist() == [[2, 3, 6, 2], [0, 1, 5, 0]]
    x, y = torch.randn(1, 4), torch.randn(1, 4)
    extras = Extras(torch.tensor([[7, 8, 7]]), negatives=x[:, None])
    assert InfoNCE()(x, y, extras).item() == pytest.approx(0, abs=1e-5)  # one pair, whose only negative is the anchor


def test_copies_are_known_by_their_tokens():
    tokens = Tokens(np.array([1, 2, 1, 2, 3], np.int32), np.array([0, 2, 4, 5]))
    assert len(candidate_pool(Pairs(np.array([[2, 0], [2, 1]])), tokens.distinct(), 0, 0)) == 1
