"""Whether the lines of a text file are sentences, or pieces of raw text: wrapped prose, or a paragraph a line."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from sentemb.corpus.readers.text_files import packing_of, reading
from sentemb.errors import InputError

Shape = Literal["sentences", "wrapped", "paragraphs"]

BLOCKS, BLOCK = 32, 8_192  # places that are read, evenly spread; characters at each
UNPACKED = 4_000_000  # characters of a packed file from which they are taken: there is no seeking in it
NARROWEST, WIDEST = 30, 200  # characters of a line of wrapped prose
LONGEST = 2_000  # characters of a line that are read and counted

_CLOSERS = r"""["'”’»)\]_]{0,5}"""
_FINAL = re.compile(rf"(?:[.!?…:;।؟。！？：；]|--|[—–*]){_CLOSERS}\s*$")
# an end of a sentence that another one follows on the same line, abbreviations of one or two letters aside
_INNER = re.compile(
    rf"""(?:[!?…]|[^\W\d_]{{3,}}\s?\.){_CLOSERS}\s{{1,3}}[-–—"'“‘«„(\[_]{{0,4}}(?=([^\W\d_]))|[।。！？]{_CLOSERS}(?=\s?\w)"""
)
_FIRST = re.compile(r"[^\W_]")


def shape_of(path: Path) -> Shape:
    """What the lines of a text file are, by at most BLOCKS * BLOCK characters of it.

    Wrapped prose: lines break off in mid-sentence, near one width, and sentences end within lines. Paragraphs: much of
    the text stands in lines of three sentences or more. All else is a sentence a line: verse, headlines, phrases
    without a full stop, rows with tabs in them; and so is a file that cannot be read.
    """
    try:
        blocks = [block.splitlines() for block in _blocks(path)]
    except (InputError, OSError):  # (reported where the text is read)
        return "sentences"
    lines = [line.strip()[:LONGEST] for block in blocks for line in block if line.strip()]
    if 2 * sum("\t" in line for line in lines) >= len(lines):  # (so of no line, too)
        return "sentences"
    firsts = [match[0] for line in lines if (match := _FIRST.search(line))]
    cased = sum(map(str.isupper, firsts)) > 0.05 * len(lines)
    ends = np.array([_inner_ends(line, cased) for line in lines])
    if np.mean(ends >= 1) >= 0.04 and _is_wrapped(blocks):
        return "wrapped"
    lengths, several = np.array([*map(len, lines)]), ends >= 2
    if np.mean(several) >= 0.1 and lengths[several].sum() >= 0.35 * lengths.sum():
        return "paragraphs"
    return "sentences"


def _is_wrapped(blocks: list[list[str]]) -> bool:
    """Whether lines break off in mid-sentence, and near one width.

    The width is that of each block: books were put together of parts that were typed at several.
    """
    pairs = broken = measured = near = 0
    for block in blocks:
        both = [(line.strip(), following.strip()) for line, following in pairwise(block)]
        lengths = np.array([len(line) for line, following in both if _goes_on(line, following)])
        pairs += sum(bool(line and following) for line, following in both)
        broken += len(lengths)
        width = float(np.quantile(lengths, 0.9)) if len(lengths) >= 3 else 0
        if NARROWEST <= width <= WIDEST:
            measured += len(lengths)
            near += int((lengths >= 0.75 * width).sum())
    return broken >= pairs / 3 and 2 * measured > broken and near >= 0.7 * measured


def _goes_on(line: str, following: str) -> bool:
    """Whether a sentence continues from a line to the next: no full stop, and no capital."""
    first = _FIRST.search(following)
    return bool(line) and first is not None and not first[0].isupper() and not _FINAL.search(line)


def _inner_ends(line: str, cased: bool) -> int:
    """How many sentences end within a line."""
    return sum(not cased or not match[1] or not match[1].islower() for match in _INNER.finditer(line))


def _blocks(path: Path) -> Iterator[str]:
    """Text from evenly spread places of a file, or from the start of a large packed one; complete lines if possible."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
    if packing_of(path) or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        with reading(path) as text:
            held = text.read(UNPACKED)
        starts = _starts(len(held))
        yield from (_complete_lines(held[start : start + BLOCK], start > 0) for start in starts)
        return
    with path.open("rb") as file:
        for start in _starts(size):
            file.seek(start)
            raw = file.read(BLOCK)
            text_block = raw.decode("utf-8-sig", "replace")
            if text_block.count("\ufffd") > 2:  # (a block may cut a character at either end)
                text_block = raw.decode("cp1252", "replace")
            yield _complete_lines(text_block.replace("\r\n", "\n").replace("\r", "\n"), start > 0)


def _starts(size: int) -> list[int]:
    if size <= BLOCKS * BLOCK:
        return [*range(0, size, BLOCK)]
    return [int(start) for start in np.linspace(0, size - BLOCK, BLOCKS)]


def _complete_lines(block: str, begun: bool) -> str:
    """A block without the piece of a line at its beginning, unless that is all of it."""
    _, line_end, rest = block.partition("\n")
    return rest if begun and line_end and rest.strip() else block
