"""The probe equals scikit-learn driven through SentEval's folds, fit by fit."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from eval.probe import GRID, Logistic, nested_logistic


def features(n: int, d: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of decaying variance, off centre, and noisy labels of uneven classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 4) * scale + scale
    signal = x @ rng.normal(size=d)
    y = (signal - signal.mean()) / signal.std() + rng.normal(size=n) > 0.4
    return x, y.astype(np.int64)


def reference(x: np.ndarray, y: np.ndarray, folds: int) -> tuple[float, float, list[float], list[float]]:
    """SentEval's InnerKFoldClassifier in scikit-learn mode, one fit after another, converged tightly."""
    chosen, scores, dev = [], [], []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=1111).split(x, y):
        means = []
        for c in GRID:
            inner = StratifiedKFold(folds, shuffle=True, random_state=1111).split(x[train], y[train])
            found = [fit(x[train][a], y[train][a], c).score(x[train][b], y[train][b]) for a, b in inner]
            means.append(round(100 * float(np.mean(found)), 2))
        best = GRID[int(np.argmax(means))]
        chosen.append(best)
        dev.append(max(means))
        scores.append(round(100 * fit(x[train], y[train], best).score(x[test], y[test]), 2))
    return round(float(np.mean(scores)), 2), round(float(np.mean(dev)), 2), chosen, scores


def fit(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(x, y)


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_nested_cross_validation_equals_scikit_learns(scale):
    x, y = features(300, 12, scale)
    found = nested_logistic(x, y, folds=5)
    assert (found.acc, found.devacc, found.chosen, found.folds) == reference(x, y, 5)


@pytest.mark.parametrize("c", [GRID[0], GRID[-1]])
@pytest.mark.parametrize(("n", "d"), [(400, 30), (60, 100)])  # also more features than rows
def test_decision_values_equal_scikit_learns(n, d, c):
    x, y = features(n, d, 0.5)
    rows = np.random.default_rng(1).permutation(n)[: n * 3 // 4]
    inside = torch.zeros(n, 2, dtype=torch.float64)
    inside[rows] = 1
    problem = Logistic(x, y)
    got = problem.z @ problem.solve(inside, torch.tensor([c, c], dtype=torch.float64))
    expected = fit(x[rows], y[rows], c).decision_function(x)
    assert np.abs(got[:, 0].numpy() - expected).max() < 1e-3 * max(1, np.abs(expected).max())
    assert torch.equal(got[:, 0], got[:, 1])


def test_many_fits_equal_each_alone():
    x, y = features(200, 10, 1.0)
    rows = [np.arange(0, 150), np.arange(50, 200), np.arange(0, 200, 2)]
    together = Logistic(x, y).accuracies(rows, rows, GRID)
    alone = [Logistic(x, y, block=1).accuracies([r], [r], (c,))[0, 0] for r in rows for c in GRID]
    assert together.ravel().tolist() == alone


def test_collapsed_and_separable_features():
    y = np.arange(100) % 2
    assert nested_logistic(np.zeros((100, 3)), y, folds=5).acc == 50.0
    assert nested_logistic(np.eye(2)[y] * 100.0, y, folds=5).acc == 100.0


def test_ties_choose_the_smallest_c():
    assert set(nested_logistic(np.zeros((50, 2)), np.arange(50) % 2, folds=5).chosen) == {GRID[0]}


def test_random_states_are_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    nested_logistic(*features(60, 4, 1.0), folds=3)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
