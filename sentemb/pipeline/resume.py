"""Check that a resumed run is the run that was started, and list what differs now."""

import os
import shlex
import sys
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from sentemb.corpus import Corpus
from sentemb.encoders import Prompts
from sentemb.errors import CorruptFolder, InputError
from sentemb.pipeline.processes import started_by_accelerate
from sentemb.pipeline.settings import EvaluationSettings
from sentemb.program import started_as
from sentemb.runs import MODULES, RunFolder
from sentemb.storage import verify
from sentemb.training import EpochLayout, TrainingSettings
from sentemb.validation import ONE_SIDE, TWO_TOWERS
from sentemb.wording import counted

Config = dict[str, Any]  # what config.json holds


def config_begun(out: Path | None, resume: bool) -> Config:
    """config.json of the run that is continued; empty if none is."""
    if not resume or out is None or not RunFolder(out).config.is_file():
        return {}
    return RunFolder(out).read_settings()


def on_processes(settings: TrainingSettings, begun: Config, world: int, elastic: bool) -> TrainingSettings:
    """The settings for ``world`` processes; those of a continued run keep its global batch and the cuts of its epochs.

    Raises:
        InputError: it was started on another number, and ``elastic`` is not given or the batch is too small.
    """
    before, least = begun.get("world_size", world), begun.get("least", 0)
    batch = begun.get("global_batch", settings.batch_size * before)
    uneven = batch if batch % world else 0
    if before == world:
        return replace(settings, smallest_batch=least, global_batch=uneven)
    if not elastic:
        raise InputError(
            f"the run was started on {counted(before, 'process')} and now there are {world}; start as many, or add "
            "--elastic to resume with the same global batch"
        )
    if batch < 2 * world:
        raise InputError(
            f"the global batch of {batch} pairs is too small for {world} processes, two pairs each at least"
        )
    share = -(-batch // world)
    return replace(settings, batch_size=share, smallest_batch=least or 2 * before, global_batch=uneven)


def differences(settings: TrainingSettings, begun: Config, world: int, steps: int, pairs: int) -> list[str]:
    """The differences between a continued run and one without interruption, a sentence each.

    Raises:
        InputError: the last update of an epoch is too small for this number of processes.
    """
    notes, before = [], begun.get("world_size", world)
    updates = EpochLayout(pairs, settings.batch_size, world, settings.smallest_batch, settings.global_batch)
    if updates.size(len(updates) - 1) < 2 * world:
        raise InputError(
            f"the last update of an epoch has {updates.size(len(updates) - 1)} pairs, too few for {world} processes; "
            f"use fewer, for example {before}"
        )
    if before != world:
        most, uneven = settings.batch_size, settings.global_batch > 0
        share = f"{most - 1} or {most}" if uneven else most
        notes.append(
            f"begun on {counted(before, 'process')}, now {world} with {share} pairs each: the same pairs in each "
            "update; dropout masks and augmentations are drawn for each process and sums are rounded differently, "
            "so that losses differ a little"
        )
    if begun and (parts := begun.get("settings", {}).get("micro_batch", settings.micro_batch)) != settings.micro_batch:
        notes.append(
            f"micro-batch was {parts} and is {settings.micro_batch}: the same gradient, except dropout masks, which "
            "are drawn for each part"
        )
    now = {"threads": torch.get_num_threads(), "torch": version("torch"), "transformers": version("transformers")}
    then = begun.get("versions", {}) | begun
    other = [f"{name} {then[name]} (now {value})" for name, value in now.items() if then.get(name, value) != value]
    if other:
        notes.append(f"begun with {', '.join(other)}: sums are rounded differently, so that numbers differ a little")
    if begun and (planned := begun.get("steps", steps)) != steps:
        rising, rising_before = settings.warmup_updates(steps), settings.warmup_updates(planned)
        warmup = "" if rising == rising_before else f" with {rising} of them warm-up (was {rising_before})"
        falls = "" if settings.schedule == "constant" else f", and it falls to 0 at step {steps}"
        notes.append(
            f"planned for {planned} steps, now {steps}: from here on the learning rate is that of a run of {steps} "
            f"steps{warmup}{falls}"
        )
    return notes


def prompts_begun_with(begun: Config, prompts: Prompts) -> Prompts:
    """What a run trains with: ``prompts`` of its model, or those that a continued one was started with."""
    if not begun:
        return prompts
    return Prompts(**begun.get("prompts", {}))  # (earlier versions trained without any)


def retrieval_before(begun: Config, towers: int, runs: bool) -> dict[str, str] | None:
    """How a continued run ranked held-out pairs when it was begun; None if none is continued."""
    if not begun:
        return None
    # (earlier versions took cosines always, and [f; g] for both sides of consecutive sentences)
    return begun.get("retrieval", {"score": "cosine", "sides": TWO_TOWERS if towers > 1 and not runs else ONE_SIDE})


def changed_meanings(
    begun: Config,
    prompts: Prompts,
    default: Prompts,
    retrieval: dict[str, str],
    before: dict[str, str] | None,
) -> list[str]:
    """What has a different meaning now than in the version that started the run, a sentence each."""
    notes = []
    if begun and prompts != default:
        notes.append(
            f"the run was started with the prompts {prompts.anchor!r} and {prompts.positive!r} "
            f"and continues with them; the model's are {default.anchor!r} and {default.positive!r}, with which it is "
            "scored; begin a new run to train with those"
        )
    if before is not None and before != retrieval:
        notes.append(
            f"held-out pairs are ranked by {retrieval['score']} ({retrieval['sides']}) now, and were by "
            f"{before['score']} ({before['sides']}) when the run was begun: these scores do not compare, and best/ is "
            "chosen again from here on"
        )
    return notes


def refuse_another_run(out: Path, begun: Config, corpus: Corpus, accelerator: Accelerator, done: bool) -> None:
    """InputError if what is resumed would not be the run in ``out`` continued; ``done``: it is finished."""
    run = RunFolder(out)
    now = {"corpus": corpus.fingerprint, "precision": accelerator.mixed_precision}
    for name, value in now.items():
        before = begun.get(name, value)
        before = before.get("fingerprint", value) if isinstance(before, dict) else before
        if before != value:
            raise InputError(
                f"{out} was started with {name} {before}, now it is {value}; use the former value, or a new --out"
            )
    if run.newest_checkpoint() is None and run.model.exists() and not done:
        raise InputError(
            f"{out} is finished and has no checkpoint to resume from; begin a new --out, or score it with python -m "
            "eval.senteval"
        )


def finished(out: Path, steps: int, begun: Config, evaluation: EvaluationSettings, reported: bool) -> bool:
    """Whether the run in ``out`` has its model, by the current selection, and no step of ``steps`` is left.

    ``reported``: whether it must also have its page, and have been scored as this call asks.
    """
    settings, run = begun.get("settings", {}), RunFolder(out)
    names = [each.name for each in fields(evaluation) if each.metadata.get("may_change")] if reported else ["select"]
    if any(settings.get(name) != getattr(evaluation, name) for name in names):
        return False
    if not (run.model / MODULES).is_file() or (reported and not run.report.is_file()):
        return False
    try:
        verify(run.model)
        return bool(run.last_record().get("step", -1) >= steps)
    except (CorruptFolder, OSError, TypeError):
        return False


def how_to_resume(out: Path, command: bool) -> str:
    """What to type to resume ``out``: a command line, by the launcher that started this one, or Python."""
    if not command:
        return f"sentemb.train(..., out={str(out)!r}, resume=True)"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = f"torchrun --nproc_per_node {os.environ.get('LOCAL_WORLD_SIZE', 1)}"
    else:
        launcher = "accelerate launch" if started_by_accelerate() else ""
    started = [*launcher.split(), sys.argv[0]] if launcher else started_as()
    return shlex.join([*started, "--resume", "--out", str(out)])
