"""Text files of any kind as clean lines: encodings, line ends, packed files."""

import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from sentemb.corpus.books import matter_bounds, paragraphs
from sentemb.corpus.multilingual import split_text
from sentemb.corpus.readers.boundaries import cut
from sentemb.corpus.sentences import clean
from sentemb.corpus.text_source import Reader, Skip
from sentemb.errors import InputError
from sentemb.languages import DEFAULT

PART = 8_000_000  # bytes of files read as one part, at least
PARTS = 192  # parts of a source, at most
BOOKS = (".txt", ".txt.gz", ".txt.zst", ".txt.xz")

PORTION = 1 << 23  # characters: a book is held whole up to twice this, a larger one in portions of it

LONGEST_LINE = 1_000_000  # characters; a longer line is not a sentence

_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"


def _encoding(stream: BinaryIO, path: Path) -> str:
    """The text encoding of a file: by its byte order mark, else UTF-8 if it mostly decodes as that, else cp1252."""
    head = stream.read(1 << 16)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head or len(head) - len(head.translate(None, _CONTROLS)) > len(head) / 20:
        raise InputError(f"{path} is not plain text (it holds control bytes); give UTF-8 text, or remove the file")
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    good = bad = 0
    while head:
        if not head.isascii():
            text = decoder.decode(head)
            wrong = text.count("\ufffd")
            if wrong:
                wrong -= head.count(b"\xef\xbf\xbd")  # U+FFFD may also be written out
            good += len(head) - len(text)  # the bytes after the first of each character
            bad += wrong
        head = stream.read(1 << 20)
    return "utf-8-sig" if bad <= good else "cp1252"


def _zstd(path: Path) -> BinaryIO:
    import pyarrow  # a tenth of a second to import, and few books are packed so

    return cast(BinaryIO, pyarrow.input_stream(str(path), compression="zstd"))


PACKED: dict[str, tuple[bytes, Callable[[Path], object]]] = {  # name: first bytes, and how to open it
    "gzip": (b"\x1f\x8b", gzip.open),
    "xz": (b"\xfd7zXZ\0", lzma.open),
    "zstd": (b"\x28\xb5\x2f\xfd", _zstd),
}


def packing_of(path: Path) -> str:
    """What a file is packed with, by its first bytes: gzip, xz, zstd, or nothing ("")."""
    with path.open("rb") as file:
        first = file.read(6)
    return next((kind for kind, (magic, _) in PACKED.items() if first.startswith(magic)), "")


def encoding_of(path: Path) -> str:
    """A file's text encoding: utf-16, utf-8-sig or cp1252.

    Raises:
        InputError: it cannot be read, is not text, or is a damaged packed file.
    """
    with _complaining(path), _binary(path) as stream:
        return _encoding(stream, path)


@contextmanager
def reading(path: Path) -> Iterator[TextIO]:
    """A file as text, every line end as \\n: plain, or packed with gzip, xz or zstd, whatever its name.

    Raises:
        InputError: it cannot be read, is not text, or is a damaged packed file.
    """
    encoding = encoding_of(path)
    with _complaining(path), io.TextIOWrapper(_binary(path), encoding, errors="replace") as text:
        yield text


def _binary(path: Path) -> BinaryIO:
    kind = packing_of(path)
    return cast(BinaryIO, PACKED[kind][1](path) if kind else path.open("rb"))


@contextmanager
def _complaining(path: Path) -> Iterator[None]:
    """The errors of reading a file, as an InputError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError):
        raise InputError(f"{path} is a damaged {packing_of(path)} file; make it again or remove it") from None
    except OSError as error:
        if error.errno is None:  # the packed file's own reader found it, not the system
            raise InputError(f"{path} is a damaged {packing_of(path)} file; make it again or remove it") from None
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from None


def lines(text: TextIO, name: str, skip: Callable[[str], object]) -> Iterator[str | None]:
    """The lines of an open file, cleaned; None for a blank one.

    A line of more than LONGEST_LINE characters is not a sentence: it is left out and never held in memory
    whole. ``skip`` receives a sentence with the file's ``name``.
    """
    for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE + 1), ""), 1):
        if len(line) <= LONGEST_LINE or line.endswith("\n"):
            yield clean(line) or None
            continue
        skip(
            f"line {number:,} of {name} is longer than {LONGEST_LINE:,} characters and is left out; raw text is split "
            "into sentences as books:path=FILE, or in a folder"
        )
        while line and not line.endswith("\n"):
            line = text.readline(LONGEST_LINE)


def read_book(path: Path, keep_matter: bool = False, language: str = DEFAULT) -> Iterator[str]:
    """The sentences of the book in a file, in order: those of each paragraph of its :func:`book_text`.

    A book of more than two PORTIONs of characters is read in portions of at most that, cut at a blank line where
    there is one, else at a line end, else at white space: a gigabyte takes no more memory than sixteen megabytes.

    Raises:
        InputError: as :func:`reading`.
    """
    with reading(path) as text:
        for portion in _portions(text, keep_matter):
            for paragraph in paragraphs(portion, language):
                yield from split_text(paragraph, language)


def _portions(text: TextIO, keep_matter: bool) -> Iterator[str]:
    held = text.read(2 * PORTION)
    begin = 0 if keep_matter else matter_bounds(held)[0]
    # at least one portion stays for the end, so that the licence is found whole
    while len(held) >= 2 * PORTION:
        places = (held.rfind(mark, PORTION // 2, PORTION) + len(mark) for mark in ("\n\n", "\n", " "))
        cut = max(next((place for place in places if place > PORTION // 2), PORTION), begin)
        yield held[begin:cut]
        held, begin = held[cut:] + text.read(cut), 0
    end = len(held) if keep_matter else matter_bounds(held)[1]
    yield held[begin:end]


def grouped(files: list[Path], sizes: list[int]) -> list[list[Path]]:
    """Files in order, in groups that are worth a process' start, of at most ``PARTS`` and much alike in size."""
    limit = max(PART, sum(sizes) // PARTS)
    groups: list[list[Path]] = []
    size = limit
    for file, file_size in zip(files, sizes, strict=True):
        if size >= limit:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file_size
    return groups


def books(files: list[Path], alone: bool, keep_matter: bool, language: str, skip: Skip) -> Iterator[str | None]:
    """Sentences of books, each a document. A book that cannot be read is reported and left out, if it is not alone."""
    for file in files:
        count = 0
        try:
            for sentence in read_book(file, keep_matter, language):
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
        if line_end := re.search(rb"\n|\r(?!\n|$)", block):
            return place + line_end.end()
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
