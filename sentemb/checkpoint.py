"""Checkpoints: a folder that is whole or not there, loadable as a model and enough to train on from.

``checkpoints/step-N`` is a SentenceTransformer folder with two files more, ``training.safetensors`` (the optimiser's
tensors, and what is learned or remembered beside the model: head, side task, objective, averaged twin) and
``training.json`` (the step). No pickle. Dropout needs no saved random state:
the loop seeds each step from (seed, step, rank).
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from sentemb.encoders import load
from sentemb.registry import InputError


def write_whole(folder: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a folder under another name, sync it to disk, then give it its name, replacing one there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    replaced = partial.with_name(partial.name + "-replaced")
    for leftover in folder.parent.glob(f".{folder.name}.partial-*"):  # of a killed process
        if leftover.name.endswith("-replaced") and not folder.exists():  # killed between the two renames below
            leftover.rename(folder)
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        write(partial)
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def save(
    folder: Path, step: int, embedder: Any, optimizer: torch.optim.Optimizer, beside: Mapping[str, torch.nn.Module]
) -> None:
    """Write checkpoint ``folder`` after ``step`` steps, whole or not at all: model, head, side task, optimiser.

    ``beside``: what else is learned or remembered, by name: the objective and its twin.
    """
    kept = optimizer.state_dict()
    tensors = {
        f"{number}.{key}": value.detach().cpu().contiguous()
        for number, entries in kept["state"].items()
        for key, value in entries.items()
    }
    for name, module in (_asides(embedder) | dict(beside)).items():
        own = module.state_dict().items()
        tensors |= {f"{name}.{key}": value.detach().cpu().clone() for key, value in own}  # (some share memory)

    def write(partial: Path) -> None:
        embedder.model.save(str(partial), create_model_card=False)
        save_file(tensors, partial / "training.safetensors")
        (partial / "training.json").write_text(json.dumps({"step": step}), encoding="utf-8")

    write_whole(folder, write)


def save_model(folder: Path, model: SentenceTransformer, about: dict[str, Any]) -> None:
    """Write ``folder``, a model with ``selected.json``: the step it is of and its dev score; whole or not at all."""

    def write(partial: Path) -> None:
        model.save(str(partial), create_model_card=False)
        (partial / "selected.json").write_text(json.dumps(about) + "\n", encoding="utf-8")

    write_whole(folder, write)


def _asides(embedder: Any) -> dict[str, torch.nn.Module]:
    """What is trained beside the model and is no part of it."""
    found = {"head": embedder.head, "mlm": embedder.mlm}
    return {name: module for name, module in found.items() if module is not None}


def newest(run: Path) -> Path | None:
    """The checkpoint of ``run`` with the most steps, or None."""
    found = [p for p in run.glob("checkpoints/step-*") if p.name[5:].isdigit() and (p / "training.json").is_file()]
    return max(found, key=lambda p: int(p.name[5:]), default=None)


def restore(
    folder: Path, embedder: Any, optimizer: torch.optim.Optimizer, beside: Mapping[str, torch.nn.Module]
) -> int:
    """Put a checkpoint's weights and state into ``embedder``, ``optimizer`` and ``beside``; returns its step.

    Raises:
        InputError: a file is missing or does not fit the model.
    """
    try:
        step = int(json.loads((folder / "training.json").read_text(encoding="utf-8"))["step"])
        tensors = load_file(folder / "training.safetensors")
        embedder.model.load_state_dict(load(folder, device="cpu").state_dict())
        for name, module in (_asides(embedder) | dict(beside)).items():
            start = f"{name}."
            module.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        _restore_optimizer(tensors, optimizer)
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder} cannot be resumed from ({why}); if it is damaged, remove it to continue from the one before; "
            "if other settings made it, begin a new run"
        ) from error
    return step


def _restore_optimizer(tensors: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        if not number.isdigit():
            continue
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
