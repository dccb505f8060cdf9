"""Tables (.parquet, .jsonl, .csv, .tsv) as sentences of a column, with ``None`` after each document."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sentemb.corpus.books import paragraphs
from sentemb.corpus.multilingual import split_text
from sentemb.corpus.readers.boundaries import cut
from sentemb.corpus.readers.csv_format import csv_options
from sentemb.corpus.sentences import clean
from sentemb.corpus.text_source import Skip, Title
from sentemb.errors import InputError
from sentemb.registry import quoted

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
TEXT = ("string", "large_string")  # what `datasets` calls columns of text


@dataclass(frozen=True)
class RowLayout:
    """How the rows of a table become sentences and documents.

    Args:
        column: with the text.
        document: column that names each row's document: where it changes, a document ends.
        split_sentences: a row is raw text, which is split into sentences, and a document, unless ``document`` names
            those.
        boundaries: end a document before each sentence that looks like the beginning or the end of a book.
        title: column with the title of each row, which becomes a sentence before it; of rows with equal titles, one
            after another in a document, before the first.
    """

    FORMER_OPTIONS: ClassVar = {"whole": "split_sentences"}

    column: str = "text"
    document: str = ""
    split_sentences: bool = False
    boundaries: bool = False
    title: str = ""


def rows(data: Any, layout: RowLayout, language: str, limit: int, skip: Skip) -> Iterator[str | None]:
    """The cells of a data set's column, with None after each document. ``limit``: the most rows to read; 0: all."""
    yield from cut(_cells(data, layout, language, limit), layout.boundaries)


def _cells(data: Any, layout: RowLayout, language: str, limit: int) -> Iterator[str | None]:
    before, title_before, number = None, "", 0
    for batch in data.iter(1000):
        texts = batch[layout.column]
        names, titles = (batch[column] if column else [None] * len(texts) for column in (layout.document, layout.title))
        for text, name, title in zip(texts, names, titles, strict=True):
            if limit and number >= limit:
                return
            if number and name != before:
                yield None
                title_before = ""
            before, number = name, number + 1
            title = Title(clean(str(title or "")))
            if title and title != title_before:
                yield title
            title_before = title
            if layout.split_sentences:
                for paragraph in paragraphs(text or "", language):
                    yield from split_text(paragraph, language)
                if not layout.document:
                    yield None
                    title_before = ""
            else:
                yield (sentence := clean(text or "")) or None
                title_before = title if sentence else ""


def file_rows(path: Path, layout: RowLayout, language: str, skip: Skip) -> Iterator[str | None]:
    """The same for a file of FORMATS, which is read as a stream."""
    with complaining(path):
        yield from rows(stream(path, layout.column, layout.document, layout.title), layout, language, 0, skip)


def table_rows(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Some rows at a time of a file of FORMATS, as lists of each column.

    Raises:
        InputError: the file cannot be read.
    """
    with complaining(path):
        yield from stream(path).iter(1000)


@contextmanager
def complaining(path: Path) -> Iterator[None]:
    """The errors of reading a file of FORMATS, as an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of pyarrow, pandas, the file system: each has its own
        kind = FORMATS[path.suffix.lower()]
        raise InputError(f"{path} cannot be read as {kind} ({in_short(error)}); make it again") from error


class _Parquet:
    """A Parquet file as a data set. (The reader of ``datasets`` holds large parts of a file in memory.)

    ``columns``: those to read; none: all.
    """

    features = None

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._path, self._columns = path, columns

    def iter(self, size: int) -> Iterator[dict[str, list[Any]]]:
        """Rows as lists of each column; all columns where one that was asked for is not there."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self._path, pre_buffer=False) as file:
            complete = set(self._columns) <= set(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=size, columns=(self._columns if complete else None) or None):
                yield batch.to_pydict()


def stream(path: Path, *columns: str) -> Any:
    """A file of FORMATS as a data set that is read from its beginning, without a copy in a cache."""
    kind = FORMATS[path.suffix.lower()]
    if kind == "parquet":
        return _Parquet(path, [column for column in columns if column])
    import datasets  # over a second to import, needed only for such corpora

    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # (what is wrong is said once, by us)
    return datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True, **options_of_format(path))


def options_of_format(path: Path) -> dict[str, Any]:
    """What ``datasets.load_dataset`` must know about a file of FORMATS, in addition to its kind."""
    return csv_options(path) if FORMATS[path.suffix.lower()] == "csv" else {}


def in_short(error: BaseException) -> str:
    """The first line of what an error says."""
    if isinstance(error, StopIteration):
        return "it holds no row"
    return (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0][:300]


def check_columns(data: Any, name: str, layout: RowLayout, spec: str) -> None:
    """InputError, with what to type instead, if a data set lacks a column of text.

    Args:
        spec: of the data set, without options: ``table:path=FILE``.
    """
    if data.features is not None:
        kinds = {key: str(getattr(kind, "dtype", kind)) for key, kind in data.features.items()}
    else:  # of a stream that is not typed: by its first rows
        kinds = {key: _kind(values) for key, values in next(data.iter(1000), {}).items()}
    listed = ", ".join(f"{key} ({kind})" for key, kind in kinds.items()) or "none"
    texts = [key for key, kind in kinds.items() if kind in TEXT]
    if layout.column not in texts:
        raise InputError(
            f"data set {name!r} has no text column {layout.column!r}; its columns: {listed}; "
            + _column_to_type(spec, texts, data)
        )
    for option in ("document", "title"):
        column = getattr(layout, option)
        if column and column not in kinds:
            raise InputError(
                f"data set {name!r} has no column {column!r}; its columns: {listed}; give one of them as {option}="
            )


def _column_to_type(spec: str, texts: list[str], data: Any) -> str:
    """Advice for a missing column: use the one with the longest texts."""
    if not texts:
        return "give data with a column of text"
    first_rows: dict[str, list[Any]] = {}
    with suppress(Exception):  # of the network, of files: then the first column will do
        first_rows = next(data.iter(1000), {})
    likeliest = max(texts, key=lambda key: sum(len(str(value or "")) for value in first_rows.get(key, [])))
    return f"give another column: --corpus {shlex.quote(f'{spec},column={quoted(likeliest)}')}"


def _kind(values: list[Any]) -> str:
    first_value = next((value for value in values if value is not None), "")
    return "string" if isinstance(first_value, str) else type(first_value).__name__
