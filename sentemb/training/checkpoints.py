"""Checkpoints: a folder that is whole or not there, loadable as a model and enough to train on from.

``checkpoints/step-N`` is a SentenceTransformer folder with ``training.safetensors`` (the optimiser's tensors, and what
is learned or remembered beside the model: head, side task, objective, averaged twin), ``training.json`` (the step, the
best score so far, the loss scaler) and a manifest (:mod:`sentemb.storage.manifest`). No pickle. Learning rate, data
order and the random numbers of every process are functions of (seed, step, rank), and so need no saved state.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.encoders import read_model
from sentemb.errors import CorruptFolder, InputError, in_a_line
from sentemb.runs import MODULES, SELECTED, RunFolder
from sentemb.storage import free_name, recover, remove, verify, write_folder

Modules = Mapping[str, nn.Module]
Card = Callable[[Path], object]


def save(
    folder: Path,
    embedder: Any,
    optimizer: torch.optim.Optimizer,
    beside: Modules,
    state: Mapping[str, Any],
    card: Card | None = None,
) -> None:
    """Write checkpoint ``folder``, whole or not at all: model, head, side task, optimiser.

    Args:
        beside: what else is learned or remembered, by name: the objective and its twin.
        state: plain values that go into training.json, ``step`` among them.
        card: writes README.md into a saved model's folder.

    Raises:
        FloatingPointError: a weight is not finite; nothing is written.
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
    for name, value in [*embedder.model.state_dict().items(), *tensors.items()]:
        if value.is_floating_point() and not value.isfinite().all():
            raise FloatingPointError(f"{name} is not finite")

    def write(partial: Path) -> None:
        embedder.model.save(str(partial), create_model_card=False)
        save_file(tensors, partial / "training.safetensors")
        (partial / "training.json").write_text(json.dumps({"manifest": True, **state}), encoding="utf-8")
        if card:
            card(partial)

    write_folder(folder, write)


def save_selected_model(
    folder: Path, model: SentenceTransformer, about: dict[str, Any], card: Card | None = None
) -> None:
    """Write ``folder``, a model with ``selected.json``: the step it is of and its dev score; whole or not at all."""

    def write(partial: Path) -> None:
        model.save(str(partial), create_model_card=False)
        (partial / SELECTED).write_text(json.dumps({**about, "manifest": True}) + "\n", encoding="utf-8")
        if card:
            card(partial)

    write_folder(folder, write)


def _asides(embedder: Any) -> dict[str, nn.Module]:
    """What is trained beside the model and is no part of it."""
    found = {"head": embedder.head, "mlm": embedder.mlm}
    return {name: module for name, module in found.items() if module is not None}


def newest_valid_checkpoint(run: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of ``run`` that is what its manifest says, and what was said of those that are not.

    A damaged one is set aside as ``checkpoints/damaged-step-N``. None: there is no checkpoint.

    Raises:
        InputError: there are some and none is whole; all are left where they were.
    """
    folder = RunFolder(run)
    for parent in (run, folder.checkpoints):
        if parent.is_dir():
            recover(parent)
    wrong: list[tuple[Path, str]] = []
    for checkpoint in (found := folder.all_checkpoints()):
        try:
            verify(checkpoint)
        except CorruptFolder as error:
            wrong.append((checkpoint, str(error)))
        else:
            break
    if wrong and len(wrong) == len(found):
        raise InputError(f"no checkpoint of {run} is whole: {wrong[0][1]}; or begin a new --out")
    told, used = [], found[len(wrong)] if found else None
    for checkpoint, why in wrong:
        aside = free_name(checkpoint.with_name(f"damaged-{checkpoint.name}"), "")
        checkpoint.rename(aside)
        what = why.rpartition("; ")[0]  # (what to do about it is done here)
        told.append(f"{what}; it is set aside as {aside}, and the run goes on from the checkpoint before, {used}")
    return used, told


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints; 0: none."""
    for folder in RunFolder(run).all_checkpoints()[keep:] if keep else ():
        remove(folder)


def restore(folder: Path, embedder: Any, optimizer: torch.optim.Optimizer, beside: Modules) -> dict[str, Any]:
    """Put a checkpoint's weights and state into ``embedder``, ``optimizer`` and ``beside``; returns its plain values.

    It is taken to be whole (:func:`newest_valid_checkpoint`).

    Raises:
        InputError: a file is missing or does not fit the model.
    """
    file = folder / "training.json"
    try:
        state = dict(json.loads(file.read_text(encoding="utf-8")))
        state["step"] = int(state["step"])
        file = folder / MODULES
        embedder.model.load_state_dict(read_model(folder).state_dict())
        file = folder / "training.safetensors"
        tensors = load_file(file)
        for name, module in (_asides(embedder) | dict(beside)).items():
            start = f"{name}."
            module.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        _restore_optimizer(tensors, optimizer)
    except Exception as error:
        raise InputError(
            f"{folder} cannot be resumed from: {file.name} does not fit this run ({in_a_line(error)}); if the file is "
            "damaged, remove the folder to continue from the one before; if other settings made it, begin a new run"
        ) from error
    return state


def _restore_optimizer(tensors: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        if not number.isdigit():
            continue
        state.setdefault(int(number), {})[key] = value
    kept = optimizer.state_dict()["param_groups"]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, entries in state.items():
        if place >= len(weights):
            raise ValueError(f"it has a weight {place} more than the {len(weights)} there are")
        for key, value in entries.items():
            if value.ndim and value.shape != weights[place].shape:
                raise ValueError(f"{place}.{key} is {tuple(value.shape)}, not {tuple(weights[place].shape)}")
    optimizer.load_state_dict({"state": state, "param_groups": kept})
