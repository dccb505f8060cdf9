"""Text files of any kind as clean lines: encodings, line ends, packed files."""

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sentemb.errors import InputError

LONGEST_LINE = 1_000_000  # characters; a longer line is no sentence

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
            good += len(head) - len(text)  # the bytes behind the first of each character
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
        raise InputError(f"{path} is a damaged {packing_of(path)} file; make it anew or remove it") from None
    except OSError as error:
        if error.errno is None:  # the packed file's own reader found it, not the system
            raise InputError(f"{path} is a damaged {packing_of(path)} file; make it anew or remove it") from None
        raise InputError(f"{path} cannot be read ({error.strerror}); check that it is yours to read") from None


def clean(line: str) -> str:
    """One line with white space runs as one space, without NUL bytes and byte order marks."""
    return " ".join(line.replace("\0", "").replace("\ufeff", "").split())


def lines(text: TextIO, name: str, skip: Callable[[str], object]) -> Iterator[str | None]:
    """The lines of an open file, cleaned; None for a blank one.

    A line of more than LONGEST_LINE characters is no sentence: it is left out, never held whole, and ``skip`` is told
    so in a sentence with the file's ``name``.
    """
    for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE + 1), ""), 1):
        if len(line) <= LONGEST_LINE or line.endswith("\n"):
            yield clean(line) or None
            continue
        skip(f"line {number:,} of {name} is longer than {LONGEST_LINE:,} characters and is left out")
        while line and not line.endswith("\n"):
            line = text.readline(LONGEST_LINE)
