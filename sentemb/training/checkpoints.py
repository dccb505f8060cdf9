"""Checkpoints: each folder is complete or absent, loads as a model, and holds all that resuming needs.

``checkpoints/step-N`` is a SentenceTransformer folder with ``training.safetensors`` (the optimiser's tensors, and what
learns or remembers besides the model: head, side task, objective, momentum encoder; of a model with adapters their
matrices and the weights under them, as the model itself is saved without adapters), ``training.json``
(:class:`TrainState`, the settings that must stay, the loss scaler) and a manifest (:mod:`sentemb.storage.manifest`). No
pickle. Learning rate, data order and the random numbers of every process are functions of (seed, step, rank), and so
need no saved state.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.encoders import adapted_layers, read_model, without_adapters
from sentemb.errors import CorruptFolder, InputError, in_a_line
from sentemb.forward import TrainingEncoder
from sentemb.runs import MODULES, SELECTED, RunFolder, write_card
from sentemb.storage import free_name, recover, remove, verify, write_folder
from sentemb.training.distributed import refuse_drift
from sentemb.training.failures import advice_on_divergence
from sentemb.training.settings import TrainingSettings
from sentemb.training.state import TrainState

Modules = Mapping[str, nn.Module]
Card = Callable[[Path], object]
TENSORS, STATE = "training.safetensors", "training.json"


class Checkpointer:
    """Writes ``checkpoints/step-N``, and removes all but the newest of them.

    Args:
        run: the run folder.
        encoder: the model, its head and its side task.
        optimizer: its tensors are saved.
        modules: what else learns or remembers, by name: the objective and the momentum encoder.
        settings: how many checkpoints stay, and what a resumed run must continue with.
        accelerator: the processes and the loss scaler.
    """

    def __init__(
        self,
        run: Path,
        encoder: TrainingEncoder,
        optimizer: torch.optim.Optimizer,
        modules: Modules,
        settings: TrainingSettings,
        accelerator: Accelerator,
    ) -> None:
        self.run, self.encoder, self.optimizer, self.modules = run, encoder, optimizer, modules
        self.settings, self.accelerator = settings, accelerator

    def save(self, state: TrainState) -> Path:
        """Save the run as it is after ``state.step``; all processes wait.

        Raises:
            FloatingPointError: a weight is not finite; nothing is written.
            RuntimeError: what an objective remembers differs between processes.
        """
        for module in self.modules.values():
            refuse_drift(module, self.accelerator)
        folder, scaler = RunFolder(self.run).checkpoint(state.step), self.accelerator.scaler
        if self.accelerator.is_main_process:
            content = state.to_json() | {
                "settings": fixed_settings(self.settings, self.accelerator.num_processes),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            card = card_of(self.run, state.step, {})
            try:
                save(folder, self.encoder, self.optimizer, self.modules, content, card)
            except FloatingPointError as error:
                advice = advice_on_divergence(self.run, self.settings)
                raise FloatingPointError(f"step {state.step}: {error}, so it is not saved; {advice}") from None
            prune(self.run, self.settings.keep)
        self.accelerator.wait_for_everyone()
        return folder


def fixed_settings(settings: TrainingSettings, processes: int) -> dict[str, Any]:
    """The settings that a resumed run must continue with, by the names that ``training.json`` has."""
    names = ("lr", "warmup", "schedule", "optimizer", "weight_decay", "clip", "seed", "mlm")
    return {name: getattr(settings, name) for name in names} | {"global batch": settings.pairs_per_update(processes)}


def card_of(run: Path, step: int, scores: Mapping[str, float]) -> Card:
    """Writes the card of the model after ``step`` into a folder, with its held-out scores."""
    shown = {name.removeprefix("heldout_"): value for name, value in scores.items()}
    return lambda folder: write_card(folder, RunFolder(run).read_config(), f"{step} steps", shown)


def save(
    folder: Path,
    encoder: TrainingEncoder,
    optimizer: torch.optim.Optimizer,
    modules: Modules,
    state: Mapping[str, Any],
    card: Card | None = None,
) -> None:
    """Write checkpoint ``folder``, complete or not at all: model, head, side task, optimiser.

    Args:
        folder: it must not exist.
        encoder: the model, its head and its side task.
        optimizer: its tensors are saved.
        modules: what else learns or remembers, by name: the objective and the momentum encoder.
        state: plain values that go into training.json, ``step`` among them.
        card: writes README.md into a saved model's folder.

    Raises:
        FloatingPointError: a weight is not finite; nothing is written.
    """
    tensors = {
        f"{number}.{key}": value.detach().cpu().contiguous()
        for number, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }
    for name, module in (_training_only(encoder) | dict(modules)).items():
        weights = module.state_dict().items()
        tensors |= {f"{name}.{key}": value.detach().cpu().clone() for key, value in weights}  # (some share memory)
    for name, value in [*encoder.model.state_dict().items(), *tensors.items()]:
        if value.is_floating_point() and not value.isfinite().all():
            raise FloatingPointError(f"{name} is not finite")

    def write(partial: Path) -> None:
        with without_adapters(encoder.model):
            encoder.model.save(str(partial), create_model_card=False)
        save_file(tensors, partial / TENSORS)
        (partial / STATE).write_text(json.dumps({"manifest": True, **state}), encoding="utf-8")
        if card:
            card(partial)

    write_folder(folder, write)


def save_selected_model(
    folder: Path, model: SentenceTransformer, about: dict[str, Any], card: Card | None = None
) -> None:
    """Write ``folder``, a model with ``selected.json``: its step and its dev score; complete or not at all."""

    def write(partial: Path) -> None:
        with without_adapters(model):
            model.save(str(partial), create_model_card=False)
        (partial / SELECTED).write_text(json.dumps({**about, "manifest": True}) + "\n", encoding="utf-8")
        if card:
            card(partial)

    write_folder(folder, write)


def _training_only(encoder: TrainingEncoder) -> dict[str, nn.Module]:
    """The modules that are trained with the model, but are not part of the saved one."""
    modules = {"head": encoder.head, "mlm": encoder.mlm, "lora": adapted_layers(encoder.model)}
    return {name: module for name, module in modules.items() if module is not None}


@dataclass(frozen=True)
class ResumePoint:
    """Where a run resumes, and the damaged checkpoints that are newer."""

    checkpoint: Path | None = None  # None: there is none, and the run begins
    damaged: tuple[tuple[Path, str], ...] = ()  # the folder and what is wrong with it


def newest_valid_checkpoint(run: Path) -> ResumePoint:
    """The newest checkpoint of ``run`` that agrees with its manifest. Damaged ones stay where they are.

    Raises:
        InputError: there are checkpoints, and all of them are damaged.
    """
    folder = RunFolder(run)
    for parent in (run, folder.checkpoints):
        if parent.is_dir():
            recover(parent)
    damaged: list[tuple[Path, str]] = []
    for checkpoint in folder.all_checkpoints():
        try:
            verify(checkpoint)
        except CorruptFolder as error:
            damaged.append((checkpoint, str(error)))
        else:
            return ResumePoint(checkpoint, tuple(damaged))
    if damaged:
        raise InputError(f"all checkpoints of {run} are damaged: {damaged[0][1]}; or begin a new --out")
    return ResumePoint()


def set_aside_damaged(point: ResumePoint) -> list[str]:
    """Rename the damaged checkpoints to ``checkpoints/damaged-step-N``; returns a warning for each."""
    warnings = []
    for checkpoint, error in point.damaged:
        target = free_name(checkpoint.with_name(f"damaged-{checkpoint.name}"), "")
        checkpoint.rename(target)
        problem = error.rpartition("; ")[0]  # (without what to do about it)
        warnings.append(
            f"{problem}; it is set aside as {target}, and the run resumes from the checkpoint before, "
            f"{point.checkpoint}"
        )
    return warnings


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints; 0: none."""
    for folder in RunFolder(run).all_checkpoints()[keep:] if keep else ():
        remove(folder)


def restore(
    folder: Path, encoder: TrainingEncoder, optimizer: torch.optim.Optimizer, modules: Modules
) -> tuple[TrainState, dict[str, Any]]:
    """Put a valid checkpoint's weights into ``encoder``, ``optimizer`` and ``modules``.

    Returns:
        The state of the run, and all plain values of training.json.

    Raises:
        InputError: a file is missing or does not fit the model.
    """
    file = folder / STATE
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        state = TrainState.from_json(content)
        file = folder / MODULES
        with without_adapters(encoder.model):
            encoder.model.load_state_dict(read_model(folder).state_dict())
        file = folder / TENSORS
        tensors = load_file(file)
        for name, module in (_training_only(encoder) | dict(modules)).items():
            start = f"{name}."
            module.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        _restore_optimizer(tensors, optimizer)
    except Exception as error:
        raise InputError(
            f"{folder} cannot be resumed from: {file.name} does not fit this run ({in_a_line(error)}); if the file is "
            "damaged, remove the folder to continue from the one before; if other settings made it, begin a new run"
        ) from error
    return state, content


def _restore_optimizer(tensors: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        if not number.isdigit():
            continue
        state.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, entries in state.items():
        if place >= len(weights):
            raise ValueError(f"it has a weight number {place}, and there are {len(weights)}")
        for key, value in entries.items():
            if value.ndim and value.shape != weights[place].shape:
                raise ValueError(f"{place}.{key} is {tuple(value.shape)}, not {tuple(weights[place].shape)}")
    optimizer.load_state_dict({"state": state, "param_groups": groups})
