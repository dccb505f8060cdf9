"""Float32 matrix products by the faster of two libraries that torch has: its BLAS, or oneDNN.

torch's builds for x86 multiply float32 matrices with MKL. On processors that are not Intel's it leaves half of the
width of AVX-512 unused, and oneDNN does not: on an AMD EPYC (Zen 5) it is twice as fast. It is measured once for each
machine, on one core in its processor time, and oneDNN is taken where it is :data:`MARGIN` times as fast.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from sentemb.forward.measured import remembered_choice

MARGIN = 1.3  # far above the noise of a measurement, so that two processes of one machine choose alike
LIBRARIES = ("blas", "onednn")


def batched_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b^T + bias, ``[M, n, m]`` of ``a`` ``[M, n, k]``, ``b`` ``[M, m, k]`` and ``bias`` ``[M, m]``; no gradient."""
    if uses_onednn(a) and a.numel() > 0:
        biases = [None] * len(a) if bias is None else list(bias)
        made = [_onednn(x, y, z) for x, y, z in zip(a, b, biases, strict=True)]
        return made[0][None] if len(made) == 1 else torch.stack(made)
    if bias is None:
        return torch.bmm(a, b.transpose(1, 2))
    return torch.baddbmm(bias[:, None], a, b.transpose(1, 2))


def add_product_(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b^T to ``out`` ``[M, n, m]``; ``a`` ``[M, n, k]``, ``b`` ``[M, m, k]``; no gradient is taken through it."""
    if uses_onednn(a):
        for target, x, y in zip(out, a, b, strict=True):
            target.add_(_onednn(x, y))
    else:
        out.baddbmm_(a, b.transpose(1, 2))


def uses_onednn(x: Tensor) -> bool:
    """Whether products with ``x`` are oneDNN's: float32 on a CPU where it is much faster, without autocast."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    return product_library() == "onednn"


@cache
def product_library() -> str:
    """``blas`` or ``onednn``: what is faster on this machine."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return "blas"
    return remembered_choice("products", (), measured, MARGIN)


def measured(rounds: int = 5) -> dict[str, float]:
    """Seconds of a product ``[512, 384]`` by ``[1536, 384]`` transposed, the least of some rounds."""
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(512, 384, generator=draw), torch.randn(1536, 384, generator=draw)
    ways = {"blas": lambda: torch.mm(a, b.t()), "onednn": lambda: _onednn(a, b)}
    seconds = dict.fromkeys(ways, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that other work on the machine does not decide
    try:
        for _ in range(rounds + 1):  # the first round chooses kernels
            for name, way in ways.items():
                start = time.thread_time()
                way()
                seconds[name] = min(seconds[name], time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return seconds


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    bias = None if bias is None else bias.contiguous()  # (the kernel does not look at its stride)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return result


class _Linear(torch.autograd.Function):
    """x W^T + b of rows ``[n, in]``, with its three gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (slope,) = slopes
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        of_x = _onednn(slope, weight.t()) if needs_x else None
        of_weight = _onednn(slope.t(), x.t()) if needs_weight else None
        return of_x, of_weight, slope.sum(0) if needs_bias and ctx.has_bias else None


@contextmanager
def quick_linear(model: nn.Module) -> Iterator[None]:
    """Let every nn.Linear of a model multiply by :func:`uses_onednn`'s library meanwhile, in float32 on a CPU."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in vars(m)]
    if not layers or not uses_onednn(layers[0].weight):
        yield
        return
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    if not uses_onednn(x) or x.numel() == 0:
        return nn.functional.linear(x, layer.weight, layer.bias)
    rows = x.reshape(-1, x.shape[-1])
    made: Tensor = _Linear.apply(rows, layer.weight, layer.bias)
    return made.view(*x.shape[:-1], -1)
