"""The settings of a recipe: defaults, a preset, a resumed run's own, flags. Nothing heavy is imported for typos."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import choose_tasks, data_folder, named, refuse_missing
from sentemb.errors import InputError
from sentemb.pipeline import (
    PASSAGES,
    ComputeSettings,
    DataSettings,
    EncoderSettings,
    EvaluationSettings,
    ObjectiveSettings,
    PairSettings,
    RunSettings,
    pick,
)
from sentemb.runs import CONFIG, RunFolder
from sentemb.training import TrainingSettings


@dataclass(frozen=True)
class RecipeSettings:
    """All settings of a run, by concern. A recipe hands each to the stage that needs it."""

    data: DataSettings
    encoder: EncoderSettings
    objective: ObjectiveSettings
    pairs: PairSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    compute: ComputeSettings
    run: RunSettings

    @classmethod
    def of(cls, settings: Mapping[str, Any], run: RunSettings) -> "RecipeSettings":
        """The settings by name, as config.json has them, by concern.

        Raises:
            InputError: a value has the wrong type or lies outside of its bounds.
        """
        return cls(
            data=pick(DataSettings, settings),
            encoder=pick(EncoderSettings, settings),
            objective=pick(ObjectiveSettings, settings),
            pairs=pick(PairSettings, settings),
            training=pick(TrainingSettings, settings),
            evaluation=pick(EvaluationSettings, settings),
            compute=pick(ComputeSettings, settings),
            run=run,
        )


def check_tasks(evaluation: EvaluationSettings) -> None:
    """InputError for a task that there is not, or whose data is not there; no text is read."""
    if evaluation.tasks is not None:
        named(part.strip() for part in evaluation.tasks.split(",") if part.strip())
    if evaluation.search not in (None, PASSAGES):
        from eval import check_search  # (numpy)

        check_search(Path(str(evaluation.search)).expanduser())
    if evaluation.data is None and evaluation.tasks is None and evaluation.dev != "stsb":
        return
    folder = data_folder(Path(evaluation.data) if evaluation.data else None)
    if evaluation.tasks is not None and evaluation.score:
        refuse_missing(choose_tasks(evaluation.tasks, folder), folder)
    if evaluation.dev == "stsb":
        refuse_missing(choose_tasks("STS-B", folder), folder)


def newest_run(name: str) -> Path:
    """The run of runs/NAME, runs/NAME-2, ... that was last begun or continued; InputError if there is none."""
    runs = [
        path.parent
        for path in Path("runs").glob(f"{name}*/{CONFIG}")
        if path.parent.name == name or path.parent.name.removeprefix(f"{name}-").isdigit()
    ]
    if not runs:
        others = ", ".join(sorted(str(path.parent) for path in Path("runs").glob(f"*/{CONFIG}"))[:5])
        hint = f" (there is {others})" if others else ""
        raise InputError(f"--resume finds no run in runs/{name}; name the run folder to continue with --out{hint}")
    out = max(runs, key=lambda path: RunFolder(path).config.stat().st_mtime)
    if os.environ.get("RANK", "0") == "0":
        print(f"resuming {out}", file=sys.stderr)
    return out
