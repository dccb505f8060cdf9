"""Objectives of coordinates instead of sentences: views alike, coordinates unlike. No negatives."""

import torch
from torch import Tensor

from sentemb.objectives.base import Extras, Objective, weight


class BarlowTwins(Objective):
    """Coordinates of both views correlated with their own kind (1) and with no other (0).

    C is the cross-correlation ``[d, d]`` of the views, each coordinate standardised over the batch.

    Args:
        off_diagonal: lambda, weight of the correlations that should be 0.

    Source: Zbontar et al. 2021, arXiv 2103.03230, eqs. 1, 2; 0.0051 is the authors' code.
    """

    formula = "sum_a (1 - C_aa)^2 + off_diagonal * sum_{a != b} C_ab^2"
    interchangeable_views = "yes"
    source = "Zbontar et al. 2021, eqs. 1, 2"
    normalise = False

    def __init__(self, off_diagonal: float = 0.0051) -> None:
        super().__init__()
        self.off_diagonal = weight("off_diagonal", off_diagonal)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Of rows of any length."""
        correlation = standardised(x).T @ standardised(y) / len(x)  # [d, d]
        diagonal = correlation.diagonal()
        others = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + self.off_diagonal * others

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """None."""
        return "no negatives, correlations over the batch"


class VICReg(Objective):
    """Views alike (invariance), no coordinate constant (variance), no two coordinates correlated (covariance).

    Args:
        invariance: weight of the mean squared difference of the views' coordinates.
        variance: weight of the mean of max(0, 1 - standard deviation), averaged over the views.
        covariance: weight of the squared covariances of different coordinates over d, summed over the views.

    Source: Bardes et al. 2022, arXiv 2105.04906, eqs. 1 to 6; the variance term is halved as in the authors' code.
    """

    formula = (
        "invariance * mean |x - y|^2 / d + variance * mean_a max(0, 1 - std_a) (mean of both views) "
        "+ covariance * sum_{a != b} cov_ab^2 / d (sum of both views)"
    )
    interchangeable_views = "yes"
    source = "Bardes et al. 2022, eqs. 1 to 6"
    normalise = False

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.invariance = weight("invariance", invariance)
        self.variance, self.covariance = weight("variance", variance), weight("covariance", covariance)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Of rows of any length."""
        total = self.invariance * (x - y).square().mean()
        for side in (x, y):
            centred = side - side.mean(dim=0)
            covariance = centred.T @ centred / max(1, len(side) - 1)  # [d, d]
            variances = covariance.diagonal()
            narrow = torch.relu(1 - (variances + 1e-4).sqrt()).mean()
            others = (covariance.square().sum() - variances.square().sum()) / side.shape[1]
            total = total + self.variance * narrow / 2 + self.covariance * others
        return total

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """None."""
        return "no negatives, variances and covariances over the batch"


def standardised(x: Tensor) -> Tensor:
    """Each coordinate with mean 0 and (biased) variance 1 over the rows of ``x`` ``[n, d]``; a constant one is 0."""
    centred = x - x.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + 1e-5).sqrt()
