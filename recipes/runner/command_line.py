"""A recipe's command line: its flags become settings, and what ends it becomes one sentence and an exit code."""

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipes.runner.early_checks import check_specs_early
from recipes.runner.flags import parser
from recipes.runner.presets import with_preset
from recipes.runner.settings import RecipeSettings, check_tasks, newest_run
from sentemb.errors import InputError, in_a_line
from sentemb.pipeline import RunSettings, absolute_settings, default_settings, refuse_used, resumed_settings
from sentemb.registry import absolute
from sentemb.runs import RunFolder

Options = dict[str, Any]  # what was given on the command line, by name


@contextmanager
def command(
    name: str,
    description: str | None,
    defaults: Mapping[str, Any],
    arguments: Sequence[str] | None,
    prepare: Callable[[Options], None] | None = None,
) -> Iterator[RecipeSettings]:
    """The settings of a recipe, whose work is the block.

    Exit codes: 0 done, or ended by a signal and saved; 1 the training diverged or cannot continue; 2 something that was
    given cannot be used; 130 interrupted while preparing.

    Args:
        name: of the recipe, ``train_NAME``.
        description: its docstring.
        defaults: its own, over those of the settings classes.
        arguments: of the command line; None: those of this process.
        prepare: changes or refuses what was given.
    """
    options = vars(parser(description, defaults).parse_args(arguments))
    try:
        yield _read(name, options, default_settings() | dict(defaults), prepare)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:
        _end(str(error))
    except KeyboardInterrupt:
        print(
            "interrupted; what was prepared or saved is kept; continue with the same command and --resume --out",
            file=sys.stderr,
        )
        sys.exit(130)
    except Exception as error:
        from sentemb.errors import TrainingFailed
        from sentemb.training import explained

        why = str(error) if isinstance(error, TrainingFailed) else explained(error)
        if why is None:
            raise
        _end(why)


def _read(
    name: str, options: Options, defaults: Mapping[str, Any], prepare: Callable[[Options], None] | None
) -> RecipeSettings:
    """The settings that the options of a command line mean."""
    options = with_preset(options, name)
    imports = [absolute(path) for path in options.pop("imports", [])]
    if options.get("resume") and options.get("out") is None:
        options["out"] = newest_run(name.removeprefix("train_"))
    if prepare:
        prepare(options)
    out, resume, elastic = options.pop("out", None), options.pop("resume", False), options.pop("elastic", False)
    run = RunSettings(out, resume, elastic, command=True, imports=tuple(imports))
    at_hand = RecipeSettings.of(options, run)  # (bounds and choices; what follows takes seconds to import)
    if not imports and not resume:  # (a script may add tasks, and a run's config.json says where its data is)
        check_tasks(at_hand.evaluation)
    if out is not None and not resume:
        refuse_used(out)
    if not imports and "torch" not in sys.modules:  # (else the tables may have rows of the caller's)
        check_specs_early(options)
    for path in imports:
        import_file(path)
    settings = resumed_settings(absolute_settings(options), defaults, out, resume)
    try:
        chosen = RecipeSettings.of(settings, run)
    except InputError as error:  # of a run's config.json; flags were checked above
        raise InputError(f"{error}, in {RunFolder(out or Path()).config}; begin a new run") from None
    check_tasks(chosen.evaluation)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # else torch prints its own stack where another process is gone
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from sentemb.pipeline import check_specs, end_with_launcher

    check_specs(chosen.data, chosen.encoder, chosen.pairs, chosen.objective)
    end_with_launcher()
    return chosen


def import_file(path: str) -> None:
    """Run a script that adds rows to tables.

    Raises:
        InputError: it is not a Python file, or fails; the line is named.
    """
    file = Path(path)
    spec = importlib.util.spec_from_file_location(file.stem, file) if file.suffix == ".py" and file.is_file() else None
    if spec is None or spec.loader is None:
        raise InputError(f"--import {path} is not a Python file; give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f", line {lines[-1]}" if lines else ""
        raise InputError(
            f"--import {path} failed{where} ({type(error).__name__}: {in_a_line(error)}); fix that file"
        ) from error


def _end(why: str) -> None:
    """The run cannot continue: say so, also to the launcher, which prints the reason of the first process."""
    from sentemb.training import report_to_launcher

    print(f"stopped: {why}", file=sys.stderr)
    report_to_launcher(why)
    sys.exit(1)
