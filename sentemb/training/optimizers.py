"""Optimisers by name: ``build(OPTIMIZERS, "adamw:beta2=0.98", "optimizer").of(parameters, lr, weight_decay)``.

torch is imported where one is made, so that the settings of a run are checked without it. All are torch's own with the
fused kernel, one pass over memory on CPU and CUDA alike. To add one: a class and a line in OPTIMIZERS.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


class OptimizerSettings(Protocol):
    """The options of an optimiser."""

    def of(self, parameters: "Iterable[Tensor]", lr: float, weight_decay: float) -> "Optimizer":
        """The optimiser of these weights."""


@dataclass(frozen=True)
class AdamW:
    """Adam with weight decay that is decoupled from the gradient: w -= lr * weight_decay * w.

    Args:
        beta1: decay of the mean gradient, in [0, 1).
        beta2: decay of the mean squared gradient, in [0, 1).
        eps: added to the root of the mean square, > 0.

    Raises:
        ValueError: a value out of range.

    Source: Kingma & Ba 2015, arXiv 1412.6980; Loshchilov & Hutter 2019, arXiv 1711.05101.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_shares(beta1=self.beta1, beta2=self.beta2)
        if not 0 < self.eps < 1:
            raise ValueError(f"eps must be above 0 and below 1, got {self.eps}")

    def of(self, parameters: "Iterable[Tensor]", lr: float, weight_decay: float) -> "Optimizer":
        """torch's AdamW of these weights."""
        import torch

        return torch.optim.AdamW(parameters, weight_decay=weight_decay, **self._options(lr))

    def _options(self, lr: float) -> dict[str, Any]:
        return {"lr": lr, "betas": (self.beta1, self.beta2), "eps": self.eps, "fused": True}


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam; weight decay is added to the gradient (an L2 penalty), and is scaled with it. Options: see AdamW.

    Without weight decay it is AdamW. Source: Kingma & Ba 2015, arXiv 1412.6980.
    """

    def of(self, parameters: "Iterable[Tensor]", lr: float, weight_decay: float) -> "Optimizer":
        """torch's Adam of these weights."""
        import torch

        return torch.optim.Adam(parameters, weight_decay=weight_decay, **self._options(lr))


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum; weight decay is added to the gradient.

    Args:
        momentum: decay of the sum of gradients, in [0, 1).

    Raises:
        ValueError: a value out of range.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check_shares(momentum=self.momentum)

    def of(self, parameters: "Iterable[Tensor]", lr: float, weight_decay: float) -> "Optimizer":
        """torch's SGD of these weights."""
        import torch

        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum, weight_decay=weight_decay, fused=True)


OPTIMIZERS: dict[str, Callable[..., OptimizerSettings]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}


def step_unless(optimizer: "Optimizer", refused: "Tensor") -> None:
    """Take a step where ``refused``, a float32 scalar on the weights' device, is 0, and none where it is 1.

    The host does not learn which: torch's fused optimisers look at it themselves, as they do for the loss scaler. Only
    before the first step that is taken does it look.
    """
    fused: Any = getattr(optimizer, "optimizer", optimizer)  # (Accelerate wraps it)
    if not fused.state:  # a first step that is left out would leave SGD's momentum without a value
        if not refused.item():
            optimizer.step()
        return
    vars(fused).update({"grad_scale": None, "found_inf": refused})
    optimizer.step()
    del vars(fused)["found_inf"], vars(fused)["grad_scale"]


def _check_shares(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")
