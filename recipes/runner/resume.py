"""Run folders: whose one is, whether what is resumed is the run that was begun, and how to go on with it."""

import ctypes
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import Timeout

from recipes.runner.settings import refuse_used
from sentemb.corpus import Corpus
from sentemb.encoders import Prompts
from sentemb.errors import CorruptFolder, InputError
from sentemb.runs import MODULES, RunFolder
from sentemb.storage import lock_of, verify
from sentemb.training import EpochLayout, TrainingSettings
from sentemb.validation import ONE_SIDE, TWO_TOWERS

SCORING = ("select", "tasks", "score", "data")  # settings that are about a finished training


def begun(out: Path | None, resume: bool) -> dict[str, Any]:
    """config.json of the run that is continued; empty if none is."""
    return RunFolder(out).read_settings() if resume and out is not None and RunFolder(out).config.is_file() else {}


def on_processes(config: TrainingSettings, kept: dict[str, Any], world: int, elastic: bool) -> TrainingSettings:
    """The settings for ``world`` processes; those of a continued run keep its global batch and the cuts of its epochs.

    Raises:
        InputError: it was begun on another number, and ``elastic`` is not given or the batch does not divide.
    """
    before, least = kept.get("world_size", world), kept.get("least", 0)
    if before == world:
        return replace(config, smallest_batch=least)
    if not elastic:
        raise InputError(
            f"the run was begun on {before} process(es) and now there are {world}; start as many, or add --elastic to "
            "go on with the same global batch"
        )
    whole = config.batch_size * before
    if whole % world or whole < 2 * world:
        raise InputError(
            f"the global batch of {whole} pairs cannot be shared evenly by {world} processes, two pairs each"
        )
    return replace(config, batch_size=whole // world, smallest_batch=least or 2 * before)


def differences(config: TrainingSettings, kept: dict[str, Any], world: int, steps: int, pairs: int) -> list[str]:
    """What a continued run does not do as the one that was begun would have, a sentence each.

    Raises:
        InputError: the last update of an epoch is too small for so many processes.
    """
    notes, before = [], kept.get("world_size", world)
    updates = EpochLayout(pairs, config.batch_size, world, config.smallest_batch)
    if updates.size(len(updates) - 1) < 2 * world:
        raise InputError(
            f"the last update of an epoch has {updates.size(len(updates) - 1)} pairs, too few for {world} processes; "
            f"use fewer, {before} say"
        )
    if before != world:
        notes.append(
            f"begun on {before} process(es), now {world} with {config.batch_size} pairs each: the same pairs in each "
            "update; dropout masks and augmentations are drawn anew for each process and sums are rounded otherwise, "
            "so that losses differ a little"
        )
    if kept and (parts := kept.get("settings", {}).get("micro_batch", config.micro_batch)) != config.micro_batch:
        notes.append(
            f"micro-batch was {parts} and is {config.micro_batch}: the same gradient, but for dropout masks, which are "
            "drawn for each part"
        )
    now = {"threads": torch.get_num_threads(), "torch": version("torch"), "transformers": version("transformers")}
    then = kept.get("versions", {}) | kept
    other = [f"{name} {then[name]} (now {value})" for name, value in now.items() if then.get(name, value) != value]
    if other:
        notes.append(f"begun with {', '.join(other)}: sums are rounded otherwise, so that numbers differ a little")
    if kept and (planned := kept.get("steps", steps)) != steps:
        notes.append(
            f"planned for {planned} steps, now {steps}: from here on the learning rate falls to 0 at step {steps}, "
            f"which a run of {steps} steps from the start would have done from its warm-up on"
        )
    return notes


def prompts_begun_with(kept: dict[str, Any], prompts: Prompts) -> Prompts:
    """What a run trains with: ``prompts`` of its model, or those that a continued one was begun with."""
    if not kept:
        return prompts
    return Prompts(**kept.get("prompts", {}))  # (earlier versions trained without any)


def retrieval_before(kept: dict[str, Any], towers: int, runs: bool) -> dict[str, str] | None:
    """How a continued run ranked held-out pairs when it was begun; None if none is continued."""
    if not kept:
        return None
    # (earlier versions took cosines always, and [f; g] for both sides of consecutive sentences)
    return kept.get("retrieval", {"score": "cosine", "sides": TWO_TOWERS if towers > 1 and not runs else ONE_SIDE})


def changed_meanings(
    kept: dict[str, Any],
    prompts: Prompts,
    default: Prompts,
    retrieval: dict[str, str],
    before: dict[str, str] | None,
) -> list[str]:
    """What means something else now than when a continued run was begun by an earlier version, a sentence each."""
    notes = []
    if kept and prompts != default:
        notes.append(
            f"the run was begun with the prompts {prompts.anchor!r} and {prompts.positive!r} and goes on with them; "
            f"the model's are {default.anchor!r} and {default.positive!r}, with which it is scored; begin a new run "
            "to train with those"
        )
    if before is not None and before != retrieval:
        notes.append(
            f"held-out pairs are ranked by {retrieval['score']} ({retrieval['sides']}) now, and were by "
            f"{before['score']} ({before['sides']}) when the run was begun: these scores do not compare, and best/ is "
            "chosen anew from here on"
        )
    return notes


def refuse_another_job(out: Path, kept: dict[str, Any], corpus: Corpus, accelerator: Accelerator, done: bool) -> None:
    """InputError if what is resumed would not be the run in ``out`` continued; ``done``: it is finished."""
    run = RunFolder(out)
    now = {"corpus": corpus.fingerprint, "precision": accelerator.mixed_precision}
    for name, value in now.items():
        before = kept.get(name, value)
        before = before.get("fingerprint", value) if isinstance(before, dict) else before
        if before != value:
            raise InputError(
                f"{out} was begun with {name} {before}, now it is {value}; give it what it had, or a new --out"
            )
    if run.newest_checkpoint() is None and run.model.exists() and not done:
        raise InputError(
            f"{out} is finished and has no checkpoint to go on from; begin a new --out, or score it with python -m "
            "eval.senteval"
        )


@contextmanager
def claimed(out: Path | None, name: str, accelerator: Accelerator, anew: bool = False) -> Iterator[Path]:
    """Make the run folder, and keep others from writing into it; by default the first free of runs/NAME, runs/NAME-2.

    ``anew``: there must be nothing in it.

    Raises:
        InputError: it cannot be made, or another process of this machine writes into it.
    """
    names, held = [out], None
    if accelerator.is_main_process:
        try:
            made = names[0] = _made(out, name)
            (made / ".config.json.try").touch()
            (made / ".config.json.try").unlink()
        except OSError as error:
            raise InputError(
                f"cannot write to the run folder {out or 'runs'} ({error.strerror}); choose another --out"
            ) from None
        with suppress(OSError, NotImplementedError):  # (a file system without locks)
            held = lock_of(made)
            try:
                held.acquire(timeout=0)
            except Timeout:
                raise InputError(
                    f"{made} is being written by another process; wait for its end, or choose another --out"
                ) from None
    try:
        if anew and accelerator.is_main_process:
            refuse_used(made)  # (it may have been begun while this one prepared)
        broadcast_object_list(names)
        assert names[0] is not None
        yield names[0]
    finally:
        if held is not None:
            held.release()


def _made(out: Path | None, name: str) -> Path:
    number = 1
    while out is None:
        free = Path("runs") / (name if number == 1 else f"{name}-{number}")
        number += 1
        with suppress(FileExistsError):  # (two may be started at once)
            free.mkdir(parents=True)
            out = free
    out.mkdir(parents=True, exist_ok=True)
    return out


def finished(out: Path, steps: int, kept: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether the run in ``out`` has its whole model, scored as asked for now, and no step of ``steps`` is left."""
    if any(kept.get("settings", {}).get(name) != settings[name] for name in SCORING):
        return False
    run = RunFolder(out)
    if not (run.model / MODULES).is_file() or not run.report.is_file():
        return False
    try:
        verify(run.model)
        return run.last_record().get("step", -1) >= steps
    except (CorruptFolder, OSError, TypeError):
        return False


def resume_command(out: Path) -> str:
    """What to type to go on with ``out``, by the launcher that started this."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = f"torchrun --nproc_per_node {os.environ.get('LOCAL_WORLD_SIZE', 1)}"
    else:
        launcher = "accelerate launch" if _by_accelerate() else Path(sys.executable).name
    return f"{launcher} {shlex.quote(sys.argv[0])} --resume --out {shlex.quote(str(out))}"


def end_with_launcher() -> None:
    """On Linux: hang up when the launcher is gone, so that no process trains on unseen."""
    launched = "TORCHELASTIC_RUN_ID" in os.environ or _by_accelerate()
    if sys.platform.startswith("linux") and launched:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGHUP)  # PR_SET_PDEATHSIG


def _by_accelerate() -> bool:
    return "ACCELERATE_MIXED_PRECISION" in os.environ
