"""Dropout with masks that are drawn fast on a CPU, and seeded with the step."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STATE = {"rng": np.random.SFC64(0)}


def seed_dropout(seed: int) -> None:
    """Seed torch and the masks of :func:`drop` alike: the same seed before a forward gives the same masks."""
    # (torch.manual_seed() writes the stack down for each kind of device that is not there: a millisecond a step)
    if torch.cuda.is_available():
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed_all(seed)
    elif torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    _STATE["rng"] = np.random.SFC64(seed)


def drop(x: Tensor, p: float) -> Tensor:
    """Dropout of ``x``: elements are 0 with probability ``p`` (to 1/65,536), the others scaled by 1 / (1 - p).

    On a CPU the masks are random 16-bit numbers of numpy's SFC64: torch draws its own one element at a time on one
    core, which takes a fifth of a MiniLM step. Elsewhere it is torch's dropout.
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    return _Drop.apply(x, random_numbers(x.shape), p)


def random_numbers(shape: Sequence[int]) -> Tensor:
    """Random int16 numbers of a shape, all 65,536 values alike, on the CPU; they say what :func:`dropped` drops."""
    count = math.prod(shape)
    return torch.from_numpy(_STATE["rng"].random_raw(-(-count // 4)).view(np.int16)[:count]).view(*shape)


def dropped(x: Tensor, numbers: Tensor, p: float) -> Tensor:
    """``x`` with the elements at the lowest share ``p`` of numbers 0, the others scaled by 1 / (1 - p); no gradient.

    The gradient is this function of the gradient. The numbers become a mask of ``x``'s type at once: products with
    booleans are several times as slow on CPUs.
    """
    mask = torch.ge(numbers, round(p * 2**16) - 2**15, out=torch.empty_like(x))  # int16 begins at -2^15
    return mask.mul_(x).mul_(1 / (1 - p))


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, numbers: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(numbers)
        ctx.p = p
        return dropped(x, numbers, p)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (numbers,) = ctx.saved_tensors
        return dropped(slopes[0], numbers, ctx.p), None, None


@contextmanager
def quick_dropout(model: nn.Module) -> Iterator[None]:
    """Let every nn.Dropout of a model on a CPU draw its masks by :func:`drop` meanwhile."""
    modules = [m for m in model.modules() if isinstance(m, nn.Dropout) and m.training and m.p]
    for module in modules:
        module.forward = partial(_forward, module.p)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _forward(p: float, x: Tensor) -> Tensor:
    return drop(x, p)
