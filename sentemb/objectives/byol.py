"""Predict the momentum encoder's view of the positive from one's own: bootstrap your own latent, without negatives."""

import math

import torch
from torch import Tensor, nn

from sentemb.geometry import l2_normalize
from sentemb.objectives.base import Extras, Objective, count, share
from sentemb.objectives.decorrelation import standardised


class BYOL(Objective):
    """Predict the momentum encoder's view of the positive from one's own, both ways: no negatives. Watch uniformity.

    The predictor is two dense layers, standardised over the batch and rectified between; it is trained along and
    dropped. The paper's projector is ``--head projection:hidden=4096,out=256``.

    Args:
        hidden: units between the predictor's layers.
        momentum: share of the momentum encoder that stays in the first update; it rises to 1 as a cosine does.

    Source: Grill et al. 2020, arXiv 2006.07733, eqs. 1, 2 and section 3.2 (momentum 0.996).
    """

    formula = "mean_i (2 - 2 cos(q(x_i), m(y)_i)) + (2 - 2 cos(q(y_i), m(x)_i)), q learned"
    interchangeable_views = "yes"
    source = "Grill et al. 2020, eqs. 1, 2"
    needs = frozenset({"targets"})
    normalise = False

    def __init__(self, hidden: int = 1024, momentum: float = 0.996) -> None:
        super().__init__()
        self.hidden, self.rate = count("hidden", hidden), share("momentum", momentum)
        self.first: nn.Linear | None = None
        self.second: nn.Linear | None = None

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The predictor."""
        if self.first is None:
            self.first, self.second = nn.Linear(dimension, self.hidden), nn.Linear(self.hidden, dimension)

    def momentum(self, done: float) -> float:
        """From ``momentum`` at the start to 1 at the end."""
        return 1 - (1 - self.rate) * (math.cos(math.pi * done) + 1) / 2

    def predict(self, x: Tensor) -> Tensor:
        """q: rows ``[n, d]`` to rows of unit length."""
        assert self.first is not None and self.second is not None
        return l2_normalize(self.second(torch.relu(standardised(self.first(x)))))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean squared distance of predicted and seen, of rows of unit length."""
        momentum_x, momentum_y = extras.targets or (x.detach(), y.detach())
        forth = 2 - 2 * (self.predict(x) * l2_normalize(momentum_y)).sum(dim=1)
        back = 2 - 2 * (self.predict(y) * l2_normalize(momentum_x)).sum(dim=1)
        return (forth + back).mean()

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """None."""
        return "no negatives, the momentum encoder is the target"
