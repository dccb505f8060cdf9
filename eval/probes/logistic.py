"""Many logistic regressions over subsets of one matrix, solved together as columns of matrix products.

A nested 10-fold search is 610 fits that differ only in their rows and their C. All fits of one C start from the
solution on all rows, which is near, and share a preconditioner taken there.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

BUDGET = 512 * 2**20  # bytes that a block of fits may work in
LARGEST = 5000  # rows of a Hessian of all classes; beyond that each class has its own
Moves = list[tuple[Tensor, Tensor, Tensor]]  # (step, change of slope, 1 / their product), newest last


class Regressions:
    """L2-penalised logistic regressions on rows of ``x``: scikit-learn's objective and its solution, in float64.

    Two classes: minimise ||w||^2 / 2 + C sum log(1 + exp(-s (w.x + b))), s = +-1. More: softmax with a column of w a
    class. The intercept b is not penalised. ``x`` is centred (b takes it up) and turned to the principal axes of the
    rows that are ever trained on: a rotation leaves the penalty as it is, and what lies outside their span, where there
    are fewer rows than columns, gets no weight.

    Memory beside ``x``, in bytes: 8 n (r + 1) for the turned matrix, r <= min(d, rows trained on); 40 min(d, rows)^2
    while it is turned; 24 (r + 1)^2 k for Hessians (k columns: 1 for two classes, else K; times k where k (r + 1) is
    at most LARGEST); and BUDGET for the fits, as many at once as fit in it: one takes 8 k (6 n + 25 r).
    With d = 4,800 and n = 67,349: 2.6 + 0.7 + 0.5 GB.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, trained_on: np.ndarray, device: str = "cpu") -> None:
        """``x``: ``[n, d]``; ``y``: ``[n]`` labels 0 .. K - 1; ``trained_on``: numbers of the rows of any fit."""
        self.device = torch.device("cpu" if device == "mps" else device)  # mps has no float64
        self.z = _principal(torch.from_numpy(np.ascontiguousarray(x)), trained_on, self.device)  # [n, r + 1]
        self.y = torch.from_numpy(np.asarray(y, dtype=np.int64)).to(self.device)
        classes = int(self.y.max()) + 1
        self.columns = 1 if classes == 2 else classes  # k
        self.sign = (2.0 * self.y - 1)[:, None, None].double()  # of two classes
        self.trained_on = torch.from_numpy(trained_on).to(self.device)
        self.penalty = self.z.new_ones(self.z.shape[1], 1, 1)
        self.penalty[-1] = 0

    def predict(
        self, trains: Sequence[np.ndarray], tests: Sequence[np.ndarray], grid: Sequence[float]
    ) -> list[np.ndarray]:
        """Predicted labels of each fold's test rows at each C of ``grid``: a ``[C, test rows]`` int8 array a fold."""
        predictions = [np.empty((len(grid), len(test)), dtype=np.int8) for test in tests]
        centre = self.z.new_zeros(len(self.penalty), self.columns, 1)
        size = max(1, BUDGET // (8 * self.columns * (6 * len(self.y) + 25 * len(self.penalty))))
        order = sorted(range(len(grid)), key=lambda i: grid[i])
        inverse = self.inverse_hessian(centre, grid[order[0]])
        for number in order:
            c = self.z.new_tensor([grid[number]])
            # The solution on all rows at the C before is a start for this one, which is a start for its folds.
            for _ in range(50):
                centre, done = self.solve([self.trained_on], c, centre, inverse, rounds=30)
                inverse = self.inverse_hessian(centre, grid[number])
                if done:
                    break
            for first in range(0, len(trains), size):
                rows = [torch.from_numpy(train).to(self.device) for train in trains[first : first + size]]
                weights, done = self.solve(rows, c.expand(len(rows)), centre.expand(-1, -1, len(rows)), inverse)
                if not done:
                    warnings.warn(f"logistic regressions at C = {grid[number]} did not converge", stacklevel=2)
                labels = self._label(self._scores(weights)).cpu().numpy()  # [n, fits]
                for column in range(len(rows)):
                    predictions[first + column][number] = labels[tests[first + column], column]
        return predictions

    def solve(
        self,
        rows: Sequence[Tensor],
        c: Tensor,
        start: Tensor,
        inverse: Tensor,
        tolerance: float = 1e-5,
        rounds: int = 1000,
        history: int = 10,
    ) -> tuple[Tensor, bool]:
        """Weights ``[r + 1, k, fits]`` (intercept last, principal axes) of the fits, by L-BFGS (Nocedal 1980).

        The second value is whether all converged.

        Args:
            rows: numbers of each fit's rows. c: ``[fits]``. start: where to begin, shaped as the answer.
            inverse: a guess of the Hessians' inverse, see :meth:`inverse_hessian`.
            tolerance: the square of it is how far the objective may be from its minimum, by the quasi-Newton model.
            rounds: the most evaluations. history: pairs kept.
        """
        inside = self.z.new_zeros(len(self.y), len(rows))  # [n, fits]
        for column, members in enumerate(rows):
            inside[members, column] = 1
        at = start.clone()
        answer = torch.zeros_like(at)
        left = torch.arange(len(rows), device=self.device)  # fits that are still worked on
        value, slope = self._evaluate(at, inside, c)
        moves: Moves = []
        direction, length = _direction(slope, moves, inverse), torch.ones_like(value)
        for _ in range(rounds):
            trial = at + length * direction
            trial_value, trial_slope = self._evaluate(trial, inside, c)
            enough = trial_value <= value + 1e-4 * length * _dot(direction, slope) + 1e-12 * value.abs()
            moved = torch.where(enough, trial - at, 0)  # a refused fit stays and tries half as far
            turned = torch.where(enough, trial_slope - slope, 0)
            product = _dot(moved, turned)
            moves.append((moved, turned, torch.where(product > 0, 1 / product.clamp_min(1e-300), 0)))
            moves = moves[-history:]
            at, value, slope = at + moved, torch.where(enough, trial_value, value), slope + turned
            ahead = _direction(slope, moves, inverse)
            busy = ~enough | (-_dot(ahead, slope) > tolerance**2)
            direction = torch.where(enough, ahead, direction)
            length = torch.where(enough, 1.0, length / 2)
            if busy.sum() <= 0.7 * len(busy):  # leave the finished ones behind
                answer[..., left[~busy]] = at[..., ~busy]
                if not busy.any():
                    return answer, True
                left, inside, c, value, length = left[busy], inside[:, busy], c[busy], value[busy], length[busy]
                at, slope, direction = at[..., busy], slope[..., busy], direction[..., busy]
                moves = [(s[..., busy], y[..., busy], r[busy]) for s, y, r in moves]
        answer[..., left] = at
        return answer, False

    def inverse_hessian(self, weights: Tensor, c: float) -> Tensor:
        """Inverse Hessian ``[g, m, m]``, ``g m = k (r + 1)``, of a fit on all rows at ``weights`` ``[r + 1, k, 1]``.

        Whole (g = 1) where it has at most LARGEST rows, else a block a class. Of very many rows, some are enough.
        """
        for kind in (torch.float32, torch.float64):  # it only guides; on principal axes single precision mostly will do
            factor, failed = torch.linalg.cholesky_ex(self._hessian(weights, c, kind))
            if not failed.any():
                break
        return torch.cholesky_inverse(factor).double()

    def _hessian(self, weights: Tensor, c: float, kind: torch.dtype) -> Tensor:
        k, wide = self.columns, self.z.shape[1]
        step = max(1, len(self.trained_on) // (16 * k * wide))
        rows = self.trained_on[::step]
        is_joint = k * wide <= LARGEST
        hessian = torch.zeros((k, wide, k, wide) if is_joint else (k, wide, wide), dtype=kind, device=self.device)
        for part in rows.split(8192):
            scores = self.z[part] @ weights[..., 0]  # [rows, k]
            chance = (torch.sigmoid(scores) if k == 1 else torch.softmax(scores, dim=1)).to(kind)
            z = self.z[part].to(kind)
            for i in range(k):
                for j in range(i + 1) if is_joint else (i,):
                    spread = c * step * chance[:, i] * (float(i == j) - chance[:, j])  # [rows]
                    block = hessian[i, :, j] if is_joint else hessian[i]
                    block += z.T @ (z * spread[:, None])
        penalty = self.penalty[:, 0, 0].to(kind)
        for i in range(k):
            block = hessian[i, :, i] if is_joint else hessian[i]
            # The intercept has no penalty, and next to no curvature where the classes come apart.
            block.diagonal().add_(penalty + (1 - penalty) * 1e-3 * c * len(rows))
            for j in range(i) if is_joint else ():
                hessian[j, :, i] = hessian[i, :, j].T
        return hessian.reshape(1, k * wide, k * wide) if is_joint else hessian

    def _scores(self, weights: Tensor) -> Tensor:
        return (self.z @ weights.flatten(1)).unflatten(1, weights.shape[1:])  # [n, k, fits]

    def _label(self, scores: Tensor) -> Tensor:
        """Of equal scores the first class wins, as in scikit-learn."""
        labels = (scores > 0).squeeze(1) if self.columns == 1 else scores.argmax(dim=1)
        return labels.to(torch.int8)

    def _evaluate(self, at: Tensor, inside: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Objective ``[fits]`` and its gradient, shaped as ``at``."""
        scores = self._scores(at)  # [n, k, fits]
        if self.columns == 1:
            margin = scores.mul_(self.sign)
            loss = -(logsigmoid(margin).squeeze(1) * inside).sum(dim=0)
            pull = torch.sigmoid(margin.neg_()).mul_(inside[:, None]).mul_(-self.sign)
        else:
            scores = log_softmax(scores, dim=1)
            labels = self.y[:, None, None].expand(-1, 1, scores.shape[2])
            loss = -(scores.gather(1, labels).squeeze(1) * inside).sum(dim=0)
            pull = scores.exp_().scatter_add_(1, labels, scores.new_tensor(-1.0).expand(labels.shape))
            pull.mul_(inside[:, None])
        penalised = at * self.penalty
        slope = penalised + c * (self.z.T @ pull.flatten(1)).unflatten(1, at.shape[1:])
        return _dot(penalised, penalised) / 2 + c * loss, slope


def _principal(x: Tensor, trained_on: np.ndarray, device: torch.device, block: int = 4096) -> Tensor:
    """``x`` centred, on the principal axes of the rows ``trained_on``, with a column of ones: ``[n, r + 1]`` float64.

    Worked on in blocks of rows, as ``x`` may be large.
    """
    train = torch.from_numpy(trained_on)

    def wide(rows: Tensor) -> Tensor:
        return x[rows].to(device, torch.float64)

    mean = torch.stack([wide(rows).sum(dim=0) for rows in train.split(block)]).sum(dim=0) / len(train)
    if len(train) >= x.shape[1]:
        gram = mean.new_zeros(x.shape[1], x.shape[1])
        for rows in train.split(block):
            part = wide(rows) - mean
            gram.addmm_(part.T, part)
        axes = torch.linalg.eigh(gram).eigenvectors  # [d, d]
    else:  # fewer rows than columns: a basis of what they span, then its principal axes
        basis, part = torch.linalg.qr((wide(train) - mean).T)  # [d, rows] and [rows, rows]
        axes = basis @ torch.linalg.eigh(part @ part.T).eigenvectors
    z = mean.new_ones(len(x), axes.shape[1] + 1)
    for rows in torch.arange(len(x)).split(block):
        z[rows[0] : rows[-1] + 1, :-1] = (wide(rows) - mean) @ axes
    return z


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(0, 1))  # [r + 1, k, fits] -> [fits]


def _direction(slope: Tensor, moves: Moves, inverse: Tensor) -> Tensor:
    """Two-loop recursion, a column a fit; a fit that did not move has zero pairs, which do nothing."""
    q, steps = -slope, []
    for moved, turned, reciprocal in reversed(moves):
        a = reciprocal * _dot(moved, q)
        q = q - a * turned
        steps.append(a)
    by_class = q.transpose(0, 1)  # [k, r + 1, fits], as the Hessian has them
    turned_back = inverse @ by_class.reshape(len(inverse), -1, q.shape[2])
    q = turned_back.reshape(by_class.shape).transpose(0, 1)
    for (moved, turned, reciprocal), a in zip(moves, reversed(steps), strict=True):
        q = q + moved * (a - reciprocal * _dot(turned, q))
    return q
