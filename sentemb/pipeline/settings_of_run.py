"""The settings of a run that begins or resumes. Nothing heavy is imported before a run's specs are checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.mining import NEGATIVES
from sentemb.pipeline.settings import PASSAGES, may_change
from sentemb.registry import absolute, absolute_paths, has_relative_path
from sentemb.runs import CONFIG, RunFolder
from sentemb.teacher import absolute_teacher

OBJECT_PREFIX = "<"  # what a setting begins with that describes an object of the caller's


def resumed_settings(
    options: Mapping[str, Any], defaults: Mapping[str, Any], out: Path | None, resume: bool
) -> dict[str, Any]:
    """Defaults, then a resumed run's own settings, then ``options``; a resumed run keeps what decides its result.

    Args:
        options: what was given, by name.
        defaults: what holds where nothing was given.
        out: the run folder.
        resume: whether the run in it is continued, if there is one.

    Raises:
        InputError: ``out`` is not a run, or was started with other settings; or two encoders are named.
    """
    if options.get("init") is not None and options.get("encoder") is not None:
        raise InputError("--init and --encoder both name the encoder; give one of them")
    if not resume or out is None:
        return _one_encoder({**defaults, **options})
    if not RunFolder(out).config.is_file():
        if not options or (out.exists() and not is_empty(out)):
            raise InputError(
                f"{out} is not a run that can be resumed (it has no config.json); check the path, or say what a new "
                "run there is of (--corpus and the like)"
            )
        return _one_encoder({**defaults, **options})
    content, options = RunFolder(out).read_settings(), dict(options)
    begun_with = absolute_settings(content["settings"])  # (earlier versions left paths in specs as they were given)
    if begun_with.get("precision") == "auto":  # what it was then, whatever this machine would choose
        begun_with["precision"] = content.get("precision", "auto")
    # (On other processes than at first, they share the same global batch; the same command may resume it.)
    if "batch_size" in options and options["batch_size"] == content.get("first_batch_size"):
        del options["batch_size"]
    for name in ("precision", "dev"):  # what was chosen then holds
        if options.get(name) == "auto":
            del options[name]
    for name, value in options.items():
        before = begun_with.get(name, defaults.get(name))  # (an earlier version had not all of them)
        if not may_change(name) and before != value:
            flag = name.replace("_", "-")
            raise InputError(f"{out} was started with --{flag} {before}, not {value}; leave --{flag} out to resume it")
    return _one_encoder({**defaults, **begun_with, **options})


def _one_encoder(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"encoder": None} if settings.get("init") is not None else settings


def refuse_used(out: Path) -> None:
    """InputError if ``out`` already holds something."""
    if RunFolder(out).config.exists():
        raise InputError(f"{out} is already a run; choose another --out, or continue it with --resume")
    if out.exists() and not is_empty(out):
        raise InputError(f"{out} exists and is not empty; choose another --out")


def is_empty(out: Path) -> bool:
    """Whether a folder is empty, or holds only the files of a run that was killed at its start."""
    return out.is_dir() and all(path.name.startswith(f".{CONFIG}.") for path in out.iterdir())


def absolute_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths are absolute: a run is read, scored and resumed from other folders, too."""
    from sentemb.corpus import absolute_corpus

    changed = dict(settings)
    corpus, encoder, init = (settings.get(name) for name in ("corpus", "encoder", "init"))
    if isinstance(corpus, str) and not corpus.startswith(OBJECT_PREFIX):
        changed["corpus"] = absolute_corpus(corpus)
    if isinstance(encoder, str) and not encoder.startswith(OBJECT_PREFIX) and has_relative_path(encoder):
        from sentemb.encoders import ENCODERS  # torch and the rest, seconds

        changed["encoder"] = absolute_paths(ENCODERS, encoder)
    if isinstance(init, str) and init != "minilm":  # (which is built in)
        changed["init"] = absolute(init)
    if isinstance(negatives := settings.get("negatives"), str):
        changed["negatives"] = absolute_paths(NEGATIVES, negatives)
    for role in ("teacher", "guide"):
        if isinstance(spec := settings.get(role), str):
            changed[role] = absolute_teacher(spec)
    if isinstance(search := settings.get("search"), str) and search != PASSAGES:
        changed["search"] = absolute(search)
    return changed
