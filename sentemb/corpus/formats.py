"""Readers: how files of every kind become sentences, with ``None`` after each document."""

import io
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from sentemb.corpus.prepare import Reader, Skip
from sentemb.errors import InputError
from sentemb.files import clean, encoding_of, lines, packing_of, reading
from sentemb.labelled import FORMATS
from sentemb.text import paragraphs, read_book, split_sentences

PART = 8_000_000  # bytes of files read as one part, at least
PARTS = 192  # parts of a source, at most
BOOKS = (".txt", ".txt.gz", ".txt.zst", ".txt.xz")

# BookCorpus has no mark between two books, but most books and chapters begin or end with words like these.
BOUNDARY = re.compile(
    r"\W*(?:prologue|epilogue|the end|about the author|acknowledge?ments|table of contents|dedication|copyright\b.*"
    r"|published by\b.*|(?:chapter|part|book)\s+(?:\d+|[ivxlc]+|\w+(?:[ -]\w+)?))\W*"
)


def grouped(files: list[Path], sizes: list[int]) -> list[list[Path]]:
    """Files in order, in groups that are worth a process' start, of at most ``PARTS`` and much alike in size."""
    limit = max(PART, sum(sizes) // PARTS)
    groups: list[list[Path]] = []
    size = limit
    for file, own in zip(files, sizes, strict=True):
        if size >= limit:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += own
    return groups


def books(files: list[Path], alone: bool, keep_matter: bool, skip: Skip) -> Iterator[str | None]:
    """Sentences of books, each a document. A book that cannot be read is told of and left out, if it is not alone."""
    for file in files:
        count = 0
        try:
            for sentence in read_book(file, keep_matter):
                count += 1
                yield sentence
        except InputError as error:
            if alone:
                raise
            skip(f"{error} (left out{' from there on' if count else ''})")
        else:
            if not count:
                skip(f"{file} holds no sentence and is left out")
        yield None


def line_parts(path: Path, boundaries: bool) -> list[Reader]:
    """Parts of a file with a sentence a line: ranges of its bytes, where it is plain text of an 8-bit encoding."""
    size, encoding = path.stat().st_size, encoding_of(path)
    step = max(PART, size // PARTS)
    if packing_of(path) or encoding == "utf-16" or size <= step:
        return [partial(every_line, path, boundaries)]
    cuts = [0]
    with path.open("rb") as file:
        while cuts[-1] + step < size:
            cuts.append(_line_end(file, cuts[-1] + step))
    return [
        partial(line_range, path, *both, encoding, boundaries) for both in pairwise([*cuts, size]) if both[0] < both[1]
    ]


def _line_end(file: BinaryIO, start: int) -> int:
    """The first place from ``start`` on where a line begins, or the file's end."""
    file.seek(start)
    place = start
    while block := file.read(1 << 16):
        if found := re.search(rb"\n|\r(?!\n|$)", block):
            return place + found.end()
        place += len(block)
    return place


def every_line(path: Path, boundaries: bool, skip: Skip) -> Iterator[str | None]:
    """The lines of a file, cleaned; None for a blank one.

    ``boundaries``: also before a line that looks like the beginning or the end of a book (:func:`is_boundary`).
    """
    with reading(path) as text:
        yield from cut(lines(text, str(path), skip), boundaries)


def line_range(path: Path, start: int, stop: int, encoding: str, boundaries: bool, skip: Skip) -> Iterator[str | None]:
    """The same of the lines between two places of a plain file, at which lines begin."""
    where = f"{path}, counted from byte {start:,}" if start else str(path)
    with path.open("rb") as file:
        file.seek(start)
        with io.TextIOWrapper(io.BufferedReader(_Window(file, stop - start), 1 << 18), encoding, "replace") as text:
            yield from cut(lines(text, where, skip), boundaries)


class _Window(io.RawIOBase):
    """The next bytes of a file as a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(min(len(buffer), self._left))
        self._left -= len(block)
        buffer[: len(block)] = block
        return len(block)


def cut(sentences: Iterable[str | None], boundaries: bool) -> Iterator[str | None]:
    """Sentences with a document's end before each that looks like a boundary, if that is wanted."""
    for sentence in sentences:
        if boundaries and sentence is not None and is_boundary(sentence):
            yield None
        yield sentence


def is_boundary(sentence: str) -> bool:
    """Whether a sentence looks like the beginning or the end of a book or a chapter."""
    if len(sentence) > 200:
        return False
    small = sentence.lower()
    return "all rights reserved" in small or "isbn" in small or BOUNDARY.fullmatch(small) is not None


def rows(
    data: Any, column: str, document: str, whole: bool, boundaries: bool, limit: int, skip: Skip
) -> Iterator[str | None]:
    """The cells of a data set's column, as :func:`sentemb.corpus.table` describes it."""
    yield from cut(_cells(data, column, document, whole, limit), boundaries)


def _cells(data: Any, column: str, document: str, whole: bool, limit: int) -> Iterator[str | None]:
    before, number = None, 0
    for batch in data.iter(1000):
        names = batch[document] if document else [None] * len(batch[column])
        for text, name in zip(batch[column], names, strict=True):
            if limit and number >= limit:
                return
            if number and name != before:
                yield None
            before, number = name, number + 1
            if whole:
                for paragraph in paragraphs(text or ""):
                    yield from split_sentences(paragraph)
                if not document:
                    yield None
            else:
                yield clean(text or "") or None


def file_rows(
    path: Path, column: str, document: str, whole: bool, boundaries: bool, skip: Skip
) -> Iterator[str | None]:
    """The same of a file of FORMATS, which is read as a stream."""
    with complaining(path):
        yield from rows(stream(path, column, document), column, document, whole, boundaries, 0, skip)


@contextmanager
def complaining(path: Path) -> Iterator[None]:
    """The errors of reading a file of FORMATS, as an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of pyarrow, pandas, the file system: each has its own
        kind = FORMATS[path.suffix.lower()]
        raise InputError(f"{path} cannot be read as {kind} ({in_short(error)}); make it anew") from error


class _Parquet:
    """As a data set of ``datasets``, whose own reader holds large parts of such a file in memory."""

    features = None

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._path, self._columns = path, columns

    def iter(self, size: int) -> Iterator[dict[str, list[Any]]]:
        """Rows as lists of each column; all columns where one that was asked for is not there."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self._path, pre_buffer=False) as file:
            there = set(self._columns) <= set(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=size, columns=self._columns if there else None):
                yield batch.to_pydict()


def stream(path: Path, *columns: str) -> Any:
    """A file of FORMATS as a data set that is read from its beginning, without a copy in a cache."""
    kind = FORMATS[path.suffix.lower()]
    if kind == "parquet":
        return _Parquet(path, [column for column in columns if column])
    import datasets  # over a second to import, needed only for such corpora

    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # (what is wrong is said once, by us)
    more: dict[str, Any] = {"keep_default_na": False} if kind == "csv" else {}  # "None" and "NA" are words
    if path.suffix.lower() == ".tsv":
        more["sep"] = "\t"
    return datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True, **more)


def in_short(error: BaseException) -> str:
    """The first line of what an error says."""
    if isinstance(error, StopIteration):
        return "it holds no row"
    return (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0][:300]
