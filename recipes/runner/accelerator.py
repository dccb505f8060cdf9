"""The accelerator of a recipe: device, processes, precision, tracker."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import InitProcessGroupKwargs

from sentemb.encoders import is_folder, read_json, refuse_unsafe
from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.runs import model_folder
from sentemb.storage import verify
from sentemb.training import bf16_units


def make_accelerator(settings: dict[str, Any]) -> Accelerator:
    """Accelerate's settings decide device, processes and, unless it is given, precision; a tracker may be added."""
    track = settings["track"]
    if track is not None:
        choose("tracker", track, LOGGER_TYPE_TO_CLASS)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    # Without a GPU accelerate takes processes started by torchrun for separate runs, unless told of the CPU.
    cpu = launched > 1 and not torch.accelerator.is_available()
    waiting = InitProcessGroupKwargs(timeout=timedelta(minutes=settings["timeout"]))
    # A tracker must be given a folder before the run has one; it is set to the run folder once that is claimed.
    precision = precision_of(settings)
    if precision == "fp16" and not torch.accelerator.is_available():
        raise InputError("precision fp16 needs a GPU; choose bf16 or no")
    accelerator = Accelerator(
        cpu=cpu, mixed_precision=precision, log_with=track, project_dir="runs", kwargs_handlers=[waiting]
    )
    if accelerator.num_processes != launched:
        raise InputError(
            f"{launched} processes were started but accelerate sees {accelerator.num_processes}; use torchrun"
        )
    # A process that refuses the settings and exits while another one still connects would end that one by an error.
    accelerator.wait_for_everyone()
    if track is not None and not accelerator.log_with:
        raise InputError(f"--track {track} needs its package; pip install {track}")
    return accelerator


def precision_of(settings: dict[str, Any]) -> str:
    """``--precision``, else Accelerate's setting, else bf16 for transformers where the processor has units for it.

    (MiniLM trains twice as fast with them on a CPU with AMX.)
    """
    if settings["precision"] != "auto":
        return settings["precision"]
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    begun = settings["init"]
    transformer = settings["encoder"].startswith("transformer") if begun is None else _is_transformer(begun)
    return "bf16" if launched == "no" and transformer and bf16_units() else launched


def _is_transformer(begun: str) -> bool:
    """Whether the finished model of that name is one, as far as its folder says; hub names are taken for one."""
    if not is_folder(begun):
        return True
    folder = model_folder(Path(begun))
    verify(folder)
    refuse_unsafe(folder)
    modules = read_json(folder / "modules.json")
    return bool(modules) and modules[0]["type"].endswith(".Transformer")
