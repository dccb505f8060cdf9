"""The run folder: what a run writes, and under which names. No other module spells them."""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.storage import LEFTOVER, MANIFEST, PARTIAL, remove, unlisted

CONFIG, LOG, SCORES, SEARCH, REPORT = "config.json", "log.jsonl", "scores.json", "search.json", "report.html"
MODEL, CHECKPOINTS, BEST, LAST = "model", "checkpoints", "best", "last"
ROUTER = "router"  # in the model/ of two towers: the same as a Router of sentence-transformers
SELECTED = "selected.json"  # in best/ and last/: the step, and the dev score
MODULES = "modules.json"  # in the folder of any model
TRAINED_FOLDERS = (CHECKPOINTS, BEST, LAST)  # what training writes and replaces
STEP = re.compile(r"step-(\d+)")
WRITTEN = re.compile(r"(config|scores|search)\.json|log\.jsonl|report\.html|model|nonfinite-step-\d+\.json")  # the rest


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """All settings, versions, command and data fingerprint; there before step 1."""
        return self.path / CONFIG

    @property
    def log(self) -> Path:
        """A record a line, from step 0."""
        return self.path / LOG

    @property
    def scores(self) -> Path:
        """What the final scoring has measured."""
        return self.path / SCORES

    @property
    def search(self) -> Path:
        """A user's queries with the sentences nearest to them (recipes/search.py --page)."""
        return self.path / SEARCH

    @property
    def report(self) -> Path:
        """The page; it is written last, and so the mark of a finished run."""
        return self.path / REPORT

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.path / MODEL

    @property
    def best(self) -> Path:
        """The model with the best dev score so far."""
        return self.path / BEST

    @property
    def last(self) -> Path:
        """The model as it was last scored."""
        return self.path / LAST

    @property
    def checkpoints(self) -> Path:
        """Models with all that is needed to train on."""
        return self.path / CHECKPOINTS

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after this number of updates."""
        return self.checkpoints / f"step-{step}"

    def nonfinite(self, step: int) -> Path:
        """Which pairs an update without a finite gradient saw."""
        return self.path / f"nonfinite-step-{step}.json"

    def all_checkpoints(self) -> list[Path]:
        """The checkpoints that are there, the newest first."""
        folders = [p for p in self.checkpoints.glob("step-*") if STEP.fullmatch(p.name) and p.is_dir()]
        return sorted(folders, key=step_of, reverse=True)

    def newest_checkpoint(self) -> Path | None:
        """The checkpoint with the most updates, or None."""
        return next(iter(self.all_checkpoints()), None)

    def read_config(self) -> dict[str, Any]:
        """config.json; empty where there is none that can be read."""
        try:
            content = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def read_settings(self) -> dict[str, Any]:
        """config.json, which has the settings of a run to be resumed.

        Raises:
            InputError: it cannot be read, or has none.
        """
        content = self.read_config()
        if not isinstance(content.get("settings"), dict):
            raise InputError(f"{self.config} cannot be read; this run cannot be resumed")
        return content

    def last_record(self) -> dict[str, Any]:
        """The newest record of the log; empty where there is none that can be read."""
        try:
            return dict(json.loads(self.log.read_text(encoding="utf-8").splitlines()[-1]))
        except (OSError, ValueError, IndexError, TypeError):
            return {}


def step_of(checkpoint: Path) -> int:
    """The number of updates in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def read_selected(folder: Path) -> dict[str, Any]:
    """The step of a ``best/`` or ``last/`` folder, and its dev score; empty where it does not say."""
    try:
        content = json.loads((folder / SELECTED).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) and isinstance(content.get("step"), int) else {}
    except (OSError, ValueError):
        return {}


def model_folder(path: Path) -> Path:
    """The model's folder in a run folder or model folder: itself, ``model/``, or the newest checkpoint or ``last/``.

    Raises:
        InputError: there is none.
    """
    run = RunFolder(path)
    steps = {folder: step_of(folder) for folder in run.all_checkpoints()}
    if selected := read_selected(run.last):
        steps[run.last] = selected["step"]
    for folder in (path, run.model, *sorted(steps, key=steps.__getitem__, reverse=True)):
        if (folder / MODULES).is_file() or (folder / MANIFEST).is_file():
            return folder
    raise InputError(f"{path} is not a checkpoint: there is no {MODULES} in it, in its model/ or in its checkpoints/")


def model_name(name: str) -> str:
    """A short name for a model: a hub name or ``minilm`` as it is; of a path, its run's name or its last folder's."""
    path = Path(name)
    if not path.is_absolute() and not path.exists():
        return name
    if path.name == MODEL:
        return path.parent.name
    if path.name in (BEST, LAST):
        return f"{path.parent.name}/{path.name}"
    return f"{path.parents[1].name}/{path.name}" if path.parent.name == CHECKPOINTS else path.name


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
    entries = [p for p in entries if not (p.name.startswith(hidden) or LEFTOVER.fullmatch(p.name) or PARTIAL in p.name)]
    entries = [path for path in entries if path.name not in caller_files or path.name in (*TRAINED_FOLDERS, LOG)]
    if entries and not resume:
        raise InputError(
            f"{run} holds {entries[0].name}, which this run has not written; give a new folder, or continue the run "
            "that is in it (resume)"
        )
    foreign: list[Path] = []
    for path in entries:
        if path.name == CHECKPOINTS and path.is_dir():
            for saved in sorted(path.glob("[!.]*")):
                foreign += unlisted(saved) if saved.is_dir() else [saved]
        elif path.is_dir() and (path.name in TRAINED_FOLDERS or (path / MANIFEST).is_file()) and path.name != MODEL:
            foreign += unlisted(path)
        elif not WRITTEN.fullmatch(path.name):
            foreign.append(path)
    if foreign:
        raise InputError(f"{foreign[0]} was not written by the run in {run}; move it out of that folder")
    log = RunFolder(run).log
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


def discard(run: Path, names: Collection[str]) -> None:
    """Remove these of the run's folders; what was not written by it stays, and so does the folder that it is in."""
    for folder in (run / name for name in names):
        for saved in sorted(folder.iterdir()) if folder.name == CHECKPOINTS and folder.is_dir() else [folder]:
            if saved.is_dir():
                remove(saved)
        with suppress(OSError):  # (not there, or not empty)
            folder.rmdir()
