"""The exact k nearest passages of each query, in memory that does not grow with the number of passages.

A score is the inner product or the cosine in float64, rounded to float32. Equal scores are ordered by the passage's
number, the lowest first. So the result is the same whatever the tiles, the threads and the library that multiplies.

:func:`top_k` multiplies in float32 a tile at a time and keeps a few candidates more than k. It scores these in float64,
and proves by the error bound of a float32 inner product that no other passage belongs among the k (Higham 2002,
Accuracy and Stability of Numerical Algorithms, section 3.1). Queries without that proof, such as those of many copies
of one passage, are searched again in float64.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentemb.errors import InputError
from sentemb.registry import choose

TILE = (512, 4096)  # queries and passages whose scores are held at a time
MARGIN = 16  # candidates beyond k that are scored in float64
PAIRS = 4096  # candidates that are scored in float64 at a time
SCORES = ("cosine", "dot")
LAST_ID = 2**32 - 1
NOTHING = np.iinfo(np.int64).min  # the key of no passage
LEAST_NORM = 1e-12  # a shorter row has the cosine 0 with all others
TINY = float(np.finfo(np.float32).tiny)

Rows = NDArray[Any]  # float32, float16 or float64 [n, d]
Ids = NDArray[np.int64]
LeaveOut = Sequence[Sequence[int] | NDArray[np.int64]] | NDArray[np.int64]


def top_k(
    queries: Rows,
    passages: Rows,
    k: int,
    score: str = "cosine",
    leave_out: LeaveOut | None = None,
    tile: tuple[int, int] = TILE,
    ceiling: NDArray[np.float32] | None = None,
) -> tuple[Ids, NDArray[np.float32]]:
    """The ``k`` nearest passages of each query, exactly.

    Args:
        queries: ``[q, d]``. passages: ``[n, d]``. Arrays or memory maps, float32 or float16.
        k: passages a query.
        score: cosine, or dot (the inner product).
        leave_out: for each query the numbers of the passages that it must not find (such as itself); negative: none.
        tile: queries and passages whose scores are held at a time.
        ceiling: float32 ``[q]``, for each query the score above which a passage is not found.

    Returns:
        (numbers of the passages int64 ``[q, k]``, scores float32 ``[q, k]``), the highest score first and of equal ones
        the lowest number. Where fewer than k passages are left, the number is -1 and the score -inf.

    Raises:
        InputError: a row is not finite. ValueError: shapes, k or score that cannot be used.

    In addition to the passages it holds about 8 tiles of scores and 40 (k + 16) bytes a query.
    """
    _refuse_shapes(queries, passages.shape, k, score)
    left_out, limits = _LeftOut(leave_out, len(queries)), _Ceiling(ceiling, queries, score)
    width = min(k + MARGIN, max(1, len(passages)))
    best, longest = _Best(len(queries), width), 0.0
    for start, block in _blocks(passages, tile[1], 3 * width):
        block, norms = _unit(block, start, score)
        longest = max(longest, float(norms.max(initial=0)))
        for rows in _slices(len(queries), tile[0]):
            with np.errstate(over="ignore", invalid="ignore"):  # (of rows so long, there is no proof below)
                scores = np.asarray(queries[rows], dtype=np.float32) @ block.T
            left_out.mask(scores, rows, start)
            limits.mask_approximate(scores, rows, float(norms.max(initial=0)))
            best.offer(rows, scores, start)
    candidates = best.keys()
    ids, floor = _ids_of(candidates), _scores_of(candidates.min(axis=1))
    del best, candidates  # (as large as all that follows)
    keys = _exact_keys(queries, passages, ids, score)
    limits.mask_keys(keys)
    keys.sort(axis=1)
    keys = np.ascontiguousarray(keys[:, ::-1][:, :k])
    unproven = np.flatnonzero(~_proven(queries, keys, k, floor, longest, score))
    if len(unproven):
        lists = [left_out.of(row) for row in unproven.tolist()]
        above = None if ceiling is None else ceiling[unproven]
        search = NearestPassages(queries[unproven], k, score, lists, tile, above)
        for rows in _slices(len(passages), tile[1]):
            search.add(passages[rows])
        keys[unproven] = search.keys()[:, : keys.shape[1]]
    return _padded(keys, k)


class NearestPassages:
    """The ``k`` nearest of passages that come block by block, for few queries: all scores are computed in float64.

    Arguments, results and errors: see :func:`top_k`. A passage's number is its place among all that were added.
    """

    def __init__(
        self,
        queries: Rows,
        k: int,
        score: str = "cosine",
        leave_out: LeaveOut | None = None,
        tile: tuple[int, int] = TILE,
        ceiling: NDArray[np.float32] | None = None,
    ) -> None:
        _refuse_shapes(queries, (0, *queries.shape[1:]), k, score)
        self.k, self.score, self.tile, self.number = k, score, tile, 0
        self._queries, self._lengths = _wide(queries, 0, score, "query")
        self._left_out, self._ceiling = _LeftOut(leave_out, len(queries)), _Ceiling(ceiling, queries, score)
        self._best = _Best(len(queries), k)

    def add(self, passages: Rows) -> None:
        """The next passages ``[n, d]``."""
        for start, block in _blocks(passages, self.tile[1], self.tile[1]):
            block, lengths = _wide(block, self.number + start, self.score, "passage")
            for rows in _slices(len(self._queries), self.tile[0]):
                products = self._queries[rows] @ block.T
                scores = _rounded(products, self._lengths[rows, None] * lengths)
                self._left_out.mask(scores, rows, self.number + start)
                self._ceiling.mask(scores, rows)
                self._best.offer(rows, scores, self.number + start)
        self.number += len(passages)

    def keys(self) -> Ids:
        """Scores and numbers as keys ``[q, k]``, the best first."""
        return np.sort(self._best.keys(), axis=1)[:, ::-1]

    def result(self) -> tuple[Ids, NDArray[np.float32]]:
        """(numbers ``[q, k]``, scores ``[q, k]``) of all passages so far."""
        return _padded(self.keys(), self.k)


class _Best:
    """The best passages of each query so far, as keys: one int64 whose order is that of scores, then of numbers.

    Each query has room for three times as many as are wanted. When the room is full, the best are selected, and the
    last of them is the floor that a score must exceed from then on.
    """

    def __init__(self, queries: int, width: int) -> None:
        self.width = width
        self._keys = np.full((queries, 3 * width), NOTHING, dtype=np.int64)
        self._used = np.zeros(queries, dtype=np.int64)  # places of a row
        self._floor = np.full(queries, -np.inf, dtype=np.float32)

    def offer(self, rows: slice, scores: NDArray[np.float32], first: int) -> None:
        """Scores ``[rows, m]`` of the passages ``first`` to ``first + m - 1``, which come after all before them."""
        places = np.flatnonzero(scores > self._floor[rows, None])
        if not len(places):
            return
        keys = _keys_of(scores.ravel()[places], first + places % scores.shape[1])
        self._add(rows.start + places // scores.shape[1], keys)

    def _add(self, rows: Ids, keys: Ids) -> None:
        """Keys of rows that are sorted, and within a row by number."""
        capacity = self._keys.shape[1]
        while len(rows):
            distinct, starts, counts = np.unique(rows, return_index=True, return_counts=True)
            place = self._used[rows] + np.arange(len(rows)) - np.repeat(starts, counts)
            fits = place < capacity
            self._keys[rows[fits], place[fits]] = keys[fits]
            self._used[distinct] = np.minimum(self._used[distinct] + counts, capacity)
            rows, keys = rows[~fits], keys[~fits]
            self._select(np.unique(rows))
            remaining = _scores_of(keys) > self._floor[rows]
            rows, keys = rows[remaining], keys[remaining]

    def _select(self, rows: Ids) -> None:
        """Drop all but the best of these rows."""
        if not len(rows):
            return
        best = np.partition(self._keys[rows], -self.width, axis=1)[:, -self.width :]
        self._keys[rows, : self.width] = best
        self._keys[rows, self.width :] = NOTHING
        self._used[rows] = self.width
        self._floor[rows] = _scores_of(best.min(axis=1))

    def keys(self) -> Ids:
        """The best ``[q, width]``, in any order: NOTHING where there are fewer.

        No passage that is not among them has a score above the least of them.
        """
        out = np.empty((len(self._keys), self.width), dtype=np.int64)
        for rows in _slices(len(out), PAIRS):
            out[rows] = np.partition(self._keys[rows], -self.width, axis=1)[:, -self.width :]
        return out


class _LeftOut:
    """Which passages do not count, by query."""

    def __init__(self, leave_out: LeaveOut | None, queries: int) -> None:
        if leave_out is not None and len(leave_out) != queries:
            raise ValueError(f"leave_out has {len(leave_out)} queries, and there are {queries}")
        lists = [np.asarray(each, dtype=np.int64).ravel() for each in leave_out] if leave_out is not None else []
        ids = np.concatenate([np.empty(0, dtype=np.int64), *lists])
        rows = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
        order = np.argsort(ids, kind="stable")
        self._ids, self._rows, self._lists = ids[order], rows[order], lists

    def of(self, row: int) -> Ids:
        """Of one query."""
        return self._lists[row] if self._lists else np.empty(0, dtype=np.int64)

    def mask(self, scores: NDArray[np.float32], rows: slice, first: int) -> None:
        """-inf in a tile of the scores of ``rows`` and of the passages from ``first`` on, in place."""
        low, high = np.searchsorted(self._ids, (first, first + scores.shape[1]))
        if low < high:
            pairs = slice(low, high)
            inside = (self._rows[pairs] >= rows.start) & (self._rows[pairs] < rows.stop)
            scores[self._rows[pairs][inside] - rows.start, self._ids[pairs][inside] - first] = -np.inf


class _Ceiling:
    """Which scores are too high to count, by query."""

    def __init__(self, ceiling: NDArray[np.float32] | None, queries: Rows, score: str) -> None:
        if ceiling is not None and ceiling.shape != (len(queries),):
            raise ValueError(f"ceiling has shape {ceiling.shape}, and there are {len(queries)} queries")
        self._ceiling = ceiling
        if ceiling is not None:
            self._error = _product_error(queries.shape[1])
            self._lengths = _lengths_of(queries)
            scales = np.maximum(self._lengths, LEAST_NORM) if score == "cosine" else 1.0
            self._limits = ceiling.astype(np.float64) * scales  # of products of queries as they are

    def mask(self, scores: NDArray[np.float32], rows: slice) -> None:
        """-inf in a tile of scores, in place."""
        if self._ceiling is not None:
            np.copyto(scores, -np.inf, where=scores > self._ceiling[rows, None])

    def mask_approximate(self, products: NDArray[np.float32], rows: slice, longest: float) -> None:
        """-inf in a tile of float32 products of passages up to this length that are surely above, in place."""
        if self._ceiling is not None:
            slack = self._error * self._lengths[rows] * longest + products.shape[1] * TINY
            with np.errstate(over="ignore"):
                limits = np.nextafter((self._limits[rows] + slack).astype(np.float32), np.float32(np.inf))
            np.copyto(products, -np.inf, where=products > limits[:, None])

    def mask_keys(self, keys: Ids) -> None:
        """NOTHING for exact scores ``[q, w]`` that are above, in place."""
        if self._ceiling is not None:
            keys[_scores_of(keys) > self._ceiling[:, None]] = NOTHING


def pair_scores(x: Rows, y: Rows, score: str = "cosine") -> NDArray[np.float32]:
    """The scores ``[n]`` of rows i of ``x`` and ``y`` ``[n, d]`` with each other, as :func:`top_k` computes them."""
    (wide_x, x_lengths), (wide_y, y_lengths) = _wide(x, 0, score, "query"), _wide(y, 0, score, "passage")
    return _rounded(np.einsum("nd,nd->n", wide_x, wide_y), x_lengths * y_lengths)


def _refuse_shapes(queries: Rows, passages: tuple[int, ...], k: int, score: str) -> None:
    choose("score", score, SCORES)
    if queries.ndim != 2 or len(passages) != 2 or queries.shape[1] != passages[1]:
        raise ValueError(f"queries [q, d] and passages [n, d] are needed, got {queries.shape} and {passages}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if passages[0] > LAST_ID:
        raise ValueError(f"at most {LAST_ID:,} passages can be searched, got {passages[0]:,}")


def _slices(n: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _blocks(passages: Rows, step: int, first: int) -> Iterator[tuple[int, Rows]]:
    """Blocks and where they begin. The first ones are short: until there is a floor, every score is a candidate."""
    start, size = 0, min(first, step)
    while start < len(passages):
        yield start, passages[start : start + size]
        start, size = start + size, min(2 * size, step)


def _unit(rows: Rows, first: int, score: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """float32 rows, of unit length for cosine, and their lengths then."""
    narrow = np.asarray(rows, dtype=np.float32)
    norms = _norms(narrow, first, "passage")
    if score == "dot":
        return narrow, norms
    lengths = np.maximum(norms, LEAST_NORM)[:, None].astype(np.float32)
    return np.divide(narrow, lengths, dtype=np.float32), np.ones(len(rows))


def _wide(rows: Rows, first: int, score: str, what: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64 rows, and by what their products are divided: their lengths for cosine, else 1."""
    wide = np.asarray(rows, dtype=np.float64)
    norms = _norms(wide, first, what)
    return wide, np.maximum(norms, LEAST_NORM) if score == "cosine" else np.ones(len(rows))


def _rounded(products: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scores. (The product of rows as they are is 0 where it should be.)"""
    with np.errstate(over="ignore"):
        return (products / lengths).astype(np.float32)


def _norms(rows: NDArray[Any], first: int, what: str) -> NDArray[np.float64]:
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    broken = np.flatnonzero(~np.isfinite(norms))
    if len(broken):
        raise InputError(f"the embedding of {what} {first + broken[0]} is not finite; the checkpoint is damaged")
    return norms


def _exact_keys(queries: Rows, passages: Rows, ids: Ids, score: str) -> Ids:
    """Keys ``[q, w]`` by float64 scores of candidates ``[q, w]``, read from the passages in their order."""
    flat = ids.ravel()
    keys = np.full(flat.shape, NOTHING, dtype=np.int64)
    order = np.argsort(flat, kind="stable")
    order = order[np.searchsorted(flat[order], 0) :]
    for part in _slices(len(order), PAIRS):
        places = order[part]
        x, x_lengths = _wide(queries[places // ids.shape[1]], 0, score, "query")
        y, y_lengths = _wide(passages[flat[places]], 0, score, "passage")
        scores = _rounded(np.einsum("nd,nd->n", x, y), x_lengths * y_lengths)
        keys[places] = _keys_of(scores, flat[places])
    return keys.reshape(ids.shape)


def _proven(
    queries: Rows, keys: Ids, k: int, floor: NDArray[np.float32], longest: float, score: str
) -> NDArray[np.bool_]:
    """Whether no passage but the candidates can be among the ``k`` best, ``[q]``.

    ``floor``: the float32 score that no other passage exceeds; of queries as they are, with passages of at most the
    length ``longest``. A float32 inner product is off by at most d u |x| |y|, and less than that by underflow.
    """
    if keys.shape[1] < k:  # fewer passages than k: all of them are candidates
        return np.ones(len(queries), dtype=bool)
    lengths, d = _lengths_of(queries), queries.shape[1]
    scales = lengths * longest
    bound = floor + _product_error(d) * scales + d * TINY
    if score == "cosine":
        bound = bound / np.maximum(lengths, LEAST_NORM)
    is_finite = scales < float(np.finfo(np.float32).max) / 4  # so that no product was infinite
    with np.errstate(over="ignore"):
        return is_finite & (np.isneginf(floor) | (_scores_of(keys[:, -1]) > bound.astype(np.float32)))


def _product_error(dimension: int) -> float:
    """How far a float32 product of two rows of unit length is off at most, except underflow."""
    return 1.01 * (dimension + 8) * 2.0**-24


def _lengths_of(queries: Rows) -> NDArray[np.float64]:
    blocks = (np.asarray(queries[rows], dtype=np.float64) for rows in _slices(len(queries), PAIRS))
    return np.concatenate([np.empty(0), *(_norms(block, 0, "query") for block in blocks)])


def _padded(keys: Ids, k: int) -> tuple[Ids, NDArray[np.float32]]:
    """Numbers and scores ``[q, k]`` of sorted keys, of which there may be fewer."""
    keys = np.pad(keys, ((0, 0), (0, k - keys.shape[1])), constant_values=NOTHING)
    return _ids_of(keys), _scores_of(keys)


def _keys_of(scores: NDArray[np.float32], ids: Ids) -> Ids:
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # (-0.0 is 0.0 then)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered << 32) | (LAST_ID - ids)


def _scores_of(keys: Ids) -> NDArray[np.float32]:
    """-inf of NOTHING."""
    ordered = (keys >> 32).astype(np.int32)
    scores = np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).astype(np.int32).view(np.float32)
    return np.where(keys == NOTHING, np.float32(-np.inf), scores)


def _ids_of(keys: Ids) -> Ids:
    """-1 of NOTHING."""
    return np.where(keys == NOTHING, -1, LAST_ID - (keys & LAST_ID))
