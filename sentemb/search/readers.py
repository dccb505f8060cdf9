"""Judged queries from files: a folder in BEIR's layout, or a table with a column of queries and one of passages.

BEIR's layout (Thakur et al. 2021, arXiv 2104.08663): ``corpus.jsonl`` with ``_id``, ``title`` and ``text``;
``queries.jsonl`` with ``_id`` and ``text``; ``qrels/SPLIT.tsv`` with a head and the columns query, passage, grade.
"""

import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sentemb.corpus import FORMATS, table_rows
from sentemb.errors import InputError
from sentemb.registry import choose, path_suggestion
from sentemb.search.sampling import search_halves
from sentemb.search.task import ListedPassages, SearchTask, StoredPassages
from sentemb.storage import digest

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
Judgements = dict[str, dict[str, float]]  # of a query's id: of a passage's id: the grade
SURROGATE = re.compile("[\ud800-\udfff]")


def check_search(path: Path, split: str = "test") -> None:
    """Look at what can be seen without reading texts.

    Args:
        path, split: see :func:`read_search_task`.

    Raises:
        InputError: there is no such path, or it is neither a table nor a folder in BEIR's layout with such a split.
    """
    if path.is_file():
        _refuse_no_table(path)
        return
    folder = _folder_of(path, "")
    _refuse_no_split(folder, split)


def read_dev_and_test(path: Path) -> tuple[SearchTask, SearchTask]:
    """Queries that choose a model, and other ones that score it.

    Of a folder these are its splits ``dev`` and ``test``; of a folder without a split ``dev``, and of a table, the
    halves of all queries (:func:`search_halves`).

    Raises:
        InputError: as :func:`read_search_task`, or there is a single query.
    """
    test = read_search_task(path)
    if (path / QRELS / "dev.tsv").is_file():
        return read_search_task(path, "dev"), test
    return search_halves(test)


def read_search_task(path: Path, split: str = "test", name: str = "") -> SearchTask:
    """The judged queries of a folder or file.

    Args:
        path: a folder in BEIR's layout or one that holds several such folders; or a file of ``corpus.FORMATS`` with
            columns ``query``, ``passage`` and perhaps ``score``, the grade (1 where there is none).
        split: of ``qrels/``, for folders.
        name: of the folder, where ``path`` holds several.

    Raises:
        InputError: a file is missing or cannot be read, a line lacks what it needs, an id is unknown or there twice, a
            query is empty, or no query has a relevant passage.
    """
    if path.is_file():
        if name or split != "test":
            option = f"--task {name}" if name else f"--split {split}"
            raise InputError(f"{option} applies to a folder, and {path} is a file; leave it out")
        return _read_table(path)
    return _read_folder(_folder_of(path, name), split)


def _folder_of(path: Path, name: str) -> Path:
    """The folder of BEIR's layout that is meant."""
    if not path.is_dir():
        near = path_suggestion(str(path))
        raise InputError(f"there is no file or folder {path}{near}; give a folder with {CORPUS}, or a table of pairs")
    names = sorted(each.parent.name for each in path.glob(f"*/{CORPUS}"))
    if name:
        choose("task", name, names)
        return path / name
    if not (path / CORPUS).is_file():
        if names:
            raise InputError(f"{path} holds several tasks; choose one with --task: {', '.join(names)}")
        raise InputError(f"{path} has no {CORPUS}; give a folder in BEIR's layout, or a table of pairs")
    return path


def _read_folder(folder: Path, split: str) -> SearchTask:
    texts = _read_queries(folder / QUERIES)
    judged = _read_qrels(folder, split, texts)
    relevant = {query: grades for query, grades in judged.items() if any(grade > 0 for grade in grades.values())}
    if not relevant:
        raise InputError(f"{folder / QRELS / split}.tsv judges no passage relevant (a grade above 0); check the file")
    wanted = {passage for grades in judged.values() for passage in grades} | relevant.keys()
    passages, number = _read_corpus(folder / CORPUS, wanted)
    for query, grades in judged.items():
        for passage in grades:
            if passage not in number:
                raise InputError(
                    f"{folder / QRELS / split}.tsv judges the passage {passage!r} for the query {query!r}, and "
                    f"{CORPUS} has no such passage; take both files from the same source"
                )
    ids = [query for query in texts if query in relevant]
    # Two collections may have an id in common by chance: a passage that was judged relevant is not the query itself.
    itself = [[number[query]] if query in number and relevant[query].get(query, 0) <= 0 else [] for query in ids]
    return SearchTask(
        f"{folder.name}, {split}",
        [texts[query] for query in ids],
        passages,
        [{number[passage]: grade for passage, grade in relevant[query].items()} for query in ids],
        itself,
        notes=_notes(itself, "their id", len(judged) - len(ids)),
    )


def _notes(itself: list[list[int]], by: str, irrelevant: int) -> tuple[str, ...]:
    notes = []
    if count := sum(map(len, itself)):
        notes.append(f"queries that are passages, too (by {by}), and do not find themselves: {count:,}")
    if irrelevant:
        notes.append(f"queries without a relevant passage, which are left out: {irrelevant:,}")
    return tuple(notes)


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, place and bytes of each line that is not blank."""
    try:
        with path.open("rb") as file:
            place = 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, place, line
                place += len(line)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); a task in BEIR's layout needs it") from None


def _rows(path: Path) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Number of the line, its place, ``_id`` and object of each line of a .jsonl file."""
    for number, place, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError:  # (half a file, another encoding)
            raise InputError(f"line {number} of {path} is not JSON; copy the file again") from None
        if not isinstance(row, dict) or not isinstance(row.get("_id"), str | int) or not _is_text(row):
            raise InputError(f'line {number} of {path} is not an object with "_id" and "text"; fix or remove the line')
        yield number, place, str(row["_id"]), row


def _is_text(row: dict[str, Any]) -> bool:
    """Whether title and text are texts without half a surrogate pair, as those are that were cut inside an emoji."""
    texts = (row.get("text"), row.get("title") or "")
    return all(isinstance(text, str) and not SURROGATE.search(text) for text in texts)


def _read_queries(path: Path) -> dict[str, str]:
    """Texts by id."""
    texts: dict[str, str] = {}
    for number, _, query, row in _rows(path):
        if query in texts:
            raise InputError(f"line {number} of {path} has the id {query!r} again; each query needs one of its own")
        if not row["text"].strip():
            raise InputError(f"the query {query!r} in line {number} of {path} is empty; fill it or remove the line")
        texts[query] = row["text"]
    return texts


def _refuse_no_split(folder: Path, split: str) -> Path:
    """The file of a split; InputError that lists the splits where there is none."""
    path = folder / QRELS / f"{split}.tsv"
    if not path.is_file():
        splits = ", ".join(sorted(each.stem for each in (folder / QRELS).glob("*.tsv"))) or "none"
        raise InputError(f"there is no {path}; available splits: {splits}")
    return path


def _read_qrels(folder: Path, split: str, texts: dict[str, str]) -> Judgements:
    path = _refuse_no_split(folder, split)
    judged: Judgements = {}
    for number, _, line in _lines(path):
        cells = line.decode("utf-8-sig", errors="replace").strip("\r\n").split("\t")
        grade = _number(cells[2]) if len(cells) == 3 else None
        if grade is None and number == 1:  # the head
            continue
        if grade is None:
            raise InputError(f"line {number} of {path} is not a query, passage and grade, with tabs between; fix it")
        if cells[0] not in texts:
            raise InputError(
                f"line {number} of {path} names the query {cells[0]!r}, and {QUERIES} has no such query; take both "
                "files from one place"
            )
        if judged.setdefault(cells[0], {}).setdefault(cells[1], grade) != grade:
            raise InputError(f"line {number} of {path} judges a passage again, with another grade; keep one of them")
    return judged


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _read_corpus(path: Path, wanted: set[str]) -> tuple[StoredPassages, dict[str, int]]:
    """The passages, and the numbers of those whose ids are wanted; memory holds two numbers a passage."""
    offsets, hashes, number = array("q"), array("q"), dict[str, int]()
    for _, place, passage, _ in _rows(path):
        if passage in wanted:
            number.setdefault(passage, len(offsets))
        offsets.append(place)
        hashes.append(hash(passage))
    if not offsets:
        raise InputError(f"{path} holds no passage; copy the file again")
    offsets.append(path.stat().st_size)
    _refuse_repeats(path, np.array(hashes, dtype=np.int64))
    return StoredPassages(path, np.array(offsets, dtype=np.int64), digest(path)), number


def _refuse_repeats(path: Path, hashes: np.ndarray) -> None:
    """InputError that names the first id that is there twice; equal hashes alone prove none."""
    distinct, counts = np.unique(hashes, return_counts=True)
    doubtful, seen = set(distinct[counts > 1].tolist()), set[str]()
    if not doubtful:
        return
    for line, _, passage, _ in _rows(path):
        if hash(passage) in doubtful:
            if passage in seen:
                raise InputError(
                    f"line {line} of {path} has the id {passage!r} again; each passage needs one of its own"
                )
            seen.add(passage)


def _refuse_no_table(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} is none of {', '.join(FORMATS)}; give a table of pairs, or a folder in BEIR's layout")


def _read_table(path: Path) -> SearchTask:
    """Pairs in a table; queries and passages are identified by their text."""
    _refuse_no_table(path)
    passages: dict[str, int] = {}
    judged: dict[str, dict[int, float]] = {}
    row = 0
    for batch in table_rows(path):
        count = len(next(iter(batch.values()), []))
        for column in ("query", "passage"):
            if column not in batch:
                raise InputError(
                    f"{path} has no column {column!r}; its columns: {', '.join(batch)}; give one of them this name"
                )
        for query, passage, score in zip(
            batch["query"], batch["passage"], batch.get("score", [1.0] * count), strict=True
        ):
            row += 1
            grade = _number(score)
            for column, cell in (("query", query), ("passage", passage)):
                if cell is None or not str(cell).strip():
                    raise InputError(f"row {row} of {path} has nothing in {column!r}; fill it or remove the row")
            if grade is None:
                raise InputError(f"row {row} of {path} has the score {score!r}, which is not a number; fix it")
            number = passages.setdefault(str(passage), len(passages))
            if judged.setdefault(str(query), {}).setdefault(number, grade) != grade:
                raise InputError(f"row {row} of {path} judges a pair again, with another score; keep one of them")
    relevant = {query: grades for query, grades in judged.items() if any(grade > 0 for grade in grades.values())}
    if not relevant:
        raise InputError(f"{path} judges no passage relevant (a score above 0), or has no row; check the file")
    itself = [
        [passages[query]] if query in passages and grades.get(passages[query], 0) <= 0 else []
        for query, grades in relevant.items()
    ]
    notes = _notes(itself, "their text", len(judged) - len(relevant))
    return SearchTask(path.name, [*relevant], ListedPassages([*passages]), [*relevant.values()], itself, notes=notes)
