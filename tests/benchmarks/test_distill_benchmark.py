"""What benchmarks/distill.py computes of two students' predictions."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.distill import difference

PAIRS = {"A": 400, "B": 300}


def predictions(noise: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Human scores, and cosines that follow them but for noise, of two tasks."""
    generator = np.random.default_rng(0)
    gold = {name: generator.normal(size=count) for name, count in PAIRS.items()}
    return {name: (scores + noise * generator.normal(size=len(scores)), scores) for name, scores in gold.items()}


def test_the_difference_is_that_of_the_means_and_lies_in_its_interval():
    better, worse = predictions(0.3), predictions(1.0)
    means = [np.mean([100 * spearmanr(*pair).statistic for pair in side.values()]) for side in (better, worse)]
    value, low, high = difference(better, worse)
    assert value == pytest.approx(means[0] - means[1])
    assert 0 < low < value < high < 2 * value
    assert difference(worse, better)[0] == pytest.approx(-value)


def test_a_student_does_not_differ_from_itself():
    assert difference(predictions(0.5), predictions(0.5)) == (0, 0, 0)
