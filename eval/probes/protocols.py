"""Probes: how well a classifier reads a label off frozen embeddings. Arrays in, numbers out.

SentEval's three schemes (nested cross-validation; cross-validation on train, then test; train, dev, test) over three
classifiers. Source: Conneau & Kiela 2018 (arXiv 1803.05449) and the code it came with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from eval.probes.logistic import Regressions
from eval.probes.mlp import SEED, MlpSettings, train_many


@dataclass(frozen=True)
class Fold:
    """Numbers of the rows to train on, to predict, and to stop early by (a probe may hold out its own)."""

    train: np.ndarray
    test: np.ndarray
    dev: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """Scores in percent, rounded to two decimals where SentEval rounds."""

    acc: float  # on the test rows; of nested cross-validation the mean of the outer folds
    devacc: float  # the best mean over the values tried (nested: mean of the folds' best): optimistic
    chosen: list[float]  # the value chosen, of each outer fold
    folds: list[float]  # accuracy of each outer fold
    predicted: np.ndarray  # [test rows] labels, in the order of the rows


class Probe(Protocol):
    """A classifier with one value to choose."""

    at_once: bool  # fits at all values cost little more than at one, so that the final fits go with the search

    def grid(self, scheme: str) -> tuple[float, ...]:
        """The values tried, the first of equals wins; ``scheme`` is "nested", "kfold" or "split"."""

    def predict(self, x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], values: Sequence[float]) -> list[np.ndarray]:
        """Labels of each fold's test rows at each value: ``[values, test rows]`` a fold."""

    def protocol(self, scheme: str) -> str:
        """What it is and how the value is chosen, in a few words."""


class Logistic:
    """L2-penalised logistic regression: SentEval's scikit-learn mode, run to convergence, in float64."""

    at_once = True

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def grid(self, scheme: str) -> tuple[float, ...]:
        """C of scikit-learn: the inverse of the penalty, on the summed loss."""
        return tuple(2.0**t for t in (range(-1, 6) if scheme == "kfold" else range(-2, 4)))

    def predict(self, x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], values: Sequence[float]) -> list[np.ndarray]:
        """As :class:`Probe`."""
        trained_on = np.unique(np.concatenate([fold.train for fold in folds]))
        problem = Regressions(x, y, trained_on, self.device)
        return problem.predict([fold.train for fold in folds], [fold.test for fold in folds], values)

    def protocol(self, scheme: str) -> str:
        """As :class:`Probe`."""
        return f"logistic regression, C in {'2^-1..2^5' if scheme == 'kfold' else '2^-2..2^3'}"


class Mlp:
    """SentEval's PyTorch mode: a linear layer (``nhid`` > 0: sigmoid units before it), minibatches, early stopping."""

    at_once = False

    def __init__(self, settings: MlpSettings = MlpSettings(), device: str = "cpu") -> None:
        self.settings, self.device = settings, device

    def grid(self, scheme: str) -> tuple[float, ...]:
        """Weight decay, as torch's optimisers have it."""
        return tuple(10.0**t for t in range(-5, -1))

    def predict(self, x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], values: Sequence[float]) -> list[np.ndarray]:
        """As :class:`Probe`. A fold without dev rows holds out 5 % of its train rows."""
        rows = [(fold.train, fold.dev, fold.test) for fold in folds]
        return train_many(x, y, rows, values, self.settings, self.device)

    def protocol(self, scheme: str) -> str:
        """As :class:`Probe`."""
        s = self.settings
        return (
            f"PyTorch MLP, nhid {s.nhid}, {s.optim}, batch {s.batch_size}, tenacity {s.tenacity}, "
            f"epoch size {s.epoch_size}, weight decay in 10^-5..10^-2"
        )


class Knn:
    """The majority among the ``k`` nearest train rows by cosine; of equally many the lower label."""

    at_once = True

    def __init__(self, k: int = 10, device: str = "cpu") -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k, self.device = k, device

    def grid(self, scheme: str) -> tuple[float, ...]:
        """Nothing is chosen."""
        return (float(self.k),)

    def predict(self, x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], values: Sequence[float]) -> list[np.ndarray]:
        """As :class:`Probe`."""
        rows = torch.from_numpy(np.ascontiguousarray(x)).to(self.device, torch.float32)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        labels = torch.from_numpy(np.asarray(y, dtype=np.int64)).to(self.device)
        predictions = []
        for fold in folds:
            train = torch.from_numpy(fold.train).to(self.device)
            votes = []
            for part in torch.from_numpy(fold.test).to(self.device).split(1024):
                nearest = (rows[part] @ rows[train].T).topk(min(self.k, len(train)), dim=1).indices  # [part, k]
                votes.append(torch.nn.functional.one_hot(labels[train][nearest], int(labels.max()) + 1).sum(dim=1))
            predictions.append(torch.cat(votes).argmax(dim=1).cpu().numpy()[None].astype(np.int16))
        return predictions

    def protocol(self, scheme: str) -> str:
        """As :class:`Probe`."""
        return f"{self.k} nearest neighbours by cosine"


PROBES = {"logistic": Logistic, "mlp": Mlp, "knn": Knn}


def nested(probe: Probe, x: np.ndarray, y: np.ndarray, folds: int = 10) -> Result:
    """Nested stratified k-fold cross-validation: SentEval's InnerKFoldClassifier.

    Args:
        probe: the classifier. x: ``[n, d]`` embeddings as they are, neither centred nor scaled; y: ``[n]`` labels.
            The order of rows decides the folds.
        folds: outer and inner ones; both splitters have seed 1111 whatever else is seeded, as upstream's have.
    """
    outer = stratified(y, np.arange(len(y)), folds)
    inner = [Fold(f.train, f.test, f.test) for o in outer for f in stratified(y, o.train, folds)]
    grid = probe.grid("nested")
    tried = probe.predict(x, y, [*inner, *outer] if probe.at_once else inner, grid)
    accuracy = _accuracies(tried[: len(inner)], inner, y).reshape(folds, folds, len(grid))
    means = (100 * accuracy.mean(axis=1)).round(2)  # [outer, grid]
    best = means.argmax(axis=1)  # the first of equals
    final = tried[len(inner) :]
    if not probe.at_once:
        final = [np.empty((len(grid), len(o.test)), dtype=np.int16) for o in outer]
        for value in np.unique(best):
            chosen = [i for i in range(folds) if best[i] == value]
            for i, labels in zip(chosen, probe.predict(x, y, [outer[i] for i in chosen], [grid[value]]), strict=True):
                final[i][value] = labels[0]
    predicted = np.empty(len(y), dtype=np.int64)
    for fold, labels, value in zip(outer, final, best, strict=True):
        predicted[fold.test] = labels[value]
    scores = np.array([(100 * (predicted[o.test] == y[o.test]).mean()).round(2) for o in outer])
    return Result(
        acc=round(float(scores.mean()), 2),
        devacc=round(float(means.max(axis=1).mean()), 2),
        chosen=[grid[i] for i in best],
        folds=scores.tolist(),
        predicted=predicted,
    )


def kfold(
    probe: Probe, x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, folds: int = 10, seed: int = SEED
) -> Result:
    """Cross-validation on rows ``train``, a fit on all of them, scored on ``test``: SentEval's KFoldClassifier.

    Args:
        probe, x, y: as :func:`nested`. train, test: row numbers. folds: of the search. seed: of its splitter.
    """
    inner = [Fold(f.train, f.test, f.test) for f in stratified(y, train, folds, seed)]
    grid, last = probe.grid("kfold"), Fold(train, test)
    tried = probe.predict(x, y, [*inner, last] if probe.at_once else inner, grid)
    means = (100 * _accuracies(tried[:folds], inner, y).mean(axis=0)).round(2)
    best = int(means.argmax())
    predicted = tried[folds][best] if probe.at_once else probe.predict(x, y, [last], [grid[best]])[0][0]
    return _one(predicted, y[test], float(means[best]), grid[best])


def split(probe: Probe, x: np.ndarray, y: np.ndarray, train: np.ndarray, dev: np.ndarray, test: np.ndarray) -> Result:
    """Fits on ``train``, chosen by ``dev``, scored on ``test``: SentEval's SplitClassifier (refits on train only).

    Args:
        probe, x, y: as :func:`nested`. train, dev, test: row numbers.
    """
    grid = probe.grid("split")
    labels = probe.predict(x, y, [Fold(train, np.concatenate([dev, test]), dev)], grid)[0]
    means = (100 * (labels[:, : len(dev)] == y[dev]).mean(axis=1)).round(2)
    best = int(means.argmax())
    return _one(labels[best, len(dev) :], y[test], float(means[best]), grid[best])


def stratified(y: np.ndarray, rows: np.ndarray, folds: int, seed: int = SEED) -> list[Fold]:
    """Stratified, shuffled folds of ``rows``, as row numbers of the whole."""
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, y[rows])
    return [Fold(rows[train], rows[test]) for train, test in parts]


def _accuracies(labels: list[np.ndarray], folds: list[Fold], y: np.ndarray) -> np.ndarray:
    return np.array([(predicted == y[fold.test]).mean(axis=1) for predicted, fold in zip(labels, folds, strict=True)])


def _one(predicted: np.ndarray, y: np.ndarray, devacc: float, chosen: float) -> Result:
    acc = round(float(100 * (predicted == y).mean()), 2)
    return Result(acc, round(devacc, 2), [chosen], [acc], predicted.astype(np.int64))
