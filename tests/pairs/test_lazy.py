"""Shuffles without a table are bijections that look random; selections and lazy arrays are what they stand for."""

import pickle
from functools import partial

import numpy as np
import pytest

from sentemb.pairs import Permutation, Selection
from sentemb.pairs.lazy import Lazy
from sentemb.pairs.permutation import SMALL


@pytest.mark.parametrize("n", [0, 1, 2, 5, 1000, SMALL, SMALL + 1, 70_001, 2**17, 2**17 + 1, 300_007])
def test_a_permutation_has_each_number_once(n):
    for key in (0, 1):
        permuted = Permutation(n, 3, key)[:]
        assert permuted.dtype == np.int64 and len(permuted) == n
        assert (np.bincount(permuted, minlength=n) == 1).all()


def test_a_permutation_is_decided_by_its_key_and_read_anywhere():
    permuted = Permutation(100_000, 1, 2)[:]
    again = Permutation(100_000, 1, 2)
    places = np.array([99_999, 0, 5, 5])
    assert (again[places] == permuted[places]).all() and (again[10:20] == permuted[10:20]).all()
    for other in (Permutation(100_000, 1, 3), Permutation(100_000, 2, 2)):
        assert (other[:] == permuted).sum() < 10  # one is expected by chance


def test_a_large_permutation_looks_random():
    """Where things stand, how far apart neighbours land, and how often they stay neighbours, against chance."""
    n, keys = 100_000, 2000
    places = np.arange(8)
    shuffled_places = np.stack([Permutation(n, key)[places] for key in range(keys)])  # [keys, 8]
    apart = (shuffled_places[:, 1:] - shuffled_places[:, :-1]) % n
    for column in (*shuffled_places.T, *apart.T):
        counts = np.histogram(column, 40, (0, n))[0]
        chi2 = ((counts - keys / 40) ** 2 / (keys / 40)).sum()
        assert chi2 < 39 + 6 * np.sqrt(2 * 39)
    permuted = Permutation(1_000_003, 0)[:]
    assert (np.abs(np.diff(permuted)) == 1).sum() <= 12  # two are expected
    assert abs(np.corrcoef(np.arange(len(permuted)), permuted)[0, 1]) < 5 / np.sqrt(len(permuted))
    blocks = np.histogram2d(np.arange(len(permuted)), permuted, 20)[0]
    assert np.abs(blocks - len(permuted) / 400).max() < 6 * np.sqrt(len(permuted) / 400)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_selection_is_the_list_of_what_is_true(share):
    mask = np.random.default_rng(0).random(10_007) < share
    selection, listed = Selection(mask), np.flatnonzero(mask)
    assert len(selection) == len(listed)
    if len(listed):
        numbers = np.random.default_rng(1).permutation(len(listed))
        assert (selection[numbers] == listed[numbers]).all()
        assert selection[np.array([0, len(listed) - 1])].tolist() == [listed[0], listed[-1]]


def test_a_lazy_array_is_read_by_numbers_and_slices_and_pickled():
    lazy = Lazy((10, 2), partial(_doubled, 3))
    assert lazy[np.array([1, 4])].tolist() == [[3, 6], [12, 24]] and lazy[8:].tolist() == [[24, 48], [27, 54]]
    assert np.asarray(lazy).shape == lazy.shape == (10, 2) and len(lazy) == 10
    assert pickle.loads(pickle.dumps(lazy))[2:3].tolist() == [[6, 12]]


def _doubled(factor: int, numbers: np.ndarray) -> np.ndarray:
    return np.stack([factor * numbers, 2 * factor * numbers], axis=1)
