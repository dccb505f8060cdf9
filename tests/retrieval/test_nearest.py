"""The nearest passages equal those of a loop over all pairs, whatever the tiles, the ties and the lengths."""

import numpy as np
import pytest

from sentemb.errors import InputError
from sentemb.retrieval import NearestPassages, nearest, top_k

SCORES = ("cosine", "dot")


def by_loop(queries, passages, k, score, left_out=None, ceiling=None):
    """Numbers and scores of each query: a loop over the passages, sorted by score, then by number."""
    ids, scores = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, dtype=np.float32)
    for i, x in enumerate(queries.astype(np.float64)):
        row = []
        for j, y in enumerate(passages.astype(np.float64)):
            product = float(x @ y)
            if score == "cosine":
                product /= max(float(np.linalg.norm(x)), 1e-12) * max(float(np.linalg.norm(y)), 1e-12)
            below = ceiling is None or np.float32(product) <= ceiling[i]
            if below and (left_out is None or j not in left_out[i]):
                row.append((-np.float32(product), j))
        row = sorted(row)[:k]
        ids[i, : len(row)] = [j for _, j in row]
        scores[i, : len(row)] = [-s for s, _ in row]
    return ids, scores


def blocks(search: NearestPassages, passages: np.ndarray, size: int):
    for start in range(0, len(passages), size):
        search.add(passages[start : start + size])
    return search.result()


def some(kind: str, q: int, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    queries, passages = random.normal(size=(q, d)), random.normal(size=(n, d))
    if kind == "integers":  # of many ties, and of scores that are exactly 0
        queries, passages = queries.round(), passages.round()
    if kind == "copies":
        passages = passages[random.integers(0, max(1, n // 20), n)]
    if kind == "collapsed":
        queries[:], passages[:] = queries[0], 1
    if kind == "ascending":  # each passage is better than all before it
        passages = np.linspace(0.1, 2, n)[:, None] * queries[:1] + 1e-3 * passages
        passages[:, 0] += np.linspace(5, 0, n)
    return queries, passages


@pytest.mark.parametrize("kind", ["normal", "integers", "copies", "collapsed", "ascending"])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_nearest_are_those_of_a_loop(kind, score, dtype, monkeypatch):
    monkeypatch.setattr(nearest, "PAIRS", 5)
    for seed, (q, n, d, k) in enumerate([(1, 1, 1, 1), (7, 150, 5, 9), (3, 40, 3, 60), (5, 0, 2, 4), (9, 300, 16, 1)]):
        queries, passages = (rows.astype(dtype) for rows in some(kind, q, n, d, seed))
        left_out = np.random.default_rng(seed).integers(-1, n + 1, (q, 3))
        expected = by_loop(queries, passages, k, score, left_out.tolist())
        for tile in ((2, 7), (4, 64), nearest.TILE):
            ids, scores = top_k(queries, passages, k, score, left_out, tile)
            assert ids.dtype == np.int64 and scores.dtype == np.float32
            np.testing.assert_array_equal(ids, expected[0])
            np.testing.assert_allclose(scores, expected[1], rtol=2e-7, atol=1e-12)
            streamed = blocks(NearestPassages(queries, k, score, left_out.tolist(), tile), passages, 11)
            np.testing.assert_array_equal(streamed[0], ids)


@pytest.mark.parametrize("kind", ["normal", "integers", "copies", "ascending"])
@pytest.mark.parametrize("score", SCORES)
def test_scores_above_a_ceiling_do_not_count(kind, score):
    """The ceiling is a score that there is, one between two of them, or below or above all."""
    for seed, (q, n, d, k) in enumerate([(7, 150, 5, 9), (3, 40, 3, 60), (9, 300, 16, 1)]):
        queries, passages = (rows.astype(np.float32) for rows in some(kind, q, n, d, seed))
        left_out = np.random.default_rng(seed).integers(-1, n + 1, (q, 3))
        ranked = by_loop(queries, passages, n, score)[1]
        ceiling = ranked[np.arange(q), np.random.default_rng(seed).integers(0, n, q)]
        ceiling[0], ceiling[1] = -np.inf, np.inf
        ceiling[2] -= 1e-3
        expected = by_loop(queries, passages, k, score, left_out.tolist(), ceiling)
        for tile in ((2, 7), nearest.TILE):
            ids, scores = top_k(queries, passages, k, score, left_out, tile, ceiling)
            np.testing.assert_array_equal(ids, expected[0])
            np.testing.assert_allclose(scores, expected[1], rtol=2e-7, atol=1e-12)
            streamed = blocks(NearestPassages(queries, k, score, left_out.tolist(), tile, ceiling), passages, 11)
            np.testing.assert_array_equal(streamed[0], ids)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_a_ceiling_on_products_that_underflow_or_overflow(scale):
    queries, passages = some("normal", 4, 200, 6, 0)
    queries, passages = (queries * scale).astype(np.float32), (passages * scale).astype(np.float32)
    with np.errstate(over="ignore"):
        ceiling = by_loop(queries, passages, 30, "cosine")[1][:, -1]
        expected = by_loop(queries, passages, 5, "cosine", None, ceiling)
    np.testing.assert_array_equal(top_k(queries, passages, 5, tile=(3, 50), ceiling=ceiling)[0], expected[0])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e15, 1e25])
def test_lengths_of_any_size(score, scale):
    """Products that underflow or overflow in float32 are compared in float64."""
    queries, passages = some("normal", 4, 200, 6, 0)
    queries, passages = (queries * scale).astype(np.float32), (passages * scale).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = by_loop(queries, passages, 5, score)
    ids, scores = top_k(queries, passages, 5, score, tile=(3, 50))
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=2e-7)


def test_what_float32_cannot_tell_apart_is_searched_in_float64(monkeypatch):
    """More passages than there are spare candidates, whose scores differ by less than float32's rounding."""
    random = np.random.default_rng(0)
    d, n, k = 64, 500, 10
    queries = random.normal(size=(3, d)).astype(np.float32)
    passages = np.repeat(random.normal(size=(1, d)), n, axis=0)
    passages[:, 0] += np.linspace(0, 1e-6, n)  # some of these are one float32
    passages = passages.astype(np.float32)
    searched = []
    plain = NearestPassages.__init__

    def seen(self, rows, *arguments):
        searched.append(len(rows))
        plain(self, rows, *arguments)

    monkeypatch.setattr(NearestPassages, "__init__", seen)
    ids, _ = top_k(queries, passages, k, "dot")
    assert searched == [3]
    np.testing.assert_array_equal(ids, by_loop(queries, passages, k, "dot")[0])
    top_k(queries, random.normal(size=(n, d)).astype(np.float32), k, "dot")
    assert searched == [3]  # what can be told apart is not


def test_a_memory_map_gives_what_the_array_gives(tmp_path):
    queries, passages = (rows.astype(np.float16) for rows in some("normal", 20, 500, 8, 1))
    np.save(tmp_path / "rows.npy", passages)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for mine, theirs in zip(top_k(queries, mapped, 7), top_k(queries, passages, 7), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_query_does_not_find_what_is_left_out():
    rows = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    assert (top_k(rows, rows, 1)[0][:, 0] == np.arange(30)).all()
    ids, _ = top_k(rows, rows, 30, leave_out=np.arange(30)[:, None])
    assert not (ids == np.arange(30)[:, None]).any() and (ids[:, -1] == -1).all()


@pytest.mark.parametrize("side", ["query", "passage"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(side, value):
    queries, passages = (rows.astype(np.float32) for rows in some("normal", 5, 50, 3, 0))
    (queries if side == "query" else passages)[3, 1] = value
    with pytest.raises(InputError, match=f"the embedding of {side} 3 is not finite"):
        top_k(queries, passages, 2, tile=(2, 2))
    with pytest.raises(InputError, match=f"the embedding of {side} 3 is not finite"):
        blocks(NearestPassages(queries, 2, tile=(2, 2)), passages, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"score": "cosin"}, "cosine"),
        ({"passages": np.ones((2, 4))}, "queries .q, d. and passages .n, d. are needed"),
        ({"leave_out": [[1]]}, "leave_out has 1 queries, and there are 2"),
        ({"ceiling": np.ones(3, np.float32)}, "ceiling has shape .3,., and there are 2 queries"),
    ],
)
def test_arguments_that_cannot_be_used(change, message):
    with pytest.raises(ValueError, match=message):
        top_k(**({"queries": np.ones((2, 3)), "passages": np.ones((2, 3)), "k": 1} | change))
