"""Where a book or a chapter begins or ends in text that has no marks between books."""

import re
from collections.abc import Iterable, Iterator

# BookCorpus has no mark between two books, but most books and chapters begin or end with words like these.
BOUNDARY = re.compile(
    r"\W*(?:prologue|epilogue|the end|about the author|acknowledge?ments|table of contents|dedication|copyright\b.*"
    r"|published by\b.*|(?:chapter|part|book)\s+(?:\d+|[ivxlc]+|\w+(?:[ -]\w+)?))\W*"
)


def cut(sentences: Iterable[str | None], boundaries: bool) -> Iterator[str | None]:
    """Sentences, with the end of a document before each that looks like a boundary, if ``wanted``."""
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
