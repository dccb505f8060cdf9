"""Failures that are none of the code's: what happened, what is kept, and how to go on, in a sentence."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator

from sentemb.errors import InputError, TrainingFailed, TrainingInterrupted, disk_full
from sentemb.pairs import Pairs
from sentemb.runs import RunFolder
from sentemb.storage import write_text
from sentemb.training.batches import Batch
from sentemb.training.config import FitConfig
from sentemb.training.log import Log


def explained(error: BaseException, micro_batch: int = 0, batch_size: int = 0) -> str | None:
    """What happened, and what to do, for errors that are none of the code; None for others.

    ``batch_size``: pairs of a process that were being trained on, ``micro_batch`` at a time; 0: none were.
    """
    said = " ".join(str(error).split())
    if disk_full(error):
        return "the disk is full; make room"
    memory = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in said for part in memory):
        lack = f"out of memory ({said[:200] or type(error).__name__})"
        now = min(micro_batch or batch_size, batch_size)
        if now <= 1:
            return f"{lack}; end what else runs here, or use a machine with more"
        return (
            f"{lack}; the same update takes less of it with --micro-batch {max(1, now // 4)}, which --resume takes too "
            f"(now {'' if 0 < micro_batch < batch_size else 'all '}{now} pairs are encoded at once)"
        )
    if "DataLoader worker" in said:
        return f"a process that makes batches has ended ({said[:200]}), for want of memory mostly; give fewer --workers"
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    lost = isinstance(error, dist.DistError) or any(
        part in said.lower() for part in ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    )
    late = any(part in said.lower() for part in ("timed out", "timeout"))
    if several and isinstance(error, RuntimeError) and lost and late:
        return (
            "another process of this run has not answered for as long as --timeout says: it hangs, or it scores or "
            f"saves for longer, which a larger --timeout allows ({said[:200]})"
        )
    if several and isinstance(error, RuntimeError) and lost:
        return f"another process of this run has ended, see what it said ({said[:200]})"
    return None


class _Place:
    """How far the loop has come, for what is said when it fails."""

    step = 0
    encoding = False
    log: Log | None = None


@contextlib.contextmanager
def _explained(run: Path, micro_batch: int, batch_size: int) -> Iterator[_Place]:
    """Errors that are none of the code as Halted, with what is kept; the log is closed in any case."""
    at = _Place()
    try:
        yield at
    except (InputError, FloatingPointError):
        raise
    except Exception as error:
        why = (
            None if isinstance(error, TrainingInterrupted) else explained(error, micro_batch, batch_size * at.encoding)
        )
        if why is None:
            raise
        raise TrainingFailed(f"step {at.step}: {why}; {_kept(run)}") from error
    finally:
        with contextlib.suppress(OSError):  # (of a full disk)
            if at.log is not None:
                at.log.close()


def _kept(run: Path) -> str:
    """What a run that fails now goes on from."""
    newest = RunFolder(run).newest_checkpoint()
    if newest is None:
        return "no checkpoint was saved yet (--save-every)"
    return f"the last good checkpoint is {newest}, and --resume --out {run} goes on from it"


def _mend(run: Path, config: FitConfig) -> str:
    skip = ", or leave out such updates with --on-nan skip" if config.on_nan == "stop" else ""
    return (
        f"{_kept(run)}; try a lower --lr (now {config.lr:g}) or a longer --warmup (now {config.warmup}) in a new "
        f"run{skip}"
    )


def _batch_file(
    run: Path, step: int, batch: Batch, pairs: Pairs, about: dict[str, float], accelerator: Accelerator
) -> str:
    """Write down which pairs an update without a finite gradient saw; returns a clause that says where."""
    assert batch.pair_indices is not None
    path, numbers = RunFolder(run).nonfinite(step), batch.pair_indices.tolist()
    if accelerator.is_main_process:
        content = {"step": step, **{name: str(value) for name, value in about.items()}, "pairs": numbers}
        content["sentences"] = pairs.rows[batch.pair_indices].tolist()  # rows of the corpus
        write_text(path, json.dumps(content) + "\n")
    shown = ", ".join(map(str, numbers[:5]))
    return f" (pairs {shown}{', ...' if len(numbers) > 5 else ''}: {len(numbers)} in {path})"
