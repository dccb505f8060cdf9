"""Objectives of the caller's own: any module or function of two views, as the training loop takes them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sentemb.errors import InputError
from sentemb.objectives.base import Extras, Objective


class FunctionObjective(Objective):
    """A function or module ``(x, y) -> scalar loss`` as an objective.

    ``x`` and ``y`` are ``[n, d]``, gathered from all processes, rows i a positive pair; they come as the encoder gives
    them, not scaled to unit length, in float32 or wider. A module's parameters are trained with the encoder and saved
    in its checkpoints. For hard negatives, classes or ids, subclass :class:`Objective`.
    """

    normalise = False

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """What the function returns.

        Raises:
            InputError: that is not a scalar tensor.
        """
        loss: Any = self.function(x, y)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            kind = f"tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"objective {name_of(self.function)} returned a {kind}; return a tensor of one number")
        return loss.reshape(())

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Nothing is known of what the function contrasts."""
        return f"objective {name_of(self.function)}"


def as_objective(objective: Any) -> Objective:
    """An objective, a module or a function as an objective.

    Raises:
        InputError: it is none of these, or a class and no object of it.
    """
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, type):
        raise InputError(f"objective {objective.__name__} is a class; give an object of it: {objective.__name__}(...)")
    if isinstance(objective, nn.Module) or callable(objective):
        return FunctionObjective(objective)
    raise InputError(
        f"the objective is a {type(objective).__name__}; give a spec (infonce:temperature=0.05), an Objective, or a "
        "module or function of two views [n, d] that returns a scalar"
    )


def name_of(function_or_object: Any) -> str:
    """The qualified name of a function, or of an object's class."""
    kind = function_or_object if hasattr(function_or_object, "__qualname__") else type(function_or_object)
    return f"{kind.__module__}.{kind.__qualname__}"
