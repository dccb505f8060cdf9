"""The probes equal SentEval's loops: scikit-learn and a torch classifier driven through its folds, one by one."""

import copy
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from eval import PROBES, Fold, Logistic, kfold, nested, split, stratified
from eval.probes import Mlp, MlpSettings
from eval.probes.logistic import TOLERANCE, Regressions, _add_gram, _contrasts
from eval.probes.mlp import optimiser
from eval.probes.protocols import Knn
from sentemb.errors import InputError
from sentemb.registry import build
from tests.devices import DEVICE, numbers, zeros

pytestmark = numbers
DEVICE_NAME = str(DEVICE)
GRID = Logistic().grid("nested")


def features(n: int, d: int, scale: float, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of decaying variance, off centre, and noisy labels of uneven classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 4) * scale + scale
    signal = x @ rng.normal(size=d)
    noisy = (signal - signal.mean()) / signal.std() + rng.normal(size=n)
    return x, np.digitize(noisy, np.linspace(-0.5, 0.4, classes - 1) if classes > 2 else [0.4]).astype(np.int64)


def fit(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    solver = "newton-cholesky" if len(np.unique(y)) == 2 else "lbfgs"
    return LogisticRegression(C=c, solver=solver, tol=1e-10, max_iter=20_000).fit(x, y)


def nested_by_loops(x: np.ndarray, y: np.ndarray, folds: int) -> tuple[float, float, list[float], list[float]]:
    """SentEval's InnerKFoldClassifier in scikit-learn mode, one fit after another, converged tightly."""
    chosen, scores, dev = [], [], []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=1111).split(x, y):
        means = []
        for c in GRID:
            inner = StratifiedKFold(folds, shuffle=True, random_state=1111).split(x[train], y[train])
            accuracies = [fit(x[train][a], y[train][a], c).score(x[train][b], y[train][b]) for a, b in inner]
            means.append(round(100 * float(np.mean(accuracies)), 2))
        best = GRID[int(np.argmax(means))]
        chosen.append(best)
        dev.append(max(means))
        scores.append(round(100 * fit(x[train], y[train], best).score(x[test], y[test]), 2))
    return round(float(np.mean(scores)), 2), round(float(np.mean(dev)), 2), chosen, scores


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_nested_cross_validation_equals_scikit_learns(scale):
    x, y = features(300, 12, scale)
    scores = nested(Logistic(DEVICE_NAME), x, y, folds=5)
    assert (scores.acc, scores.devacc, scores.chosen, scores.folds) == nested_by_loops(x, y, 5)
    assert 100 * (scores.predicted == y).mean() == pytest.approx(scores.acc, abs=0.5)


@pytest.mark.parametrize("probe", [Logistic(DEVICE_NAME), Mlp(device=DEVICE_NAME), Knn(1, DEVICE_NAME)])
def test_labels_beyond_a_byte_are_told(probe):
    y = np.arange(300) % 150
    fold = Fold(np.arange(150), np.arange(150), np.arange(150, 300))
    (labels,) = probe.predict(20 * np.eye(150)[y], y, [fold], probe.grid("kfold")[:1])
    assert labels[0].min() >= 0 and labels[0].max() >= 128


@pytest.mark.parametrize("classes", [2, 4])
def test_cross_validation_on_train_then_test_equals_scikit_learns(classes):
    x, y = features(400, 10, 1.0, classes)
    train, test = np.arange(300), np.arange(300, 400)
    means = []
    grid = [2.0**t for t in range(-1, 6)]
    for c in grid:
        inner = StratifiedKFold(5, shuffle=True, random_state=7).split(x[train], y[train])
        means.append(round(100 * float(np.mean([fit(x[a], y[a], c).score(x[b], y[b]) for a, b in inner])), 2))
    best = grid[int(np.argmax(means))]
    model = fit(x[train], y[train], best)
    scores = kfold(Logistic(DEVICE_NAME), x, y, train, test, folds=5, seed=7)
    assert scores.chosen == [best] and scores.devacc == max(means)
    assert scores.predicted.tolist() == model.predict(x[test]).tolist()
    assert scores.acc == round(100 * model.score(x[test], y[test]), 2)


@pytest.mark.parametrize("classes", [2, 3])
def test_train_dev_test_equals_scikit_learns(classes):
    x, y = features(400, 10, 0.3, classes)
    train, dev, test = np.arange(200), np.arange(200, 300), np.arange(300, 400)
    means = [round(100 * fit(x[train], y[train], c).score(x[dev], y[dev]), 2) for c in GRID]
    best = GRID[int(np.argmax(means))]
    scores = split(Logistic(DEVICE_NAME), x, y, train, dev, test)
    assert (scores.chosen, scores.devacc) == ([best], max(means))
    assert scores.predicted.tolist() == fit(x[train], y[train], best).predict(x[test]).tolist()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("c", [GRID[0], 32.0])
@pytest.mark.parametrize(("n", "d"), [(400, 30), (80, 150)])  # also more features than rows
def test_decision_values_equal_scikit_learns(n, d, c, classes):
    x, y = features(n, d, 0.5, classes)
    rows = np.random.default_rng(1).permutation(n)[: n * 3 // 4]
    problem = Regressions(x, y, rows, DEVICE_NAME)
    start = zeros(2, problem.columns, problem.z.shape[1], dtype=torch.float64)
    guide = problem.guide(problem.curvature(start[:1]), c)
    weights, _, done = problem.solve([np.arange(len(rows))] * 2, c, start, guide)
    assert done
    got = problem._scores(problem.z[problem.place], weights).permute(2, 1, 0).cpu().numpy()  # [n, classes, 2]
    expected = fit(x[rows], y[rows], c).decision_function(x).reshape(n, -1)
    size = max(1, np.abs(expected[rows]).max())
    centred = got - got.mean(axis=1, keepdims=True) if classes > 2 else got
    expected = expected - expected.mean(axis=1, keepdims=True) if classes > 2 else expected
    assert np.abs(centred[rows, :, 0] - expected[rows]).max() < 1e-3 * size
    assert np.abs(got[..., 0] - got[..., 1]).max() < TOLERANCE * size  # (two rows of one product are summed apart)
    aside = np.setdiff1d(np.arange(n), rows)
    assert np.abs(centred[aside, :, 0] - expected[aside]).max() < 1e-3 * max(size, np.abs(expected[aside]).max())


@pytest.mark.parametrize("scale", [0.05, 1.0, 1000.0])
def test_solutions_are_as_near_as_promised_in_double_precision(scale):
    """Newton's decrement, by NumPy and with each fit's own Hessian: what the objective may still fall by, twice."""
    x, y = features(600, 40, scale)
    problem = Regressions(x, y, np.arange(600), DEVICE_NAME)
    folds = [fold.train for fold in stratified(y, np.arange(600), 5)]
    c, start = 8.0, zeros(5, 1, problem.z.shape[1], dtype=torch.float64)
    guide = problem.guide(problem.curvature(start[:1]), c, 0.8)
    weights, _, done = problem.solve(folds, c, start, guide)
    assert done
    z, penalty = problem.z.cpu().numpy(), np.append(np.ones(problem.z.shape[1] - 1), 0)
    for rows, w in zip(folds, weights[:, 0].cpu().numpy(), strict=True):
        chance = 1 / (1 + np.exp(-z[rows] @ w))
        slope = penalty * w + c * z[rows].T @ (chance - y[rows])
        hessian = np.diag(penalty) + c * (z[rows].T * (chance * (1 - chance))) @ z[rows]
        assert slope @ np.linalg.solve(hessian, slope) <= 4 * TOLERANCE**2


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rows_of_hessian", [9, 10_000])  # 3 axes of four classes, 9 of two; all axes
def test_a_guide_divides_by_the_hessian(classes, rows_of_hessian, monkeypatch):
    """Against the derivative of the slope, taken by autograd of the formula of the objective."""
    monkeypatch.setattr("eval.probes.logistic.LARGEST", rows_of_hessian)
    x, y = features(60, 11, 0.1, classes)
    problem = Regressions(x, y, np.arange(60), DEVICE_NAME)
    k, wide, c = classes - 1, problem.z.shape[1], 2.0
    z, labels = problem.z.cpu(), torch.from_numpy(y)[problem.place.argsort()]
    basis = problem.contrasts.cpu()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        scores = z @ flat.view(k, wide).T
        if classes == 2:
            return nn.functional.binary_cross_entropy_with_logits(scores[:, 0], labels.double(), reduction="sum")
        return nn.functional.cross_entropy(scores @ basis.T, labels, reduction="sum")

    at = 0.3 * torch.from_numpy(np.random.default_rng(4).normal(size=k * wide))
    hessian = c * torch.autograd.functional.hessian(loss, at)
    penalty = torch.ones(k, wide, dtype=torch.float64)
    penalty[:, -1] = 1e-3 * c * 60  # of the intercept, see Regressions.guide
    hessian += torch.diag(penalty.flatten())
    last = torch.arange(k * wide).view(k, wide)[:, -min(wide, rows_of_hessian // k) :].flatten()
    expected = torch.diag(hessian.diagonal())
    expected[last[:, None], last] = hessian[last[:, None], last]
    q = torch.from_numpy(np.random.default_rng(5).normal(size=(3, k * wide)))
    weights = at.view(1, k, wide).to(problem.device)
    got = problem.guide(problem.curvature(weights), c).divide(q.view(3, k, wide).to(problem.device))
    assert torch.allclose(got.flatten(1).cpu(), torch.linalg.solve(expected, q.T).T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_first_hessian_is_a_diagonal(classes):
    problem = Regressions(*features(80, 12, 1.0, classes), np.arange(80), DEVICE_NAME)
    q = torch.ones(1, classes - 1, 13, dtype=torch.float64, device=problem.device)
    zero = torch.zeros_like(q)
    expected = problem.guide(problem.curvature(zero), 1.0).divide(q)
    assert torch.allclose(problem.guide(problem.curvature_at_zero(), 1.0).divide(q), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_contrasts_are_an_orthonormal_basis_of_weights_that_sum_to_zero(classes):
    basis = _contrasts(classes)
    assert torch.allclose(basis.T @ basis, torch.eye(classes - 1, dtype=torch.float64))
    assert basis.sum(dim=0).abs().max() < 1e-12


@pytest.mark.parametrize("width", [3, 4, 100])
def test_weighted_gram_by_blocks_equals_the_product(width):
    rng = np.random.default_rng(0)
    rows, weights = torch.from_numpy(rng.normal(size=(20, 8))), torch.from_numpy(rng.uniform(size=20))
    total = torch.ones(8, 8, dtype=torch.float64)
    _add_gram(total, rows, weights, width)
    assert torch.allclose(total, 1 + rows.T @ torch.diag(weights) @ rows)


def test_rows_may_come_in_any_order_and_some_are_never_trained_on():
    x, y = features(300, 12, 1.0, 3)
    order = np.random.default_rng(2).permutation(300)
    train, test = order[:180], order[150:]
    (predictions,) = Regressions(x, y, np.sort(train), DEVICE_NAME).predict([train], [test], [4.0, 0.5])
    for c, labels in zip([4.0, 0.5], predictions, strict=True):
        assert labels.tolist() == fit(x[train], y[train], c).predict(x[test]).tolist()


def test_many_fits_equal_each_alone(monkeypatch):
    x, y = features(200, 10, 1.0, 3)
    rows = [np.arange(0, 150), np.arange(50, 200), np.arange(0, 200, 2)]
    together = Regressions(x, y, np.arange(200), DEVICE_NAME).predict(rows, rows, GRID)
    monkeypatch.setattr("eval.probes.logistic.BUDGET", 1)  # a fit a block
    monkeypatch.setattr("eval.probes.logistic.LARGEST", 8)  # a Hessian of four axes, a diagonal of the others
    one_by_one = Regressions(x, y, np.arange(200), DEVICE_NAME).predict(rows, rows, GRID)
    for row, a, b in zip(rows, together, one_by_one, strict=True):
        alone = Regressions(x, y, row, DEVICE_NAME).predict([row], [row], GRID)[0]
        assert np.array_equal(a, b) and np.array_equal(a, alone)


@pytest.mark.parametrize(
    "probe", [Logistic(DEVICE_NAME), Knn(3, DEVICE_NAME), Mlp(MlpSettings(optim="adam,lr=0.1"), DEVICE_NAME)]
)
def test_collapsed_and_separable_features(probe):
    y = np.arange(100) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nested(probe, np.zeros((100, 3)), y, folds=5).acc == 50.0
        assert nested(probe, np.eye(2)[y] * 100.0, y, folds=5).acc == 100.0


def test_ties_choose_the_smallest_c():
    assert set(nested(Logistic(DEVICE_NAME), np.zeros((50, 2)), np.arange(50) % 2, folds=5).chosen) == {GRID[0]}


@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("scale", [1e-6, 30.0, 1e4])
def test_features_of_any_scale_converge_to_the_same_objective(scale, classes):
    x, y = features(300, 20, 1.0, classes)
    rows, test = np.arange(200), np.arange(200, 300)
    x = x * scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (predictions,) = Regressions(x, y, rows, DEVICE_NAME).predict([rows], [test], [0.25, 32.0])
    if scale < 1e3:  # beyond that scikit-learn's own solvers do not converge
        for c, labels in zip([0.25, 32.0], predictions, strict=True):
            model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(x[rows], y[rows])
            assert (labels == model.predict(x[test])).mean() >= 0.99


def test_a_huge_column_does_not_hide_the_others():
    x, y = features(300, 3, 1.0)
    x = np.concatenate([x, 1e7 * np.random.default_rng(5).normal(size=(300, 1))], axis=1).astype(np.float32)
    rows, test = np.arange(200), np.arange(200, 300)
    (predictions,) = Regressions(x, y, rows, DEVICE_NAME).predict([rows], [test], [1.0])
    small = fit(x[rows, :3], y[rows], 1.0).predict(x[test, :3])
    assert (predictions[0] == small).mean() >= 0.95


def upstream_mlp(
    x: np.ndarray, y: np.ndarray, fold: Fold, decay: float, seed: int = 1111, nhid: int = 0, dropout: float = 0.0
) -> np.ndarray:
    """One fit as SentEval's classifier makes it, by nn.Linear and torch.optim, with the global generators seeded."""
    state, torch_state = np.random.get_state(), torch.get_rng_state()
    np.random.seed(seed)
    torch.manual_seed(seed)
    data = torch.from_numpy(x).float()
    classes = int(y.max()) + 1
    layers = [nn.Linear(x.shape[1], nhid or classes)]  # drawn in this order
    layers += [nn.Dropout(dropout), nn.Sigmoid(), nn.Linear(nhid, classes)] if nhid else []
    model = nn.Sequential(*layers)
    adam = torch.optim.Adam(model.parameters(), weight_decay=decay)
    train, dev = fold.train, fold.dev
    if dev is None:
        order = np.random.permutation(len(train))
        held = int(0.05 * len(train))
        train, dev = fold.train[order[held:]], fold.train[order[:held]]
    best, count, passes, stop, best_model = -1.0, 0, 0, False, None
    while not stop and passes <= 12:
        model.train()
        for _ in range(2):
            order = np.random.permutation(len(train))
            for first in range(0, len(train), 16):
                rows = train[order[first : first + 16]]
                loss = nn.functional.cross_entropy(model(data[rows]), torch.from_numpy(y[rows]))
                adam.zero_grad()
                loss.backward()
                adam.step()
        passes += 2
        model.eval()
        accuracy = (model(data[dev]).argmax(1).numpy() == y[dev]).mean()
        if accuracy > best:
            best, best_model = accuracy, copy.deepcopy(model)
        else:
            if count >= 1:
                stop = True
            count += 1
    np.random.set_state(state)
    torch.set_rng_state(torch_state)
    return best_model(data[fold.test]).argmax(1).numpy()


@pytest.mark.parametrize(("nhid", "dropout"), [(0, 0.0), (5, 0.0), (5, 0.3)])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_mlp_probe_equals_upstreams_fits_one_by_one(classes, nhid, dropout):
    x, y = features(150, 6, 1.0, classes)
    settings = MlpSettings(nhid, batch_size=16, tenacity=1, epoch_size=2, max_epoch=12, dropout=dropout)
    probe = Mlp(settings, DEVICE_NAME)
    inner = [Fold(f.train, f.test, f.test) for f in stratified(y, np.arange(141), 4)]
    folds = [*inner, Fold(np.arange(100), np.arange(100, 150)), Fold(np.arange(20, 120), np.arange(20))]
    predictions = probe.predict(x, y, folds, [1e-5, 1e-2])
    for fold, labels in zip(folds, predictions, strict=True):
        for value, got in zip([1e-5, 1e-2], labels, strict=True):
            expected = upstream_mlp(x, y, fold, value, nhid=nhid, dropout=dropout)
            assert (got != expected).sum() <= 1  # (in float32 a row on the border may fall to either side)


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_equals_scikit_learns(k):
    x, y = features(150, 6, 1.0, 3)
    fold = Fold(np.arange(100), np.arange(100, 150))
    model = KNeighborsClassifier(min(k, 100), metric="cosine", algorithm="brute").fit(x[:100], y[:100])
    assert Knn(k, DEVICE_NAME).predict(x, y, [fold], [0.0])[0][0].tolist() == model.predict(x[100:]).tolist()


@pytest.mark.parametrize("spec", PROBES)
def test_random_states_are_left_alone_and_results_repeat(spec):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    x, y = features(60, 4, 1.0)
    first, second = (nested(build(PROBES, spec, "probe", device=DEVICE_NAME), x, y, folds=3) for _ in range(2))
    assert first.predicted.tolist() == second.predicted.tolist() and first.acc == second.acc
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mlp:nhid=-1", "nhid"),
        ("mlp:optim=adamm", "unknown optim 'adamm'"),
        ("mlp:seed=-1", "seed must be between"),
        ("mlp:dropout=0.5", "dropout applies to hidden units"),
        ("mlp:optim=sgd", "needs its learning rate"),
        ("knn:k=0", "k must be at least 1"),
        ("logistc", "did you mean 'logistic'"),
        ("logistic:device=cpu", "unknown option"),
    ],
)
def test_wrong_probes_are_told(spec, message):
    with pytest.raises(InputError, match=message):
        build(PROBES, spec, "probe", device="cpu")


def test_an_optimisers_settings_stand_in_quotes():
    assert build(PROBES, 'mlp:optim="adam,lr=0.01",nhid=3', "probe").settings.optim == "adam,lr=0.01"


def test_optimisers_read_as_sentevals():
    assert optimiser("sgd,lr=0.1") == (torch.optim.SGD, {"lr": 0.1})
    for wrong in ("sgd,lr", "sgd,rate=1"):
        with pytest.raises(ValueError, match="optim"):
            optimiser(wrong)
