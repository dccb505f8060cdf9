"""Labelled data sets (anchor, positive, hard negatives) from files or the hub, read by the `datasets` library."""

import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sentemb.corpus.readers.hub import load_data
from sentemb.corpus.readers.tables import TEXT
from sentemb.corpus.sentences import clean
from sentemb.errors import InputError
from sentemb.registry import quoted
from sentemb.storage import key_of

NEGATIVES = ("negative", "hard_neg")  # how columns of hard negatives begin
ROWS_AT_ONCE = 10_000


def labelled_rows(
    path: str, anchor: str, positive: str, negatives: str, label: str, split: str, progress: bool
) -> tuple[str, str, Callable[[], Iterator[str | None]]]:
    """Name, key and reader of a labelled data set; arguments and errors as for ``corpus.labelled``."""
    return labelled_data_set(load_data(path, progress, split=split), path, anchor, positive, negatives, label)


def labelled_data_set(
    data: Any, path: str, anchor: str = "", positive: str = "", negatives: str = "", label: str = ""
) -> tuple[str, str, Callable[[], Iterator[str | None]]]:
    """As :func:`labelled_rows`, of a data set that is loaded; ``path`` names it."""
    if label and label not in data.features:
        raise InputError(
            f"data set {path!r} has no column {label!r}; its columns: {_listed(_kinds(data))}; "
            "give one of them as label="
        )
    texts = data.remove_columns(label) if label else data
    columns = [*_columns(texts, path, anchor, positive, negatives), *([label] if label else [])]
    # the fingerprint of a loaded data set follows its files and split
    key = key_of("labelled", data._fingerprint, *columns, *(["classes"] if label else []))
    described = ", ".join(columns) + (", the last one classes" if label else "")
    name = f"labelled {Path(path).name} ({len(data):,} rows of {described})"
    return name, key, partial(_rows, data.select_columns(columns), columns, path)


def _columns(data: Any, path: str, anchor: str, positive: str, negatives: str) -> list[str]:
    """The columns to read: anchor, positive, then hard negatives."""
    kinds = _kinds(data)
    texts = [key for key, kind in kinds.items() if kind in TEXT]
    for key in data.features:
        if key.startswith(NEGATIVES) and key not in texts and negatives != "none":
            raise InputError(f"column {key!r} of {path!r} is {kinds[key]}, not text; give each negative a column")
    named = "anchor" in texts and "positive" in texts
    if len(texts) < 2 and not (anchor and positive):
        raise InputError(
            f"data set {path!r} needs two columns of text, anchor and positive; it has {_listed(kinds)}; "
            + _to_type(path, texts)
        )
    chosen = [anchor or ("anchor" if named else texts[0]), positive or ("positive" if named else texts[1])]
    if negatives == "none":
        further = []
    elif negatives:
        further = [part.strip() for part in negatives.split("+")]
    else:
        further = [key for key in texts if key.startswith(NEGATIVES) and key not in chosen]
        if not further and not (named or anchor or positive):
            further = texts[2:]
    for column in (*chosen, *further):
        if column not in texts:
            raise InputError(
                f"data set {path!r} has no text column {column!r}; its columns: {_listed(kinds)}; "
                + _to_type(path, texts)
            )
    if len({*chosen, *further}) < len(chosen) + len(further):
        raise InputError(f"anchor, positive and negatives of {path!r} must be different columns")
    return [*chosen, *further]


def _to_type(path: str, texts: list[str]) -> str:
    """Advice for a missing column."""
    if len(texts) >= 2:
        spec = f"labelled:path={quoted(path)},anchor={quoted(texts[0])},positive={quoted(texts[1])}"
        return f"name those to read: --corpus {shlex.quote(spec)}"
    if texts and Path(path).expanduser().is_file():
        return f"plain sentences are --corpus {shlex.quote(f'table:path={quoted(path)},column={quoted(texts[0])}')}"
    return "give data with two columns of text"


def _kinds(data: Any) -> dict[str, str]:
    return {key: str(getattr(kind, "dtype", kind)) for key, kind in data.features.items()}


def _listed(kinds: dict[str, str]) -> str:
    return ", ".join(f"{key} ({kind})" for key, kind in kinds.items())


def _rows(data: Any, columns: list[str], path: str) -> Iterator[str | None]:
    number = 0
    for batch in data.iter(ROWS_AT_ONCE):
        for cells in zip(*(batch[column] for column in columns), strict=True):
            number += 1
            for column, cell in zip(columns, cells, strict=True):
                text = clean("" if cell is None else str(cell))
                if not text:
                    raise InputError(f"row {number} of {path} has nothing in {column!r}; fill it or remove the row")
                yield text
            yield None
