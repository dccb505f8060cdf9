"""The paired bootstrap equals a slow loop, holds its level, and sees that sentences of one document go together."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from sentemb.geometry import (
    bootstrap,
    bootstrap_interval,
    resampled_mean_differences,
    resampled_spearman_differences,
)


def slow(statistic, groups: list[np.ndarray], resamples: int, seed: int) -> list[float]:
    """The statistic of the items of as many groups as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    draws = [generator.integers(0, len(groups), len(groups)) for _ in range(resamples)]
    return [statistic(np.concatenate([groups[i] for i in draw])) for draw in draws]


@pytest.mark.parametrize("block", [1, 50, 2**22])
def test_means_equal_a_slow_loop(block, monkeypatch):
    monkeypatch.setattr(bootstrap, "AT_ONCE", block)
    random = np.random.default_rng(1)
    a, b, groups = random.random(23), random.random(23), random.integers(0, 5, 23) * 7

    def difference(rows: np.ndarray) -> float:
        return float(np.mean([a[i] for i in rows]) - np.mean([b[i] for i in rows]))

    alone = slow(difference, [np.array([i]) for i in range(23)], 40, seed=3)
    np.testing.assert_allclose(resampled_mean_differences(a, b, None, 40, 3), alone)
    together = slow(difference, [np.flatnonzero(groups == g) for g in sorted(set(groups))], 40, seed=3)
    np.testing.assert_allclose(resampled_mean_differences(a, b, groups, 40, 3), together)


@pytest.mark.parametrize("block", [1, 50, 2**22])
def test_spearman_equals_scipy_on_each_draw(block, monkeypatch):
    monkeypatch.setattr(bootstrap, "AT_ONCE", block)
    random = np.random.default_rng(2)
    gold = random.integers(0, 5, 30).astype(float)  # ties, as human scores have
    a, b = gold + random.normal(size=30), np.round(random.normal(size=30), 1)

    def difference(rows: np.ndarray) -> float:
        return float(spearmanr(a[rows], gold[rows]).statistic - spearmanr(b[rows], gold[rows]).statistic)

    expected = slow(difference, [np.array([i]) for i in range(30)], 40, seed=5)
    np.testing.assert_allclose(resampled_spearman_differences(a, b, gold, 40, 5), expected, atol=1e-12)


def test_constant_scores_have_no_correlation():
    gold = np.arange(12.0)
    differences = resampled_spearman_differences(np.ones(12), gold, gold, 50)
    np.testing.assert_allclose(differences, -1)


def test_equal_encoders_differ_by_nothing():
    a = np.random.default_rng(0).random(40)
    assert bootstrap_interval(resampled_mean_differences(a, a), 40) == (0, 0)


def test_the_interval_of_many_items_is_that_of_the_normal_distribution():
    random = np.random.default_rng(4)
    a, b = random.normal(size=4000), random.normal(size=4000)
    low, high = bootstrap_interval(resampled_mean_differences(a, b), 4000)
    half = 1.96 * np.std(a - b) / np.sqrt(4000)
    center = np.mean(a) - np.mean(b)
    assert low == pytest.approx(center - half, abs=0.1 * half) and high == pytest.approx(center + half, abs=0.1 * half)


def test_copies_of_a_document_are_no_evidence():
    """Each document's pairs fare alike: ten times the pairs are as wide an interval by documents, and not by pairs."""
    random = np.random.default_rng(5)
    per_document = random.normal(size=30)
    a, groups = np.repeat(per_document, 10), np.repeat(np.arange(30), 10)
    zero = np.zeros(300)
    by_document = np.ptp(bootstrap_interval(resampled_mean_differences(a, zero, groups), 30))
    by_pair = np.ptp(bootstrap_interval(resampled_mean_differences(a, zero), 300))
    assert by_document == pytest.approx(np.sqrt(10) * by_pair, rel=0.15)


@pytest.mark.parametrize("units", [6, 60])
def test_the_interval_holds_the_truth_as_often_as_it_says(units):
    covered = 0
    for seed in range(400):
        a = np.random.default_rng(seed).normal(size=units)  # the true difference is 0
        low, high = bootstrap_interval(resampled_mean_differences(a, np.zeros(units), None, 1000, seed), units)
        covered += low <= 0 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_one_unit_has_no_interval():
    with pytest.raises(ValueError, match="two units"):
        bootstrap_interval(np.zeros(5), 1)
