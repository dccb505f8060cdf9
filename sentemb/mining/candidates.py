"""Choose the candidates for hard negatives, and exclude a pair's own sentences and their copies."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sentemb.pairs import Numbers, Pairs, Permutation

DRAWN = 65_536  # pairs whose sentences are read together


def candidate_pool(pairs: Pairs, keys: NDArray[np.int64], size: int, seed: int) -> Numbers:
    """Sentence rows of distinct sentences out of the positives and hard negatives of pairs, in order.

    Args:
        pairs: all that there are, of which fewer may be trained on.
        keys: int64 ``[sentences]``, equal where sentences are copies.
        size: sentences wanted, drawn with the seed; 0: all. Where there are fewer, all.
        seed: decides which.

    Returns:
        int64 ``[p]``, of copies one.
    """

    def candidates(rows: Numbers) -> tuple[Numbers, Numbers]:
        rows = rows[:, min(1, rows.shape[1] - 1) :].ravel()
        return rows, keys[rows]

    return np.sort(draw_distinct(pairs, candidates, size, seed))


def draw_distinct(
    pairs: Pairs, candidates: Callable[[Numbers], tuple[Numbers, Numbers]], size: int, seed: int
) -> Numbers:
    """Distinct candidates out of pairs, drawn with the seed; of copies one.

    Args:
        pairs: as for :func:`candidate_pool`.
        candidates: of the rows of some pairs, ``[c, ...]``, and of each a number ``[c]`` that copies share.
        size: candidates wanted; 0: all. Where there are fewer, all.
        seed: decides which.
    """
    order, pool, ids = Permutation(len(pairs), seed), None, np.zeros(0, dtype=np.int64)
    for start in range(0, len(pairs), DRAWN):
        drawn, their_ids = candidates(pairs.rows[order[slice(start, start + DRAWN)]])
        pool, ids = drawn if pool is None else np.concatenate([pool, drawn]), np.concatenate([ids, their_ids])
        _, first = np.unique(ids, return_index=True)
        first.sort()
        pool, ids = pool[first], ids[first]
        if size and len(pool) >= size:
            return pool[:size]
    return np.zeros(0, dtype=np.int64) if pool is None else pool


class ExcludedCandidates:
    """The places in a pool that a pair's negatives must not have: its anchor's, and those of all positives of it.

    Args:
        pairs: int64 ``[m, 2]`` or lazy, anchors and positives. The positives of all pairs with the same anchor are
            positives of each.
        pool: sentence rows ``[p]``.
        keys: int64 ``[sentences]``, equal where sentences are copies.
    """

    def __init__(self, pairs: Pairs, pool: Numbers, keys: NDArray[np.int64]) -> None:
        order = np.argsort(keys[pool], kind="stable")
        self._places, self._sorted = order, keys[pool][order]
        blocks = [pairs.rows[start : start + DRAWN][:, :2] for start in range(0, len(pairs), DRAWN)]
        anchors = np.concatenate([keys[rows[:, 0]] for rows in blocks])
        positives = np.concatenate([self._place(keys[rows[:, 1]]) for rows in blocks])
        by_anchor = np.argsort(anchors, kind="stable")
        self._anchors, self._positives = anchors[by_anchor], positives[by_anchor]
        self._keys = keys

    def of(self, rows: Numbers) -> list[Numbers]:
        """Places for each of the pairs ``rows`` ``[n, 2]``, without a copy."""
        anchors = self._keys[rows[:, 0]]
        starts, stops = (np.searchsorted(self._anchors, anchors, side=side) for side in ("left", "right"))
        itself = self._place(anchors)
        together = (
            np.append(self._positives[start:stop], place)
            for start, stop, place in zip(starts.tolist(), stops.tolist(), itself.tolist(), strict=True)
        )
        return [np.unique(places[places >= 0]) for places in together]

    def _place(self, keys: NDArray[np.int64]) -> Numbers:
        """Where sentences of these keys are in the pool; -1 where they are not."""
        near = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[near] == keys, self._places[near], -1)
