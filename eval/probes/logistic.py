"""Many logistic regressions over subsets of one matrix, solved together as rows of matrix products.

A nested 10-fold search is 610 fits that differ only in their rows and their C. All fits of one C start from the
solution on all rows, shifted as theirs were at the C before, and share a preconditioner taken there. They come near in
single precision; the last steps, and the test of convergence, are in double.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

BUDGET = 512 * 2**20  # bytes that a block of fits may work in
LARGEST = 5_000  # rows of a Hessian
CACHED = 2**19  # numbers worked on at a time: they stay in a processor's cache
TOLERANCE = 1e-5  # its square is how far the objective may be from its minimum
COARSE = 1e-4  # tolerance in single precision, where the errors of a product mostly are smaller
HISTORY = 20  # moves of L-BFGS
PATIENCE = 15  # steps in single precision that do not halve the distance: rounding may be in the way
Moves = list[tuple[Tensor, Tensor, Tensor]]  # (step, change of slope, 1 / their product), newest last


@dataclass
class Curvature:
    """Hessian of the summed loss at ``weights`` ``[1, k, r + 1]``: whole on the last axes, a diagonal on the others."""

    weights: Tensor
    diagonal: Tensor  # [k, r + 1 - q]
    hessian: Tensor  # [k q, k q]


@dataclass
class Guide:
    """Diagonal ``[k, r + 1 - q]`` and Cholesky factor ``[k q, k q]`` of about the Hessian of any fit."""

    diagonal: Tensor
    factor: Tensor

    def divide(self, q: Tensor) -> Tensor:
        """``q`` ``[fits, k, r + 1]`` by the Hessian."""
        split = self.diagonal.shape[1]
        parts = [q[..., :split] / self.diagonal.to(q.dtype)]
        if len(self.factor):
            last = q[..., split:].flatten(1).T.float()  # [k q, fits]
            half = torch.linalg.solve_triangular(self.factor, last, upper=False)
            last = torch.linalg.solve_triangular(self.factor.T, half, upper=True)
            parts.append(last.T.unflatten(1, (q.shape[1], -1)).to(q.dtype))
        return torch.cat(parts, dim=2)


class Regressions:
    """L2-penalised logistic regressions on rows of ``x``: scikit-learn's objective and its solution, in float64.

    Two classes: minimise ||w||^2 / 2 + C sum log(1 + exp(-s (w.x + b))), s = +-1. K > 2: softmax, with weights of each
    class. These sum to 0 over the classes at the minimum, so that K - 1 columns, coordinates in an orthonormal basis of
    such weights, are fitted. The intercept b is not penalised. ``x`` is centred (b takes it up) and turned to the
    principal axes of the rows that are ever trained on: a rotation leaves the penalty as it is, and what lies outside
    their span, where there are fewer rows than columns, gets no weight.

    Memory in addition to ``x``, in bytes: 12 n (r + 1) for the turned matrix in double and in single precision, r <=
    min(d, rows trained on); 40 min(d, rows)^2 while it is turned; 12 min(k (r + 1), LARGEST)^2 for Hessians (k columns:
    K - 1); and BUDGET for the fits, as many at once as fit in it: one takes 4 n + 400 k r. With n = 67,349 and two
    classes: 2.0 + 0.2 GB at d = 2,400, 3.9 + 0.9 GB at d = 4,800, and 0.5 GB at most for the fits.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, trained_on: np.ndarray, device: str = "cpu") -> None:
        """``x``: ``[n, d]``; ``y``: ``[n]`` labels 0 .. K - 1; ``trained_on``: numbers of the rows of any fit."""
        self.device = torch.device("cpu" if device == "mps" else device)  # mps has no float64
        self.trained = len(trained_on)  # they are the first rows of z
        order = np.concatenate([trained_on, np.setdiff1d(np.arange(len(x)), trained_on)])
        self.place = np.argsort(order)  # in z of a row of x
        self.z = _principal(torch.from_numpy(np.ascontiguousarray(x)), order, self.trained, self.device)  # [n, r + 1]
        self.single = self.z[: self.trained].float()
        labels = torch.from_numpy(np.asarray(y, dtype=np.int64)).to(self.device)
        self.classes = max(2, int(labels.max()) + 1)  # K
        self.columns = self.classes - 1  # k
        target = labels[order[: self.trained]]
        self.target = (target[None] if self.classes == 2 else one_hot(target, self.classes).T).float().contiguous()
        self.contrasts = _contrasts(self.classes).to(self.device)  # [K, k]
        self.penalty = self.single.new_ones(self.z.shape[1])
        self.penalty[-1] = 0

    def predict(
        self, trains: Sequence[np.ndarray], tests: Sequence[np.ndarray], grid: Sequence[float]
    ) -> list[np.ndarray]:
        """Predicted labels of each fold's test rows at each C of ``grid``: a ``[C, test rows]`` int16 array a fold."""
        predictions = [np.empty((len(grid), len(test)), dtype=np.int16) for test in tests]
        wide = len(self.penalty)
        size = max(1, BUDGET // (4 * self.trained + 400 * self.columns * wide))
        share = sum(len(train) for train in trains) / (len(trains) * self.trained)
        everything = [np.arange(self.trained)]
        rows = [self.place[train] for train in trains]
        shifts: list[Tensor] = []  # of the fits' solutions from the centre, at the last two C
        centre = self.z.new_zeros(1, self.columns, wide)
        curvature, rounds = self.curvature_at_zero(), 0
        for number in sorted(range(len(grid)), key=lambda i: grid[i]):
            c = grid[number]
            # The solution on all rows at the C before is a start for this one, which is a start for its folds.
            guide = self.guide(curvature, c, share)
            for _ in range(50):
                centre, count, done = self.solve(everything, c, centre, guide, rounds=self._refresh())
                is_first = not len(curvature.hessian)
                if not done or is_first or self._pays(rounds, min(size, len(trains))):
                    curvature = self.curvature(centre)
                    guide = self.guide(curvature, c, share)
                if done:
                    break
            rounds, solutions = 0, []
            for first in range(0, len(trains), size):
                part = slice(first, first + size)
                start = centre + _extrapolated([shift[part] for shift in shifts])
                weights, count, done = self.solve(rows[part], c, start.expand(len(rows[part]), -1, -1), guide)
                if not done:
                    warnings.warn(f"logistic regressions at C = {c} did not converge", stacklevel=2)
                labels = self._labels(weights)
                for column, test in enumerate(tests[part]):
                    predictions[first + column][number] = labels[column, self.place[test]]
                rounds = max(rounds, count)
                solutions.append((weights - centre).float())
            shifts = [*shifts[-1:], torch.cat(solutions)]
        return predictions

    def solve(
        self, rows: Sequence[np.ndarray], c: float, start: Tensor, guide: Guide, rounds: int = 1000
    ) -> tuple[Tensor, int, bool]:
        """Weights ``[fits, k, r + 1]`` (intercept last, principal axes) of the fits, by L-BFGS (Nocedal 1980).

        First in single precision, where a product takes half the time, then from there in double.

        Args:
            rows: numbers of each fit's rows, in ``z``. c: of all fits. start: where to begin, shaped as the answer.
            guide: see :meth:`guide`. rounds: the most evaluations.

        Returns:
            (weights; evaluations; whether all fits converged: the quasi-Newton model puts the objective at most
            1e-10 above its minimum, by the gradient in double precision).
        """
        inside = np.zeros((len(rows), self.trained), dtype=np.float32)  # [fits, m]
        for fit, members in enumerate(rows):
            inside[fit, members] = 1
        mask = torch.from_numpy(inside).to(self.device)
        near, moves, first, _ = self._descend(start.float(), [], mask, c, guide, min(rounds, 200))
        moves = [(step.double(), turn.double(), reciprocal.double()) for step, turn, reciprocal in moves]
        weights, _, second, done = self._descend(near.double(), moves, mask, c, guide, rounds - first)
        return weights, first + second, done

    def _descend(
        self, at: Tensor, moves: Moves, inside: Tensor, c: float, guide: Guide, rounds: int
    ) -> tuple[Tensor, Moves, int, bool]:
        """Weights, the last moves, evaluations and convergence, in the precision of ``at``.

        The objective is convex, so that a step is good whose end lies downhill or not far uphill (phi' at the end at
        most half as steep as at the start): if no score changes by more than 2.1 it lowers the objective, as then the
        curvature along it changes by at most exp(2.1) (Bach 2010, proposition 1). Another is shortened. In single
        precision a fit that is near or comes no nearer is finished, and a few may be left unfinished.
        """
        is_single = at.dtype == torch.float32
        tolerance = COARSE if is_single else TOLERANCE
        answer = torch.zeros_like(at)
        left = torch.arange(len(at), device=self.device)  # fits that are still worked on
        slope = self._slope(at, inside, c)
        direction, length = _direction(slope, moves, guide), at.new_ones(len(left))
        lowest, idle = torch.full_like(length, torch.inf), torch.zeros_like(left)
        for count in range(1, rounds + 1):
            distance = -_dot(direction, slope)  # twice that of the objective from its minimum, by the model
            near = distance <= tolerance**2
            if is_single:
                is_lower = distance < lowest / 2
                lowest, idle = torch.where(is_lower, distance, lowest), torch.where(is_lower, 0, idle + 1)
                if (near | (idle >= PATIENCE)).sum() >= 0.9 * len(near):
                    return at, moves, count, True
            elif near.sum() >= 0.3 * len(near):  # leave the finished ones behind
                answer[left[near]] = at[near]
                if near.all():
                    return answer, moves, count, True
                busy = ~near
                left, inside, length, distance = left[busy], inside[busy], length[busy], distance[busy]
                at, slope, direction = at[busy], slope[busy], direction[busy]
                moves = [(s[busy], t[busy], r[busy]) for s, t, r in moves]
            trial = at + length[:, None, None] * direction
            trial_slope = self._slope(trial, inside, c)
            after = _dot(direction, trial_slope)
            good = after <= 0.5 * distance
            taken = good[:, None, None]
            moved = torch.where(taken, trial - at, 0)  # a refused fit stays and tries a shorter step
            turned = torch.where(taken, trial_slope - slope, 0)
            product = _dot(moved, turned)
            moves = [*moves[1 - HISTORY :], (moved, turned, torch.where(product > 0, 1 / product.clamp_min(1e-30), 0))]
            at, slope = at + moved, torch.where(taken, trial_slope, slope)
            direction = torch.where(taken, _direction(slope, moves, guide), direction)
            shorter = length * (distance / (distance + after)).clamp_min(0.1)  # to the minimum of a parabola
            length = torch.where(good, 1.0, shorter)
        answer[left] = at
        return (at if is_single else answer), moves, rounds, False

    def _refresh(self) -> int:
        """Rounds of one fit, which wait for memory, that take about as long as half of a Hessian and its factor."""
        return max(10, int(self._hessian_cost() / (50 * self.trained * len(self.penalty))))

    def _pays(self, rounds: int, fits: int) -> bool:
        """Whether a Hessian at the centre costs less, with its factor, than the rounds of all fits.

        A round is 2 n (r + 1) k multiplications and additions a fit. It counts as three times as many: products of few
        rows run at a lower speed, and the last rounds are in double precision.
        """
        return self._hessian_cost() < rounds * fits * 6 * self.trained * len(self.penalty) * self.columns

    def _hessian_cost(self) -> float:
        """Multiplications and additions of a Hessian and its factor."""
        k, last = self.columns, self._last()
        return self.trained * last**2 * k * (k + 1) / 2 + (k * last) ** 3 / 3

    def _last(self) -> int:
        """q, how many of the last axes a Hessian is computed on: those of most variance, and the intercept."""
        return min(len(self.penalty), LARGEST // self.columns)

    def curvature_at_zero(self) -> Curvature:
        """As :meth:`curvature`, where all weights are 0: a diagonal on principal axes."""
        variance = torch.stack([(part**2).sum(dim=0) for part in self.z[: self.trained].split(4096)]).sum(dim=0)
        diagonal = variance.float() * self._spread(variance.new_zeros(1, len(self.target), 1))[:1, 0].float()
        return Curvature(self.z.new_zeros(0), diagonal.expand(self.columns, -1), variance.new_zeros(0, 0))

    def curvature(self, weights: Tensor, kind: torch.dtype = torch.float32) -> Curvature:
        """Hessian of the loss at ``weights`` ``[1, k, r + 1]``. Of very many rows, some are enough."""
        k, wide, last = self.columns, len(self.penalty), self._last()
        step = max(1, self.trained // (16 * k * wide))
        z = (self.single if kind == torch.float32 else self.z[: self.trained])[::step]
        hessian = torch.zeros((k, last, k, last), dtype=kind, device=self.device)
        diagonal = torch.zeros((k, wide - last), dtype=kind, device=self.device)
        for part in z.split(4096):
            spread = step * self._spread(self._scores(part, weights.to(kind)))  # [k, k, rows]
            diagonal += spread.diagonal().T @ part[:, : wide - last] ** 2
            for i in range(k):
                for j in range(i + 1):
                    _add_gram(hessian[i, :, j], part[:, wide - last :], spread[i, j])
        for i in range(k):
            for j in range(i):
                hessian[j, :, i] = hessian[i, :, j]
        return Curvature(weights, diagonal, hessian.reshape(k * last, k * last))

    def guide(self, curvature: Curvature, c: float, share: float = 1.0) -> Guide:
        """Of fits on a ``share`` of the rows: c share (Hessian of loss) + penalty.

        It only guides; on principal axes single precision mostly will do.
        """
        # The intercept has no penalty, and next to no curvature where the classes come apart.
        penalty = self.penalty + (1 - self.penalty) * 1e-3 * c * share * self.trained
        split = curvature.diagonal.shape[1]
        for kind in (torch.float32, torch.float64):
            if kind != torch.float32:
                curvature.hessian = self.curvature(curvature.weights, kind).hessian
            hessian = curvature.hessian * (c * share)
            hessian.diagonal().add_(penalty[split:].repeat(self.columns)[: len(hessian)])
            factor, failed = torch.linalg.cholesky_ex(hessian)
            if not failed.any():
                break
        return Guide(curvature.diagonal * (c * share) + penalty[:split], factor.float())

    def _scores(self, z: Tensor, weights: Tensor) -> Tensor:
        """Of each class, or of the second of two: ``[fits, K or 1, rows]``."""
        scores = (weights.flatten(0, 1) @ z.T).unflatten(0, weights.shape[:2])
        return scores if self.classes == 2 else self.contrasts.to(scores.dtype) @ scores

    def _chances(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() if self.classes == 2 else scores.softmax(dim=1)

    def _spread(self, scores: Tensor) -> Tensor:
        """Second derivative ``[k, k, rows]`` of each row's loss by its columns, at ``scores`` ``[1, K or 1, rows]``."""
        chance = self._chances(scores)[0]
        if self.classes == 2:
            return (chance * (1 - chance))[None]
        contrasts = self.contrasts.to(scores.dtype)
        mean = contrasts.T @ chance
        return torch.einsum("ai,aj,ar->ijr", contrasts, contrasts, chance) - mean[:, None] * mean[None]

    def _labels(self, weights: Tensor) -> np.ndarray:
        """Labels ``[fits, n]`` int16 of the rows of z; of equal scores the first class wins, as in scikit-learn."""
        labels = []
        for z in self.z.split(self._block(weights)):
            scores = self._scores(z, weights)
            labels.append(((scores > 0).squeeze(1) if self.classes == 2 else scores.argmax(dim=1)).to(torch.int16))
        return torch.cat(labels, dim=1).cpu().numpy()

    def _block(self, weights: Tensor) -> int:
        """Rows of z worked on at a time, so that a processor's cache holds them and their scores."""
        return max(256, CACHED // (weights.shape[2] + weights[..., 0].numel()))

    def _slope(self, at: Tensor, inside: Tensor, c: float) -> Tensor:
        """Gradient of the objective, shaped as ``at``: penalty w + c Z^T (chances - target), of the fit's rows."""
        z = self.single if at.dtype == torch.float32 else self.z[: self.trained]
        slope = torch.zeros_like(at).flatten(0, 1)
        block, contrasts = self._block(at), self.contrasts.to(at.dtype)
        blocks = zip(z.split(block), self.target.split(block, dim=1), inside.split(block, dim=1), strict=True)
        for part, target, members in blocks:
            pull = self._chances(self._scores(part, at)).sub_(target).mul_(members[:, None])
            pull = pull if self.classes == 2 else contrasts.T @ pull  # [fits, k, rows]
            slope.addmm_(pull.flatten(0, 1), part)
        return at * self.penalty + c * slope.view_as(at)


def _contrasts(classes: int) -> Tensor:
    """Orthonormal ``[K, K - 1]`` whose columns sum to 0 (Helmert's), as the weights of K classes do at the minimum."""
    matrix = torch.zeros(classes, classes - 1, dtype=torch.float64)
    for i in range(1, classes):
        matrix[:i, i - 1], matrix[i, i - 1] = 1, -i
        matrix[:, i - 1] /= (i * (i + 1)) ** 0.5
    return matrix


def _add_gram(total: Tensor, rows: Tensor, weights: Tensor, width: int = 256) -> None:
    """Add rows^T diag(weights) rows to ``total`` ``[r, r]``: blocks below the diagonal, and their copies above."""
    weighted = rows * weights[:, None]
    for first in range(0, rows.shape[1], width):
        last = first + width
        block = rows[:, first:last].T @ weighted[:, :last]
        total[first:last, :last] += block
        total[:first, first:last] += block[:, :first].T


def _extrapolated(shifts: Sequence[Tensor]) -> Tensor | float:
    """Where the fits will lie from the centre, by where they lay at the last two C: a line in log C."""
    if not shifts:
        return 0.0
    return 1.4 * shifts[-1] if len(shifts) == 1 else 2 * shifts[-1] - shifts[-2]


def _principal(x: Tensor, order: np.ndarray, trained: int, device: torch.device, block: int = 4096) -> Tensor:
    """Rows ``order`` of ``x`` centred, on the principal axes of the first ``trained``, with a column of ones.

    ``[n, r + 1]`` float64. Worked on in blocks of rows, as ``x`` may be large.
    """
    numbers = torch.from_numpy(order)
    train = numbers[:trained]

    def wide(rows: Tensor) -> Tensor:
        return x[rows].to(device, torch.float64)

    mean = torch.stack([wide(rows).sum(dim=0) for rows in train.split(block)]).sum(dim=0) / trained
    if trained >= x.shape[1]:
        gram = mean.new_zeros(x.shape[1], x.shape[1])
        for rows in train.split(block):
            part = wide(rows) - mean
            _add_gram(gram, part, mean.new_ones(len(part)))
        axes = torch.linalg.eigh(gram).eigenvectors  # [d, d]
    else:  # fewer rows than columns: a basis of what they span, then its principal axes
        basis, part = torch.linalg.qr((wide(train) - mean).T)  # [d, rows] and [rows, rows]
        axes = basis @ torch.linalg.eigh(part @ part.T).eigenvectors
    z = mean.new_ones(len(order), axes.shape[1] + 1)
    for start in range(0, len(order), block):
        z[start : start + block, :-1] = (wide(numbers[start : start + block]) - mean) @ axes
    return z


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))  # [fits]


def _direction(slope: Tensor, moves: Moves, guide: Guide) -> Tensor:
    """Two-loop recursion, a row a fit; a fit that did not move has zero pairs, which do nothing."""
    q, steps = -slope.flatten(1), []
    for moved, turned, reciprocal in reversed(moves):
        a = reciprocal * _dot(moved, q)
        q = q - a[:, None] * turned.flatten(1)
        steps.append(a)
    q = guide.divide(q.view_as(slope)).flatten(1)
    for (moved, turned, reciprocal), a in zip(moves, reversed(steps), strict=True):
        q = q + moved.flatten(1) * (a - reciprocal * _dot(turned, q))[:, None]
    return q.view_as(slope)
