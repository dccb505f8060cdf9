"""Several processes as one: rows of all of them with exact gradients, and a check that they stay alike."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from sentemb.errors import InputError

Result = TypeVar("Result")


def average_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Give a module's parameters the mean of the processes' gradients; each is of its part, times their number."""
    for weight in module.parameters():
        if weight.grad is not None and accelerator.num_processes > 1:
            dist.all_reduce(weight.grad)
            weight.grad /= accelerator.num_processes


def any_rank(condition: bool, accelerator: Accelerator) -> bool:
    """Whether it is so on any of the processes; the same answer on all."""
    if not _several():
        return condition
    flag = torch.tensor(float(condition), device=accelerator.device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def on_main(do: Callable[[], Result], accelerator: Accelerator) -> Result:
    """What ``do`` returns where the main process calls it, on all processes; so are its InputErrors."""
    outcome: list[Any] = [None, None]  # what it returns, and the text of its error
    if accelerator.is_main_process:
        try:
            outcome[0] = do()
        except InputError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise InputError(outcome[1])
    return outcome[0]


class Patience:
    """A place where processes wait for each other for as long as work of one of them takes: preparing, scoring.

    Collectives of training give up after minutes, as a process that hangs would keep all others for ever. This one has
    a group of its own, on the CPU, that waits twelve hours; a process that has died ends it at once, too. To be made by
    all processes together.
    """

    def __init__(self, hours: float = 12) -> None:
        self.group = dist.new_group(backend="gloo", timeout=timedelta(hours=hours)) if _several() else None

    def wait(self) -> None:
        """Until all processes are here."""
        if self.group is not None:
            dist.barrier(group=self.group)


def refuse_drift(module: nn.Module, accelerator: Accelerator) -> None:
    """RuntimeError if what an objective remembers is not the same on all processes."""
    if accelerator.num_processes == 1:
        return
    digest = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    checksum = torch.tensor(int.from_bytes(digest.digest(), "big", signed=True), device=accelerator.device)
    sums = accelerator.gather(checksum[None])
    if (sums != sums[0]).any():
        raise RuntimeError(
            f"what the {type(module).__name__} remembers differs between processes (checksums {sums.tolist()}): their "
            "processors do not compute alike, so use machines of one kind; nothing is saved"
        )


Counts = tuple[int, ...] | None  # rows of each process; None: as many on all


@torch.no_grad()
def gather_plain(x: Tensor, counts: Counts = None, dtype: torch.dtype | None = None) -> Tensor:
    """Rows of all processes, of numbers without a gradient; ``dtype``: as of :func:`gather`."""
    return _gather(x, counts, dtype) if _several() else x


def gather(x: Tensor, counts: Counts = None, dtype: torch.dtype | None = None) -> Tensor:
    """Rows of all processes, ``[n, d]`` to ``[sum of counts, d]``; the gradient is the sum of all processes' gradients.

    ``dtype``: what the rows are sent as (and rounded to), where the encoder computes in it; None: as they are.
    Gradients are sent as they are.

    (``Accelerator.gather`` has no gradient; torch's own differentiable one has changed its name and place by release.)
    """
    return _Gather.apply(x, counts, dtype) if _several() else x


def computing_dtype(accelerator: Accelerator) -> torch.dtype | None:
    """Of the encoder's forward under the accelerator's precision; None: that of its weights."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather(x: Tensor, counts: Counts, dtype: torch.dtype | None) -> Tensor:
    if dtype is not None and dtype.itemsize < x.element_size():
        return _gather(x.to(dtype), counts, None).to(x.dtype)
    sizes = counts or (len(x),) * dist.get_world_size()
    if len(x) < max(sizes):  # (not all backends gather parts of different sizes)
        x = torch.cat([x, x.new_zeros(max(sizes) - len(x), *x.shape[1:])])
    parts = [torch.empty_like(x) for _ in sizes]
    dist.all_gather(parts, x.contiguous())
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Counts, dtype: torch.dtype | None) -> Tensor:
        ctx.sizes = counts or (len(x),) * dist.get_world_size()
        return _gather(x, counts, dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        total = slopes[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(ctx.sizes)[dist.get_rank()], None, None
