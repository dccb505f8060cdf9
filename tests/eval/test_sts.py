"""Correlations, their three aggregates, and the regressor of Tai et al., against slow forms of each."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

from eval.probes import RegressorSettings, regress
from eval.probes.relatedness import encode_scores
from eval.sts import aggregate, correlate, cosines
from tests.devices import COARSE, DEVICE, numbers


def test_cosines_by_hand():
    u = np.array([[1.0, 0], [3, 4], [0, 0], [1e30, 1e30]], dtype=np.float32)
    v = np.array([[0, 2.0], [6, 8], [1, 1], [1e30, 1e30]], dtype=np.float32)
    assert cosines(u, v) == pytest.approx([0, 1, 0, 1])


def test_ties_take_mean_ranks_and_constants_are_zero():
    correlation = correlate(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4]))
    assert correlation.spearman == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1])
    constant = correlate(np.ones(4), np.array([1.0, 2, 3, 4]))
    assert (constant.pearson, constant.spearman) == (0, 0)


def test_all_mean_and_weighted_mean():
    rng = np.random.default_rng(0)
    gold = {"a": rng.normal(size=20), "b": rng.normal(size=60)}
    subsets = {name: (g + rng.normal(size=len(g)), g) for name, g in gold.items()}
    aggregated = aggregate(subsets)
    each = [spearmanr(*pair).statistic for pair in subsets.values()]
    scores, joined = (np.concatenate([pair[i] for pair in subsets.values()]) for i in (0, 1))
    assert aggregated["spearman"] == pytest.approx(100 * spearmanr(scores, joined).statistic)
    assert aggregated["pearson"] == pytest.approx(100 * pearsonr(scores, joined).statistic)
    assert aggregated["spearman_mean"] == pytest.approx(100 * sum(each) / 2)
    assert aggregated["spearman_wmean"] == pytest.approx(100 * (each[0] * 20 + each[1] * 60) / 80)
    assert aggregated["n"] == 80 and aggregated["subsets"]["b"]["n"] == 60


def test_scores_are_shares_of_their_neighbours():
    assert encode_scores(np.array([1.0, 3.25, 5.0, 0.5])) == pytest.approx(
        np.array([[1, 0, 0, 0, 0], [0, 0, 0.75, 0.25, 0], [0, 0, 0, 0, 1], [0.5, 0, 0, 0, 0]])
    )


def by_autograd(train, dev, test, seed: int, passes: int) -> tuple[np.ndarray, float]:
    """SentEval's regressor with nn.Linear, autograd and the global generators."""
    state, torch_state = np.random.get_state(), torch.get_rng_state()
    np.random.seed(seed)
    torch.manual_seed(seed)
    x, dev_x, test_x = (torch.from_numpy(a).float() for a in (train[0], dev[0], test))
    y = torch.from_numpy(encode_scores(train[1]))
    model = nn.Sequential(nn.Linear(x.shape[1], 5), nn.Softmax(dim=-1))
    adam = torch.optim.Adam(model.parameters())
    scale, best, count, done, stop = np.arange(1, 6), -1.0, 0, 0, False
    while not stop and done <= passes:
        for _ in range(5):
            order = np.random.permutation(len(x))
            for first in range(0, len(x), 16):
                rows = order[first : first + 16]
                loss = nn.functional.mse_loss(model(x[rows]), y[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
        done += 5
        pearson = pearsonr(model(dev_x).detach().numpy() @ scale, dev[1]).statistic
        if pearson > best:
            best, best_model = pearson, copy.deepcopy(model)
        else:
            if count >= 1:
                stop = True
            count += 1
    np.random.set_state(state)
    torch.set_rng_state(torch_state)
    return best_model(test_x).detach().numpy() @ scale, best


@numbers
def test_the_regressor_equals_autograds_and_leaves_random_states_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(130, 7))
    gold = (3 + x @ rng.normal(size=7) / 2 + rng.normal(size=130) / 3).clip(1, 5)
    train, dev, test = (x[:70], gold[:70]), (x[70:100], gold[70:100]), x[100:]
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    regression = regress(train, dev, test, RegressorSettings(5, 16, 5, 1, 60), str(DEVICE))
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    predicted, best = by_autograd(train, dev, test, seed=5, passes=60)
    assert regression.predicted == pytest.approx(predicted, abs=COARSE) and regression.devpearson == pytest.approx(
        best, abs=COARSE
    )
    assert correlate(regression.predicted, gold[100:]).pearson > 0.5
