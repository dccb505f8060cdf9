"""What a run folder's files hold, read so that a missing or broken piece is left out and said, never a crash."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentemb.errors import InputError
from sentemb.runs.folder import RunFolder
from sentemb.wording import counted

Record = dict[str, Any]
Series = NDArray[np.float64]
TRAINED, FORMER_INITIAL = "trained", "untrained"  # rows of scores.json; the latter up to version 0.2
TEACHER = "teacher"  # the role of a row
FORMER_HISTOGRAMS = {"partners": "positives", "strangers": "negatives", "hardest": "hardest_negatives"}  # of 0.1.0


def renamed_histograms(histograms: Mapping[str, Any]) -> Record:
    """Histograms of cosines by today's names, also those of a run or study of version 0.1.0."""
    return {FORMER_HISTOGRAMS.get(name, name): histogram for name, histogram in histograms.items()}


def least_held_out(config: Mapping[str, Any]) -> int:
    """The ``least_held_out`` of the corpus that a run was trained on, by its config.json; earlier versions had 1."""
    least = as_dict(config.get("corpus")).get("least_held_out", 1)
    return least if isinstance(least, int) else 1


@dataclass
class Run:
    """What a run's files hold, with everything unreadable left out and said in ``notes``."""

    config: Record
    records: list[Record]  # one per step, steps ascending
    scores: Record
    notes: list[str] = field(default_factory=list)
    search: Record = field(default_factory=dict)  # queries with the sentences nearest to them

    def series(self, key: str) -> Series:
        """One column of the log: ``[records]``, NaN where a record has no finite number."""
        return np.array([number(record.get(key)) for record in self.records], dtype=np.float64)

    def last(self, key: str) -> float:
        """The newest finite value of a column; NaN without one."""
        return next((v for r in reversed(self.records) if math.isfinite(v := number(r.get(key)))), math.nan)

    def setting(self, name: str) -> str:
        """A flag's value as text, whether the flag was stored as ``name`` or ``--name``."""
        settings = as_dict(self.config.get("settings"))
        return plain(settings.get(name, settings.get(f"--{name}", f"unknown {name}")))

    def corpus(self) -> str:
        """The corpus' true name."""
        corpus = self.config.get("corpus")
        return plain(as_dict(corpus).get("name") or (corpus if isinstance(corpus, str) else self.setting("corpus")))

    def rows(self) -> list[Record]:
        """The encoders scored, in the order of the file."""
        return [row for row in as_list(self.scores.get("rows")) if isinstance(row, dict)]

    def initial(self) -> str | None:
        """The name of the row of the encoder that training began with; None without such a row."""
        for row in self.rows():
            name = row.get("encoder")
            if isinstance(name, str) and (row.get("role") == "initial" or name == FORMER_INITIAL):
                return name
        return None

    def compared(self) -> list[str]:
        """The rows that the trained encoder is compared with in a table of their own, the initial encoder's first.

        They are all other rows in a run with a teacher, else the initial encoder's alone.
        """
        initial = self.initial()
        names = [plain(row.get("encoder", "unnamed")) for row in self.rows()]
        others = [name for name in names if name not in (TRAINED, initial)]
        has_teacher = any(row.get("role") == TEACHER for row in self.rows())
        return ([initial] if initial is not None else []) + (others if has_teacher else [])


def read_run(run: Path) -> Run:
    """The files of a run folder; InputError without a config.json (an object) or a log.jsonl."""
    folder = RunFolder(run)
    config = _object(_text(folder.config))
    if config is None:
        raise InputError(f"{folder.config} is not a JSON object; give the folder of a training run")
    lines = [line for line in _text(folder.log).split("\n") if line.strip()]
    objects = [_object(line) for line in lines]
    by_step: dict[float, Record] = {}
    for r in objects:
        if r is not None and math.isfinite(step := number(r.get("step"))):
            by_step[step] = by_step.get(step, {}) | r
    parsed_run = Run(config, [by_step[step] for step in sorted(by_step)], {})
    if broken := sum(r is None for r in objects[:-1]):
        parsed_run.notes.append(f"{counted(broken, 'line')} of log.jsonl could not be read and are left out.")
    if folder.scores.exists():
        parsed_run.scores = _object(_text(folder.scores)) or {}
        if not parsed_run.rows():
            parsed_run.notes.append("scores.json is there but holds no rows that can be read.")
    if folder.search.exists():
        parsed_run.search = _object(_text(folder.search)) or {}
    loss = parsed_run.series("loss")
    if bad := int(np.sum(~np.isfinite(loss))):
        first = parsed_run.records[int(np.argmin(np.isfinite(loss)))]["step"]
        parsed_run.notes.append(
            f"The loss is missing or not finite in {bad} of {len(loss)} records, first at step {first}."
        )
    return parsed_run


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the folder of a training run") from error


def _object(text: str) -> Record | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def as_dict(value: object) -> Record:
    """The value, or nothing if it is not an object."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value, or nothing if it is not a list."""
    return value if isinstance(value, list) else []


def number(value: object) -> float:
    """A number that can be drawn, or NaN for whatever else stands there (null, text, Infinity, true)."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
    return float(value) if usable else math.nan  # type: ignore[arg-type]


def plain(value: object) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def show(value: float, digits: int) -> str:
    """A number for the page; a dash for NaN."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours and minutes."""
    if not math.isfinite(seconds):
        return "–"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
