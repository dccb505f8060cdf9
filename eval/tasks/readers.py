"""Reads the files of a task into its rows, in SentEval's order, and refuses whatever is not as upstream has it."""

import bz2
import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.tasks.table import File, Task
from sentemb.corpus import sample_files
from sentemb.errors import InputError

Row = tuple[str, str, float]  # first sentence, second one ("" where there is none), label or gold score


@dataclass(frozen=True)
class Part:
    """Rows of one part of a task, sorted as upstream sorts them before it makes folds.

    ``first`` and ``second`` are sentences, their tokens joined by one space (``second`` is empty for tasks of single
    sentences); ``gold`` ``[n]``: int64 labels, or float64 scores of pairs.
    """

    first: list[str]
    second: list[str]
    gold: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Data:
    """A task read: its parts by name (``all``; or ``train``, ``dev``, ``test``; or the subsets of STS)."""

    task: Task
    parts: dict[str, Part]

    @property
    def texts(self) -> list[str]:
        """Every sentence, repeats and all."""
        return [text for part in self.parts.values() for text in part.first + part.second]

    @property
    def scored(self) -> int:
        """The number of rows in the score."""
        if self.task.form in ("sts", "line") or self.task.sample:
            return sum(len(part) for part in self.parts.values())
        return len(self.parts["test"])


def refuse_missing(tasks: Iterable[Task], folder: Path | None) -> None:
    """InputError, that of :func:`read`, for a task with a file that is not there; other files are not read."""
    for task in tasks:
        if folder is not None and not task.sample and not all((folder / file.path).is_file() for file in task.files):
            read(task, folder)


def read(task: Task, folder: Path | None, part: str | None = None) -> Data:
    """Read a task's files, or those of one part of it.

    Rows are sorted by number of tokens (of the first, then the second sentence), then label; file order breaks ties.
    The order is part of the protocol: it decides the folds.

    Raises:
        InputError: a file is missing, unreadable, not of its encoding, has another number of rows than the task, or a
            row that cannot be read (which is named).
    """
    files = [file for file in task.files if part in (None, file.part)]
    if task.sample:
        file_rows = [(file, rows) for file, rows in _sample(task) if file in files]
    else:
        if folder is None:
            raise InputError(f"{task.name} needs SentEval's data; give --data the folder that holds downstream/")
        file_rows = [(file, _rows(task, file, folder)) for file in files]
    parts: dict[str, list[Row]] = {}
    for file, rows in file_rows:
        if len(rows) != file.rows:
            where = file.path if task.sample or folder is None else folder / file.path
            raise InputError(
                f"{where} has {len(rows)} sentences where {task.name} has {file.rows}; download the file again in "
                "SentEval's form (sentemb download fetches and checks it)"
            )
        parts.setdefault(file.part, []).extend(rows)
    return Data(task, {name: _part(task, rows) for name, rows in parts.items()})


def _part(task: Task, rows: list[Row]) -> Part:
    tokens = [(first.split(), second.split(), gold) for first, second, gold in rows]
    tokens.sort(key=lambda row: (len(row[0]), len(row[1]), row[2]))
    return Part(
        [" ".join(first) for first, _, _ in tokens],
        [" ".join(second) for _, second, _ in tokens] if _paired(task) else [],
        np.array([gold for _, _, gold in tokens], np.int64 if task.probed else np.float64),
    )


def _paired(task: Task) -> bool:
    return task.form in ("label_tab_pair", "sick", "stsb", "sts")


def _rows(task: Task, file: File, folder: Path) -> list[Row]:
    path = folder / file.path
    lines = _lines(task, path, file.rows)
    if task.form == "sts":
        return _scored_pairs(task, path, lines, file.rows)
    rows = []
    for number, line in enumerate(lines, 1):
        if number == 1 and task.header:
            continue
        try:
            rows.append(PARSERS[task.form](task, file, line))
        except (ValueError, IndexError) as error:
            why = str(error) if isinstance(error, ValueError) else "too few columns"
            raise InputError(f"{path}, line {number}: {why}; download the file again in SentEval's form") from None
    return rows


def _lines(task: Task, path: Path, rows: int) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        count = (
            f"{rows} scored lines" if task.form == "sts" else f"{rows} lines{' and a header' if task.header else ''}"
        )
        shape = "a score or nothing each" if path.name.startswith("STS.gs.") else SHAPES[task.form]
        raise InputError(
            f"{path} is missing; {task.name} needs it: {count}, {shape}, {task.encoding} (sentemb download fetches it)"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    try:
        text = content.decode(task.encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not {task.encoding.upper()} (the file looks "
            "like latin-1); download the file again in SentEval's form"
        ) from None
    # As Python reads text files: \n, \r\n and \r end a line, and nothing else does.
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []


def _scored_pairs(task: Task, path: Path, lines: list[str], rows: int) -> list[Row]:
    """Pairs of STS.input.X.txt whose line of STS.gs.X.txt is not empty."""
    gold_path = path.with_name(path.name.replace("STS.input.", "STS.gs."))
    golds = _lines(task, gold_path, rows)
    if len(golds) != len(lines):
        raise InputError(
            f"{gold_path} has {len(golds)} lines where {path.name} has {len(lines)}; download both files again"
        )
    pairs = []
    for number, (line, gold) in enumerate(zip(lines, golds, strict=True), 1):
        if not gold.strip():
            continue
        columns = line.split("\t")
        if len(columns) < 2:
            raise InputError(f"{path}, line {number}: no tab between two sentences; download the file again")
        try:
            pairs.append((columns[0], columns[1], _score(gold, task.low)))
        except ValueError as error:
            raise InputError(f"{gold_path}, line {number}: {error}; download the file again") from None
    return pairs


def _label(task: Task, text: str) -> int:
    if text not in task.classes:
        raise ValueError(f"label {text[:40]!r} is none of {', '.join(task.classes)}")
    return task.classes.index(text)


def _score(text: str, low: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"score {text[:40]!r} is not a number") from None
    if not low <= value <= 5:
        raise ValueError(f"score {text!r} is not between {low:g} and 5")
    return value


def _line(task: Task, file: File, line: str) -> Row:
    assert file.label is not None
    return line, "", file.label


def _label_line(task: Task, file: File, line: str) -> Row:
    label, _, sentence = line.strip().partition(" ")
    return sentence, "", _label(task, label)


def _fine_label_line(task: Task, file: File, line: str) -> Row:
    label, _, sentence = line.strip().partition(" ")  # "NUM:dist a question"; the fine label is dropped
    return sentence, "", _label(task, label.partition(":")[0])


def _tab_label(task: Task, file: File, line: str) -> Row:
    columns = line.strip().split("\t")
    return columns[0], "", _label(task, columns[1])


def _label_tab_pair(task: Task, file: File, line: str) -> Row:
    columns = line.strip().split("\t")
    return columns[3], columns[4], _label(task, columns[0])


def _sick(task: Task, file: File, line: str) -> Row:
    columns = line.strip().split("\t")
    gold = _label(task, columns[4]) if task.classes else _score(columns[3], task.low)
    return columns[1], columns[2], gold


def _stsb(task: Task, file: File, line: str) -> Row:
    columns = line.strip().split("\t")
    return columns[5], columns[6], _score(columns[4], task.low)


PARSERS: dict[str, Callable[[Task, File, str], Row]] = {
    "line": _line,
    "label_line": _label_line,
    "fine_label_line": _fine_label_line,
    "tab_label": _tab_label,
    "label_tab_pair": _label_tab_pair,
    "sick": _sick,
    "stsb": _stsb,
}
SHAPES = {
    "line": "a sentence each",
    "label_line": "a label, a space and a sentence each",
    "fine_label_line": "a label as NUM:dist, a space and a sentence each",
    "tab_label": "a sentence, a tab and a label each",
    "label_tab_pair": "five columns between tabs (label, two ids, two sentences) each",
    "sick": "columns between tabs (id, two sentences, relatedness, entailment) each",
    "stsb": "seven columns between tabs (score in the fifth, then two sentences) each",
    "sts": "two sentences with a tab between them each, scores in the file STS.gs of the same name",
}


def _sample(task: Task) -> list[tuple[File, list[Row]]]:
    reader = _reviews if task.form == "reviews" else _ratings
    first: dict[str, int] = {}  # exact duplicates are dropped; the first one's label stays
    for text, label in reader((sample_files() / task.files[0].path).read_bytes()):
        first.setdefault(text, label)
    return [(file, [(text, "", y) for text, y in first.items() if y == file.label]) for file in task.files]


def _reviews(content: bytes) -> Iterator[tuple[str, int]]:
    rows = csv.DictReader(io.StringIO(bz2.decompress(content).decode("utf-8"), newline=""))
    return ((row["text"], int(row["category"] == "fresh")) for row in rows if row["category"] in ("fresh", "rotten"))


def _ratings(content: bytes) -> Iterator[tuple[str, int]]:
    rows = (line.split("\t", 2) for line in content.decode("utf-8").splitlines()[1:])
    return ((text, int(float(rating) > 0)) for _, rating, text in rows if float(rating) != 0)
