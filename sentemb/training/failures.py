"""Failures from outside the code (a full disk, too little memory, a lost process), and what to do about each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from sentemb.errors import InputError, TrainingFailed, disk_full, in_a_line
from sentemb.runs import RunFolder
from sentemb.training.data import BatchDataset
from sentemb.training.heartbeat import lost_process, report_failure, who_is_missing
from sentemb.training.settings import TrainingSettings
from sentemb.training.state import TrainState
from sentemb.training.step import BatchEncoder

LATE = ("timed out", "timeout")  # parts of messages of collectives that have waited for as long as they may


def is_lost_process(error: BaseException) -> bool:
    """Whether a collective has failed, or waited in vain, for want of another process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    text = str(error).lower()
    parts = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    return isinstance(error, RuntimeError) and (
        isinstance(error, dist.DistError) or any(part in text for part in parts)
    )


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
    if is_lost_process(error):
        return lost_process(who_is_missing(), any(part in message.lower() for part in LATE), message)
    return None


def report_to_others(error: BaseException) -> None:
    """Tell the other processes why this one ends; where it ends for want of another, note which one that is."""
    cause = error.__cause__ if isinstance(error, TrainingFailed) and error.__cause__ else error
    if is_lost_process(cause):
        who_is_missing()  # (what is said later repeats it)
        return
    expected = isinstance(error, InputError | FloatingPointError | TrainingFailed)
    report_failure(in_a_line(error) if expected else f"{type(error).__name__}: {in_a_line(error)}")


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
        if not is_lost_process(error):
            report_failure(reason)
        raise TrainingFailed(f"step {state.step}: {reason}; {last_checkpoint_of(run)}") from error


def last_checkpoint_of(run: Path) -> str:
    """A clause that names the checkpoint from which a run that fails now would resume."""
    newest = RunFolder(run).newest_checkpoint()
    follows = dist.is_available() and dist.is_initialized() and dist.get_rank() > 0
    if newest is None and follows and not RunFolder(run).config.is_file():  # (not a file system of all hosts)
        return f"what was saved is in {run} on the host of the first process, and --resume there resumes from it"
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
