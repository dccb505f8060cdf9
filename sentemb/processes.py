"""Several processes as one: rows of all of them with exact gradients, and a check that they stay alike."""

import hashlib
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn


def agree(module: nn.Module, accelerator: Accelerator) -> None:
    """Give a module's parameters one gradient on all processes: each has computed the whole one, to rounding."""
    for weight in module.parameters():
        if weight.grad is not None and accelerator.num_processes > 1:
            dist.all_reduce(weight.grad)
            weight.grad /= accelerator.num_processes


def refuse_drift(module: nn.Module, accelerator: Accelerator) -> None:
    """RuntimeError if what an objective remembers is not the same on all processes."""
    if accelerator.num_processes == 1:
        return
    digest = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    own = torch.tensor(int.from_bytes(digest.digest(), "big", signed=True), device=accelerator.device)
    sums = accelerator.gather(own[None])
    if (sums != sums[0]).any():
        raise RuntimeError(
            f"what the {type(module).__name__} remembers differs between processes (checksums {sums.tolist()}): their "
            "processors do not compute alike, so use machines of one kind; nothing is saved"
        )


def gather_plain(x: Tensor, accelerator: Accelerator) -> Tensor:
    """Rows of all processes, of numbers without a gradient."""
    return accelerator.gather(x) if accelerator.num_processes > 1 else x


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, ``[n, d]`` to ``[processes * n, d]``, with exact gradients under DDP's averaging.

    (``Accelerator.gather`` has no gradient; torch's own differentiable one has changed its name and place by release.)
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    return _Gather.apply(x)


class _Gather(torch.autograd.Function):
    """Every process computes the same loss over all rows; summing its gradients cancels DDP's mean over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
