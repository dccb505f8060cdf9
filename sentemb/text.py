"""Text of any shape as clean paragraphs and sentences: encodings, line ends, wrapped lines, dialogue."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sentencex import get_sentence_boundaries

from sentemb.registry import InputError

SPLITTER = f"sentencex {version('sentencex')}"

_LETTER = re.compile(r"[^\W\d_]")
_QUOTATION = re.compile(r"""["]([^"]+)"?|“([^”]+)”?|['‘](?<![^\s(—-]['‘])(?=\w)(.+?[.,!?])['’](?!\w)""")
_SEVERAL = re.compile(r"[.!?…]\s")
_CLOSING = re.compile(r"""["”’)\]]+(?=\s|$)|'(?=\s)""")
_CONTINUES = re.compile(r"""["'”’)\]]*\s*[a-z]""")


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of one paragraph of English, in order; pieces without a letter are dropped.

    sentencex finds the sentences, but keeps a quotation whole, and in novels that is often a speech of ten
    sentences: so its inside is split in the same way. A closing quote belongs to the sentence it ends, and in text
    that has capitals a sentence does not begin with a small letter ('"Well?" said she.' is one).
    """
    starts = {found["start_index"] for found in get_sentence_boundaries("en", paragraph)}
    for quotation in _QUOTATION.finditer(paragraph):
        group = cast(int, quotation.lastindex)
        if _SEVERAL.search(inside := quotation[group]):
            begin = quotation.start(group)
            starts.update(begin + found["start_index"] for found in get_sentence_boundaries("en", inside)[1:])
    cased = paragraph != paragraph.lower()
    cuts = [0]
    for start in sorted(starts):
        if closing := _CLOSING.match(paragraph, start):
            start = closing.end()
        elif paragraph[max(start - 2, 0) : start] in (' "', " “"):
            start -= 1  # an opening quote belongs to the sentence it begins
        if start > cuts[-1] and not (cased and _CONTINUES.match(paragraph, start)):
            cuts.append(start)
    pieces = (paragraph[start:stop].strip() for start, stop in zip(cuts, [*cuts[1:], len(paragraph)], strict=True))
    return [piece for piece in pieces if _LETTER.search(piece)]


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
            wrong = text.count("\ufffd") - head.count(b"\xef\xbf\xbd")  # U+FFFD may also be written out
            good += len(text) - len(text.encode("ascii", "ignore")) - wrong
            bad += wrong
        head = stream.read(1 << 20)
    return "utf-8-sig" if bad <= good else "cp1252"


@contextmanager
def reading(path: Path) -> Iterator[TextIO]:
    """A plain or gzipped file as text, every line end as \\n."""

    def binary() -> BinaryIO:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return cast(BinaryIO, gzip.open(path) if packed else path.open("rb"))

    try:
        with binary() as stream:
            encoding = _encoding(stream, path)
        with io.TextIOWrapper(binary(), encoding, errors="replace") as text:
            yield text
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path} is a damaged gzip file; make it anew or remove it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check that it is yours to read") from None


def clean(line: str) -> str:
    """One line with white space runs as one space, without NUL bytes and byte order marks."""
    return " ".join(line.replace("\0", "").replace("\ufeff", "").split())


def lines(path: Path) -> Iterator[str | None]:
    """The lines of a file, cleaned; None for a blank one."""
    with reading(path) as text:
        for line in text:
            yield clean(line) or None


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a book, each on one line, whether the file has one a line or is wrapped at some width.

    It is wrapped unless most of its text is in lines no typist would set. In a wrapped file a blank line ends a
    paragraph; where there are next to none, so does a line that had room for the next word (see _ends).
    """
    lines = [line.rstrip() for line in text.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    if not lengths:
        return []
    if 2 * sum(length for length in lengths if length > 120) > sum(lengths):
        return _mended(lines)
    sparse = 50 * (len(lines) - len(lengths)) < len(lengths) + 50
    width = lengths[len(lengths) * 9 // 10]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if not line or (sparse and blocks[-1] and _ends(blocks[-1][-1], line, width)):
            blocks.append([])
        if line:
            blocks[-1].append(line)
    return _mended(["\n".join(block) for block in blocks])


def _ends(line: str, following: str, width: int) -> bool:
    """Whether a paragraph ends with ``line``, in wrapped text without blank lines."""
    first = following.split(maxsplit=1)[0]
    if first[0].islower():
        return False
    if len(following) - len(following.lstrip()) > len(line) - len(line.lstrip()):
        return True
    room = len(line) + 1 + len(first) <= width
    return room and (len(line) < width / 2 or line.endswith(tuple(".!?:\"'”’)-—")))


def _mended(blocks: list[str]) -> list[str]:
    """Blocks of lines as clean paragraphs; one that begins with a small letter in mid-sentence joins the one before."""
    # a hyphen at a line end stays, and joins: "full-" "grown" is a compound far more often than a divided word
    cleaned = (clean(re.sub(r"-(?<=[^\W\d_]-)[ \t]*\n[ \t]*(?=[^\W\d_])", "-", block)) for block in blocks)
    joined: list[list[str]] = []
    for paragraph in filter(None, cleaned):
        if joined and paragraph[0].islower() and not joined[-1][-1].rstrip("\"'”’)").endswith((".", "!", "?")):
            joined[-1].append(paragraph)
        else:
            joined.append([paragraph])
    return [" ".join(parts) for parts in joined]
