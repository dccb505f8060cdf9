"""Dropout with masks that are drawn fast on a CPU, and seeded with the step."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STATE = {"rng": np.random.Generator(np.random.SFC64(0))}


def seed_dropout(seed: int) -> None:
    """Seed torch and the masks of :func:`drop` alike: the same seed before a forward gives the same masks."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # for each kind of device that is not there, manual_seed() writes the stack down: a millisecond a step
        torch.default_generator.manual_seed(seed)
    _STATE["rng"] = np.random.Generator(np.random.SFC64(seed))


def drop(x: Tensor, p: float) -> Tensor:
    """Dropout of ``x``: elements are 0 with probability ``p`` (to 1/65,536), the others scaled by 1 / (1 - p).

    On a CPU the masks are random 16-bit numbers of numpy's SFC64: torch draws its own one element at a time on one
    core, which takes a fifth of a MiniLM step. Elsewhere it is torch's dropout.
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    drawn = _STATE["rng"].integers(0, 2**64, size=-(-x.numel() // 4), dtype=np.uint64, endpoint=False)
    numbers = torch.from_numpy(drawn.view(np.int16)[: x.numel()]).view(x.shape)
    mask = numbers >= round(p * 2**16) - 2**15  # int16 begins at -2^15
    return _Drop.apply(x, mask, 1 / (1 - p))


class _Drop(torch.autograd.Function):
    """x * mask * scale in one pass each way; the mask is kept as bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(x, mask, scale)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(slopes[0], mask, ctx.scale), None, None


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
