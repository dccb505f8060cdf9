"""Neighbours never cross a document, and every epoch is a full, seeded, resumable pass."""

import numpy as np
import pytest

from sentemb.pairs import batch_sizes, batches, draw, neighbours, usable
from sentemb.registry import InputError


def test_neighbours_by_hand():
    ranges = np.array([[0, 3], [3, 4], [4, 6]])
    assert neighbours(ranges).tolist() == [[0, 1], [1, 2], [4, 5]]
    assert neighbours(ranges, window=2).tolist() == [[0, 1], [1, 2], [4, 5], [0, 2]]


def test_neighbours_equal_the_loop_on_random_documents():
    stops = np.random.default_rng(0).integers(0, 9, 50).cumsum()
    ranges = np.stack([np.r_[0, stops[:-1]], stops], axis=1)
    for window in (1, 3):
        slow = [(i, i + w) for w in range(1, window + 1) for a, b in ranges for i in range(a, b - w)]
        assert neighbours(ranges, window).tolist() == [list(pair) for pair in slow]


def test_no_pairs_is_said():
    with pytest.raises(InputError, match="no document"):
        neighbours(np.array([[0, 1], [1, 2]]))
    with pytest.raises(ValueError, match="window"):
        neighbours(np.array([[0, 5]]), window=0)


def test_copies_and_empty_sides_are_left_out():
    rows = [[1, 2], [1, 2], [], [3], [4], [4, 5]]
    offsets = np.cumsum([0, *map(len, rows)])
    ids = np.array(sum(rows, []))
    pairs = neighbours(np.array([[0, 6]]))
    assert usable(pairs, ids, offsets).tolist() == [[3, 4], [4, 5]]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("pairs", [5, 64, 100, 1001])
def test_an_epoch_sees_each_pair_once_whatever_the_processes(pairs, processes):
    lengths = np.random.default_rng(1).integers(1, 40, pairs)
    ranks = [list(batches(lengths, 8, processes, rank, seed=3, epoch=0, window=4)) for rank in range(processes)]
    sizes = batch_sizes(pairs, 8, processes)
    seen = [pair for rank in ranks for batch in rank for pair in batch.tolist()]
    assert len(seen) == len(set(seen)) == sum(sizes) > pairs - 2 * processes
    assert all(len({len(rank[i]) for rank in ranks}) == 1 for i in range(len(sizes)))  # equal on all processes


def test_two_processes_share_the_batches_of_one():
    lengths = np.random.default_rng(1).integers(1, 40, 300)
    one = list(batches(lengths, 16, 1, 0, seed=5, epoch=2))
    two = [list(batches(lengths, 8, 2, rank, seed=5, epoch=2)) for rank in range(2)]
    for whole, *parts in zip(one[:-1], *two, strict=False):
        assert sorted(whole) == sorted(np.concatenate(parts))


def test_order_depends_on_seed_and_epoch_only():
    lengths = np.arange(100)

    def flat(seed, epoch):
        return np.concatenate(list(batches(lengths, 7, 1, 0, seed, epoch))).tolist()

    assert flat(0, 0) == flat(0, 0) != flat(0, 1)
    assert flat(0, 0) != flat(1, 0)


def test_batches_pad_little():
    lengths = np.random.default_rng(2).integers(1, 60, 6400)
    waste = [1 - lengths[b].mean() / lengths[b].max() for b in batches(lengths, 100, 1, 0, 0, 0, window=64)]
    assert np.mean(waste) < 0.03


def test_draw_is_fixed_and_bounded():
    pairs = np.arange(40).reshape(20, 2)
    assert draw(pairs, 5, 0).tolist() == draw(pairs, 5, 0).tolist()
    assert len(draw(pairs, 99, 0)) == 20
