"""Checkpoints: a folder that is whole or not there, loadable as a model and enough to train on from.

``checkpoints/step-N`` is a SentenceTransformer folder with ``training.safetensors`` (the optimiser's tensors, and what
is learned or remembered beside the model: head, side task, objective, averaged twin), ``training.json`` (the step, the
best score so far, the loss scaler) and a manifest (:mod:`sentemb.storage.manifest`). No pickle. Learning rate, data
order and the random numbers of every process are functions of (seed, step, rank), and so need no saved state.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.errors import Damaged, InputError, in_a_line
from sentemb.loading import read_model
from sentemb.storage import LEFT, MANIFEST, PARTIAL, free_name, recover, remove, unlisted, verify, write_whole

FOLDERS = ("checkpoints", "best", "last")  # of a run folder: what training writes and replaces
WRITTEN = re.compile(r"(config|scores)\.json|log\.jsonl|report\.html|model|nonfinite-step-\d+\.json")  # the rest

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

    write_whole(folder, write)


def save_model(folder: Path, model: SentenceTransformer, about: dict[str, Any], card: Card | None = None) -> None:
    """Write ``folder``, a model with ``selected.json``: the step it is of and its dev score; whole or not at all."""

    def write(partial: Path) -> None:
        model.save(str(partial), create_model_card=False)
        (partial / "selected.json").write_text(json.dumps({**about, "manifest": True}) + "\n", encoding="utf-8")
        if card:
            card(partial)

    write_whole(folder, write)


def _asides(embedder: Any) -> dict[str, nn.Module]:
    """What is trained beside the model and is no part of it."""
    found = {"head": embedder.head, "mlm": embedder.mlm}
    return {name: module for name, module in found.items() if module is not None}


def all_of(run: Path) -> list[Path]:
    """The checkpoints of ``run``, the newest first."""
    found = [p for p in run.glob("checkpoints/step-*") if p.name[5:].isdigit() and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name[5:]), reverse=True)


def newest(run: Path) -> Path | None:
    """The checkpoint of ``run`` with the most steps, or None."""
    return next(iter(all_of(run)), None)


def newest_whole(run: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of ``run`` that is what its manifest says, and what was said of those that are not.

    A damaged one is set aside as ``checkpoints/damaged-step-N``. None: there is no checkpoint.

    Raises:
        InputError: there are some and none is whole; all are left where they were.
    """
    recover(run)
    if (run / "checkpoints").is_dir():
        recover(run / "checkpoints")
    wrong: list[tuple[Path, str]] = []
    for folder in (found := all_of(run)):
        try:
            verify(folder)
        except Damaged as error:
            wrong.append((folder, str(error)))
        else:
            break
    if wrong and len(wrong) == len(found):
        raise InputError(f"no checkpoint of {run} is whole: {wrong[0][1]}; or begin a new --out")
    told, used = [], found[len(wrong)] if found else None
    for folder, why in wrong:
        aside = free_name(folder.with_name(f"damaged-{folder.name}"), "")
        folder.rename(aside)
        what = why.rpartition("; ")[0]  # (what to do about it is done here)
        told.append(f"{what}; it is set aside as {aside}, and the run goes on from the checkpoint before, {used}")
    return used, told


def refuse_foreign(run: Path, resume: bool, caller_files: Collection[str] = ()) -> None:
    """InputError where training into ``run`` could overwrite or remove what was not written by a run in it.

    Args:
        run: the run folder; it need not be there.
        resume: whether the run in it is continued. Then it may hold what runs write: their files, and folders that
            hold just what their manifests name.
        caller_files: names in ``run`` that the caller answers for, ``config.json`` say.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} is a file; give a folder for the run")
    entries = sorted(run.glob("*"))
    # (killed writers leave hidden ones, and training touches no other hidden ones; a new folder should be empty)
    hidden = "." if resume else ()
    entries = [p for p in entries if not (p.name.startswith(hidden) or LEFT.fullmatch(p.name) or PARTIAL in p.name)]
    entries = [path for path in entries if path.name not in caller_files or path.name in (*FOLDERS, "log.jsonl")]
    if entries and not resume:
        raise InputError(
            f"{run} holds {entries[0].name}, which this run has not written; give a new folder, or continue the run "
            "that is in it (resume)"
        )
    foreign: list[Path] = []
    for path in entries:
        if path.name == "checkpoints" and path.is_dir():
            for saved in sorted(path.glob("[!.]*")):
                foreign += unlisted(saved) if saved.is_dir() else [saved]
        elif path.is_dir() and (path.name in FOLDERS or (path / MANIFEST).is_file()) and path.name != "model":
            foreign += unlisted(path)
        elif not WRITTEN.fullmatch(path.name):
            foreign.append(path)
    if foreign:
        raise InputError(f"{foreign[0]} was not written by the run in {run}; move it out of that folder")
    log = run / "log.jsonl"
    if (log.exists() or log.is_symlink()) and not (log.is_file() and _is_log(log)):
        raise InputError(f"{log} is not the log of a run, which would be continued in it; move it away")


def _is_log(path: Path) -> bool:
    """Whether the first line of a file is a record of a run's log; an empty file will do."""
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline()
    try:
        return not line or "step" in dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return "\n" not in line  # cut by a kill


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints; 0: none."""
    for folder in all_of(run)[keep:] if keep else ():
        remove(folder)


def discard(run: Path, names: Collection[str]) -> None:
    """Remove these of the run's folders; what was not written by it stays, and so does the folder that it is in."""
    for folder in (run / name for name in names):
        for saved in sorted(folder.iterdir()) if folder.name == "checkpoints" and folder.is_dir() else [folder]:
            if saved.is_dir():
                remove(saved)
        with suppress(OSError):  # (not there, or not empty)
            folder.rmdir()


def restore(folder: Path, embedder: Any, optimizer: torch.optim.Optimizer, beside: Modules) -> dict[str, Any]:
    """Put a checkpoint's weights and state into ``embedder``, ``optimizer`` and ``beside``; returns its plain values.

    It is taken to be whole (:func:`newest_whole`).

    Raises:
        InputError: a file is missing or does not fit the model.
    """
    file = folder / "training.json"
    try:
        state = dict(json.loads(file.read_text(encoding="utf-8")))
        state["step"] = int(state["step"])
        file = folder / "modules.json"
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
