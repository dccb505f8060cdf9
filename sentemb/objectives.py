"""Training objectives: modules from two views of one batch to a scalar loss.

``x`` and ``y`` are ``[n, d]``, already gathered from every process; row i of ``x`` and row i of ``y`` are a positive
pair. Rows need not have unit length. To add one: a class with a ``loss`` and a line in OBJECTIVES.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sentemb.geometry import alignment, uniformity, unit


class Objective(nn.Module):
    """Base of all objectives: brings both views to the sphere in float32 or wider, whatever the autocast."""

    contrastive = False  # whether the loss is a cross-entropy over candidates, with log(n) as its reference

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scalar loss of partners ``x``, ``y`` ``[n, d]``; finite, with finite gradient, for any finite input."""
        with torch.autocast(x.device.type, enabled=False):
            return self.loss(unit(x), unit(y))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The paper's formula, of rows of unit length."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def negatives(self, n: int) -> str:
        """What each anchor is contrasted with in a global batch of ``n`` pairs, for the first log line."""
        return f"{n - 1} in-batch negatives per anchor"


class InfoNCE(Objective):
    """Pick each row's partner among all n candidates: mean_i -log(exp(x_i.y_i / tau) / sum_j exp(x_i.y_j / tau)).

    Args:
        temperature: tau, > 0.
        symmetric: the mean of both directions (x picks among y, y picks among x) instead of the first.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4, with cosine over temperature as the score; symmetric:
    Radford et al. 2021, arXiv 2103.00020, figure 3. Candidates are the other side only, n per anchor.
    """

    contrastive = True

    def __init__(self, temperature: float = 0.05, symmetric: bool = False) -> None:
        super().__init__()
        self.temperature = _positive("temperature", temperature)
        self.symmetric = symmetric

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """InfoNCE of unit rows."""
        scores = x @ y.T / self.temperature  # [n, n], partners on the diagonal
        partner = torch.arange(len(x), device=x.device)
        forth = cross_entropy(scores, partner)
        return (forth + cross_entropy(scores.T, partner)) / 2 if self.symmetric else forth


class AlignUniform(Objective):
    """Pull partners together, spread all rows over the sphere: align(alpha) + weight * mean of both sides' uniform(t).

    Args:
        alpha: exponent of the distance of partners, > 0.
        t: sharpness of the Gaussian kernel, > 0.
        weight: of the uniformity term, >= 0.

    Source: Wang & Isola 2020, arXiv 2005.10242, figure 6 (the uniformity of the two sides is averaged).
    """

    def __init__(self, alpha: float = 2.0, t: float = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.t = _positive("alpha", alpha), _positive("t", t)
        self.weight = _weight("weight", weight)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Alignment plus weighted uniformity of unit rows."""
        return alignment(x, y, self.alpha) + self.weight * _both_sides_uniformity(x, y, self.t)

    def negatives(self, n: int) -> str:
        """As :meth:`Objective.negatives`: every pair of a side repels."""
        return f"uniformity over {n * (n - 1) // 2} pairs a side"


class Mix(Objective):
    """The paper's sweep: contrastive * InfoNCE(tau) + align * alignment(alpha) + uniform * uniformity(t).

    Args:
        contrastive, align, uniform: weights, >= 0, not all zero.
        temperature, alpha, t: of the three terms, > 0.

    Source: Wang & Isola 2020, arXiv 2005.10242, section 5 and appendix B (uniformity of the two sides averaged).
    """

    def __init__(
        self,
        contrastive: float = 1.0,
        align: float = 0.0,
        uniform: float = 0.0,
        temperature: float = 0.05,
        alpha: float = 2.0,
        t: float = 2.0,
    ) -> None:
        super().__init__()
        self.weights = _weight("contrastive", contrastive), _weight("align", align), _weight("uniform", uniform)
        if not any(self.weights):
            raise ValueError("contrastive, align and uniform are all 0; give at least one of them a weight")
        self.alpha, self.t = _positive("alpha", alpha), _positive("t", t)
        self.infonce = InfoNCE(temperature)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Weighted sum of the terms that have a weight."""
        contrastive, align, uniform = self.weights
        total = x.new_zeros(())
        if contrastive:
            total = total + contrastive * self.infonce.loss(x, y)
        if align:
            total = total + align * alignment(x, y, self.alpha)
        if uniform:
            total = total + uniform * _both_sides_uniformity(x, y, self.t)
        return total


def _both_sides_uniformity(x: Tensor, y: Tensor, t: float) -> Tensor:
    if len(x) < 2:  # one pair: nothing to spread, and a zero that still has a gradient
        return 0 * (x.sum() + y.sum())
    return (uniformity(x, t) + uniformity(y, t)) / 2


def _positive(name: str, value: float) -> float:
    if not 1e-8 <= value <= 1e8:  # beyond, float32 overflows
        raise ValueError(f"{name} must be a positive number (1e-8 to 1e8), got {value}")
    return value


def _weight(name: str, value: float) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be 0 or a positive number, got {value}")
    return value


OBJECTIVES = {"infonce": InfoNCE, "align_uniform": AlignUniform, "mix": Mix}
