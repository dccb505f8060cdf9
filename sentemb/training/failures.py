"""Failures from outside the code (a full disk, too little memory, a lost process), and what to do about each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from sentemb.errors import InputError, TrainingFailed, disk_full
from sentemb.runs import RunFolder
from sentemb.training.data import BatchDataset
from sentemb.training.settings import TrainingSettings
from sentemb.training.state import TrainState
from sentemb.training.step import BatchEncoder


def explained(error: BaseException, micro_batch: int = 0, batch_size: int = 0) -> str | None:
    """What happened, and what to do, for errors from outside the code; None for others.

    ``batch_size``: pairs of a process that were being trained on, ``micro_batch`` at a time; 0: none were.
    """
    message = " ".join(str(error).split())
    if disk_full(error):
        return "the disk is full; make room"
    memory = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in message for part in memory):
        lack = f"out of memory ({message[:200] or type(error).__name__})"
        now = min(micro_batch or batch_size, batch_size)
        if now <= 1:
            return f"{lack}; end what else runs here, or use a machine with more"
        return (
            f"{lack}; the same update takes less of it with --micro-batch {max(1, now // 4)}, which --resume takes too "
            f"(now {'' if 0 < micro_batch < batch_size else 'all '}{now} pairs are encoded at once)"
        )
    if "DataLoader worker" in message:
        return (
            f"a process that makes batches has ended ({message[:200]}), for want of memory mostly; give fewer --workers"
        )
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    lost = isinstance(error, dist.DistError) or any(
        part in message.lower() for part in ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    )
    late = any(part in message.lower() for part in ("timed out", "timeout"))
    if several and isinstance(error, RuntimeError) and lost and late:
        return (
            "another process of this run has not answered for as long as --timeout says: it hangs, or it scores or "
            f"saves for longer, which a larger --timeout allows ({message[:200]})"
        )
    if several and isinstance(error, RuntimeError) and lost:
        return f"another process of this run has ended, see what it said ({message[:200]})"
    return None


@contextlib.contextmanager
def explaining_failures(
    run: Path, settings: TrainingSettings, state: TrainState, batches: BatchDataset, encoder: BatchEncoder
) -> Iterator[None]:
    """Raise failures that are none of the code's as TrainingFailed: the step, what happened, what is saved, what to do.

    Args:
        run: the run folder.
        settings: ``micro_batch``, which is what to lower where memory is short.
        state: names the step.
        batches: how many pairs a process encodes.
        encoder: whether it was encoding.
    """
    try:
        yield
    except (InputError, FloatingPointError):
        raise
    except Exception as error:
        pairs = batches.pairs_per_process if encoder.encoding else 0
        reason = explained(error, settings.micro_batch, pairs)
        if reason is None:
            raise
        raise TrainingFailed(f"step {state.step}: {reason}; {last_checkpoint_of(run)}") from error


def last_checkpoint_of(run: Path) -> str:
    """A clause that names the checkpoint from which a run that fails now would resume."""
    newest = RunFolder(run).newest_checkpoint()
    if newest is None:
        return "no checkpoint was saved yet (--save-every)"
    return f"the last good checkpoint is {newest}, and --resume --out {run} resumes from it"


def advice_on_divergence(run: Path, settings: TrainingSettings) -> str:
    """A clause that says what is saved of a run that diverges, and what to try."""
    skip = ", or leave out such updates with --on-nan skip" if settings.on_nan == "stop" else ""
    return (
        f"{last_checkpoint_of(run)}; try a lower --lr (now {settings.lr:g}) or a longer --warmup (now "
        f"{settings.warmup:g}) in a new run{skip}"
    )
