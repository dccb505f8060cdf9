"""Probes: how well a linear classifier reads a label off frozen embeddings. Arrays in, numbers out.

SentEval's logistic regression (its scikit-learn mode) needs 610 fits for a nested 10-fold task. They differ only in
their rows and their C, so they are solved together, as columns of matrix products.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor
from torch.nn.functional import logsigmoid

GRID = tuple(2.0**t for t in range(-2, 4))  # C of scikit-learn: the inverse of the penalty, on the summed loss


@dataclass(frozen=True)
class Result:
    """Scores of a nested cross-validation, in percent, rounded as SentEval does."""

    acc: float  # mean accuracy of the outer test folds
    devacc: float  # mean over the outer folds of the best inner accuracy: optimistic
    chosen: list[float]  # C of each outer fold
    folds: list[float]  # accuracy of each outer test fold


def nested_logistic(x: np.ndarray, y: np.ndarray, folds: int = 10, seed: int = 1111) -> Result:
    """Nested stratified k-fold logistic regression: SentEval's InnerKFoldClassifier in scikit-learn mode.

    Args:
        x: ``[n, d]`` embeddings as they are: neither centred nor scaled; y: ``[n]`` labels 0 and 1.
            The order of rows decides the folds.
        folds: outer and inner ones. seed: of both splitters (SentEval fixes 1111).

    Returns:
        The scores; the best C is the first of those with the highest inner mean, rounded to two decimals.
    """
    outer = list(_stratified(y, np.arange(len(y)), folds, seed))
    inner = [list(_stratified(y, train, folds, seed)) for train, _ in outer]
    problem = Logistic(x, y)
    splits = [split for fold in inner for split in fold]
    accuracy = problem.accuracies([train for train, _ in splits], [test for _, test in splits], GRID)
    means = (100 * accuracy.reshape(folds, folds, len(GRID)).mean(axis=1)).round(2)  # [outer, C]
    best = means.argmax(axis=1)  # ties go to the smallest C
    refits = problem.accuracies([train for train, _ in outer], [test for _, test in outer], GRID)
    scores = (100 * refits[np.arange(folds), best]).round(2)
    return Result(
        acc=round(float(scores.mean()), 2),
        devacc=round(float(means.max(axis=1).mean()), 2),
        chosen=[GRID[i] for i in best],
        folds=[float(s) for s in scores],
    )


def _stratified(y: np.ndarray, rows: np.ndarray, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, y[rows]):
        yield rows[train], rows[test]


class Logistic:
    """Many L2-penalised logistic regressions over subsets of one matrix, solved together.

    Each minimises ||w||^2 / 2 + C * sum over its rows of log(1 + exp(-s (w.x + b))), s = +-1, the intercept b
    unpenalised (scikit-learn's objective). The matrix is centred (b takes it up) and turned to its principal axes once,
    where the bound C/4 * Gram + 1 on every fit's Hessian (Boehning 1992) is diagonal; in the coordinates it scales,
    curvature is at most 1 and L-BFGS needs a few dozen rounds. float64 throughout.

    Memory beside x: about (10 n + 2 history d) * block * 8 bytes for ``block`` fits at a time.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, block: int = 240) -> None:
        features = torch.from_numpy(np.asarray(x, dtype=np.float64))
        centred = features - features.mean(dim=0)
        gram, axes = torch.linalg.eigh(centred.T @ centred)  # ascending, [d] and [d, d]
        self.z = torch.cat([centred @ axes, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)  # [n, d + 1]
        self.curvature = torch.cat([gram.clamp_min(0), gram.new_tensor([float(len(x))])])[:, None] / 4  # [d + 1, 1]
        self.penalised = torch.ones_like(self.curvature)
        self.penalised[-1] = 0
        self.y = np.asarray(y)
        self.sign = torch.from_numpy(np.where(self.y > 0, 1.0, -1.0))[:, None]  # [n, 1]
        self.block = block

    def accuracies(self, train: list[np.ndarray], test: list[np.ndarray], grid: tuple[float, ...]) -> np.ndarray:
        """Accuracy of each split at each C, ``[splits, C]``, in [0, 1]."""
        fits = [(split, c) for split in range(len(train)) for c in grid]
        scores = []
        for start in range(0, len(fits), self.block):
            here = fits[start : start + self.block]
            inside = torch.zeros(len(self.y), len(here), dtype=torch.float64)
            for column, (split, _) in enumerate(here):
                inside[train[split], column] = 1
            weights = self.solve(inside, torch.tensor([c for _, c in here], dtype=torch.float64))
            right = ((self.z @ weights > 0) == (self.sign > 0)).numpy()  # [n, fits]
            scores += [right[test[split], column].mean() for column, (split, _) in enumerate(here)]
        return np.array(scores).reshape(len(train), len(grid))

    def solve(self, inside: Tensor, c: Tensor, tolerance: float = 1e-4, rounds: int = 500, history: int = 10) -> Tensor:
        """Weights ``[d + 1, fits]`` (intercept last, principal axes) of the fits.

        Args:
            inside: ``[n, fits]``, 1 where a row belongs to a fit. c: ``[fits]``.
            tolerance: on the norm of the gradient in the scaled coordinates, whose half square is about the
                distance of the summed loss from its minimum: 1e-4 leaves some 1e-8.
            rounds: the most evaluations. history: L-BFGS pairs kept.
        """
        scale = (self.penalised + c * self.curvature).rsqrt()  # [d + 1, fits]
        answer = torch.zeros_like(scale)
        left = torch.arange(len(c))  # fits that are still worked on
        at = torch.zeros_like(scale)
        value, slope = self._evaluate(at, inside, c, scale)
        direction, length = -slope, torch.ones_like(c)
        moves: list[tuple[Tensor, Tensor, Tensor]] = []  # (step, change of slope, 1 / their product), newest last
        for _ in range(rounds):
            trial = at + length * direction
            trial_value, trial_slope = self._evaluate(trial, inside, c, scale)
            enough = trial_value <= value + 1e-4 * length * (direction * slope).sum(dim=0) + 1e-12 * value.abs()
            moved = torch.where(enough, trial - at, 0)  # [d + 1, fits]; a refused fit stays and tries half as far
            turned = torch.where(enough, trial_slope - slope, 0)
            product = (moved * turned).sum(dim=0)
            moves.append((moved, turned, torch.where(product > 0, 1 / product.clamp_min(1e-300), 0)))
            moves = moves[-history:]
            at, value = at + moved, torch.where(enough, trial_value, value)
            slope = slope + turned
            direction = torch.where(enough, _lbfgs_direction(slope, moves), direction)
            length = torch.where(enough, 1.0, length / 2)
            busy = slope.norm(dim=0) > tolerance
            if busy.sum() <= 0.7 * len(busy):  # leave the finished ones behind
                answer[:, left[~busy]] = (at * scale)[:, ~busy]
                if not busy.any():
                    return answer
                left, inside, c, scale = left[busy], inside[:, busy], c[busy], scale[:, busy]
                at, value, slope = at[:, busy], value[busy], slope[:, busy]
                direction, length = direction[:, busy], length[busy]
                moves = [(s[:, busy], y[:, busy], r[busy]) for s, y, r in moves]
        answer[:, left] = at * scale
        return answer

    def _evaluate(self, at: Tensor, inside: Tensor, c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Objective ``[fits]`` and its gradient ``[d + 1, fits]`` in the scaled coordinates."""
        weights = at * scale
        margin = self.z @ weights * self.sign  # [n, fits]
        loss = -(logsigmoid(margin) * inside).sum(dim=0)
        pull = torch.sigmoid(-margin).mul_(inside).mul_(self.sign)
        kept = weights * self.penalised
        return kept.square().sum(dim=0) / 2 + c * loss, (kept - c * (self.z.T @ pull)) * scale


def _lbfgs_direction(slope: Tensor, moves: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Two-loop recursion (Nocedal 1980), a column a fit; a fit that did not move has zero pairs, which do nothing."""
    q, steps = -slope, []
    for moved, turned, inverse in reversed(moves):
        a = inverse * (moved * q).sum(dim=0)
        q = q - a * turned
        steps.append(a)
    moved, turned, inverse = moves[-1]
    size = turned.square().sum(dim=0) * inverse
    q = q * torch.where(size > 0, 1 / size.clamp_min(1e-300), 1.0)
    for (moved, turned, inverse), a in zip(moves, reversed(steps), strict=True):
        q = q + moved * (a - inverse * (turned * q).sum(dim=0))
    return q
