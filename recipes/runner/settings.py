"""The recipes' command line: flags, defaults, presets. Nothing heavy is imported, so that --help answers at once."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.registry import absolute, absolute_paths
from sentemb.runs import RunFolder

DEFAULTS: dict[str, Any] = {
    "corpus": "sample",
    "encoder": "rnn",
    "init": None,
    "towers": 1,
    "head": "none",
    "objective": "infonce",
    "pairs": "neighbours",
    "prompts": None,
    "max_pairs": None,
    "clean": "none",
    "workers": 0,
    "epochs": None,
    "max_steps": None,
    "batch_size": 256,
    "micro_batch": 0,
    "lr": 1e-3,
    "warmup": 100,
    "weight_decay": 0.0,
    "clip": 1.0,
    "mlm": 0.0,
    "max_length": 40,
    "seed": 0,
    "eval_every": 100,
    "log_every": 10,
    "dev": "auto",
    "select": "last",
    "save_every": 500,
    "keep": 2,
    "on_nan": "stop",
    "precision": "auto",
    "attention": "auto",
    "compile": False,
    "force": False,
    "track": None,
    "data": None,
    "tasks": None,
    "score": True,
    "threads": None,
    "timeout": 10.0,
}
# What may differ when a run is resumed; the rest decides its result.
MAY_CHANGE = {
    "epochs",
    "max_steps",
    "eval_every",
    "log_every",
    "save_every",
    "keep",
    "on_nan",
    "micro_batch",
    "track",
    "data",
    "tasks",
    "score",
    "threads",
    "select",
    "workers",
    "timeout",
}


def settings_of(options: dict[str, Any], defaults: dict[str, Any], out: Path | None, resume: bool) -> dict[str, Any]:
    """Defaults, then a resumed run's own settings, then what was given; a resumed run keeps what decides its result."""
    if "init" in options and "encoder" in options:
        raise InputError("--init and --encoder both name the encoder; give one of them")
    if not resume:
        return defaults | options
    assert out is not None
    if not RunFolder(out).config.is_file():
        if not options or (out.exists() and not _empty(out)):
            raise InputError(
                f"{out} is no run that could be continued (it has no config.json); check the path, or say what a new "
                "run there is of (--corpus and the like)"
            )
        return defaults | options
    content = RunFolder(out).read_settings()
    begun_with = absolute_settings(
        content["settings"]
    )  # (earlier versions left paths inside of specs as they were given)
    if begun_with.get("precision") == "auto":  # what it was then, whatever this machine would choose
        begun_with["precision"] = content.get("precision", "auto")
    for name in ("precision", "dev"):  # what was found then holds
        if options.get(name) == "auto":
            del options[name]
    for name, value in options.items():
        before = begun_with.get(name, defaults.get(name))  # (an earlier version had not all of them)
        if name not in MAY_CHANGE and before != value:
            flag = name.replace("_", "-")
            raise InputError(f"{out} was begun with --{flag} {before}, not {value}; leave --{flag} out to resume it")
    return defaults | begun_with | options


def refuse_used(out: Path) -> None:
    """InputError if ``out`` already holds something."""
    if RunFolder(out).config.exists():
        raise InputError(f"{out} is already a run; choose another --out, or continue it with --resume")
    if out.exists() and not _empty(out):
        raise InputError(f"{out} is there and not an empty folder; choose another --out")


def _empty(out: Path) -> bool:
    """Whether it is a folder with nothing in it but what a run that was killed at its very beginning has left."""
    return out.is_dir() and all(p.name.startswith(".config.json.") for p in out.iterdir())


def absolute_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths are absolute: a run is read, scored and resumed from other folders, too."""
    from sentemb.corpus import absolute_corpus
    from sentemb.encoders import ENCODERS  # torch and the rest, seconds

    changed = dict(settings)
    if isinstance(corpus := settings.get("corpus"), str):
        changed["corpus"] = absolute_corpus(corpus)
    if isinstance(encoder := settings.get("encoder"), str):
        changed["encoder"] = absolute_paths(ENCODERS, encoder)
    if isinstance(init := settings.get("init"), str) and init != "minilm":  # (which is built in)
        changed["init"] = absolute(init)
    return changed


def newest_run(name: str) -> Path:
    """The run of runs/NAME, runs/NAME-2, ... that was last begun or continued; InputError if there is none."""
    found = [
        path.parent
        for path in Path("runs").glob(f"{name}*/config.json")
        if path.parent.name == name or path.parent.name.removeprefix(f"{name}-").isdigit()
    ]
    if not found:
        others = ", ".join(sorted(str(path.parent) for path in Path("runs").glob("*/config.json"))[:5])
        there = f" (there is {others})" if others else ""
        raise InputError(f"--resume finds no run in runs/{name}; name the run folder to continue with --out{there}")
    out = max(found, key=lambda path: RunFolder(path).config.stat().st_mtime)
    if os.environ.get("RANK", "0") == "0":
        print(f"resuming {out}", file=sys.stderr)
    return out
