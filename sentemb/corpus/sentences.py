"""Paragraphs of English as sentences: what sentencex proposes, and what novels need in addition."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise

from sentemb.errors import InputError


def _version() -> str:
    try:
        return version("sentencex")
    except PackageNotFoundError:  # all but the splitting of sentences works without it
        return "(not installed)"


SPLITTER = f"sentencex {_version()}, rules 2"  # in each corpus's fingerprint: count up with the rules here

LONGEST = 20_000  # characters of a paragraph that sentencex sees at once

_LETTER = re.compile(r"[^\W\d_]")
_QUOTES = {"“": " ", "”": " ", "‘": " ", "’ ": "  ", "«": " ", "»": " ", "…": "."}
# after a full stop: what closes the sentence, white space, and then no sign that it continues; all of bounded length,
# or a line of quotes would take time quadratic in its length
_CLOSED = r"""(?:["”’»')\]_]|\[\d+\]){0,9}+(?:\s["”’'](?=\s))?+\s++(?![.,;:!?…)]"""
_END = re.compile(_CLOSED + r"""|[-–—\s"“‘«'(\[_]{0,9}+[a-z])|(?<=\.\.)(?=[A-Z])""")  # "gone...Nobody"
_END_UNCASED = re.compile(_CLOSED + ")")
_CLEAR_END = re.compile(r"""(?:[!?]|\b[a-z]{3,}\.)["”’')]{0,9}+\s(?=["“‘'(]{0,9}+[A-Z])""")
_TURN = re.compile(r"""[-–—](?=["”’']\s["“‘'])""")  # "I never--" "Nonsense!"
_TITLES = ("Mr.", "Mrs.", "Dr.", "Messrs.", "Lieut.", "Capt.", "Sergt.", "Prof.", "Rev.", "Hon.", "Mlle.", "Mdlle.")
_NEVER_LAST = (*_TITLES, "Mme.", " Sta.", " Ste.", " MR.", " MRS.", " DR.", " REV.", " ST.", "i.e.", "e.g.", "viz.")
# words that sentencex takes for abbreviations (me: Maine, fed: federal), and that end sentences
_WORDS = " me no ill miss art may fed ark brig ore mar ken id pa la ut s t n d m e I ME Me Miss NO No Ida May Art Pa "
NUMBER = r"""(?:the\s+)?(?:[ivxlcdm]+|\d+|first|second|third|last|\w+th|one|two|three|four|five|six|seven|eight|nine
    |ten|eleven|twelve|\w+teen|\w+ty(?:[-\s]\w+)?)"""
CHAPTER = r"Chapter|Book|Part|Volume|Vol\.|Canto|Letter|Section|Scene|Act|Stave"
CHAPTER += "|" + CHAPTER.upper()
HEADING = re.compile(rf"(?:(?:{CHAPTER})[ ](?i:{NUMBER})|[IVXLCDM]+|\d+)[.:]?(?=\s|$)", re.VERBOSE)


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of one paragraph of English, in order; pieces without a letter are dropped.

    sentencex proposes the places. It keeps quotations and brackets whole, and in novels those are often speeches of
    ten sentences: so it sees spaces in their place. A closing quote belongs to the sentence it ends, and in text that
    has capitals a sentence does not begin with a small letter ('"Well?" said she.' is one). The number of a chapter
    stays with its title.

    A paragraph of more than LONGEST characters is cut before that, after a full stop where there is one, else at
    white space: so the time is linear in its length, and no sentence is longer.
    """
    if "\n" in paragraph:
        paragraph = clean(paragraph)
    if len(paragraph) > LONGEST:
        return [sentence for part in _parts(paragraph) for sentence in split_sentences(part)]
    heading = HEADING.match(paragraph)
    if heading and paragraph.isupper():
        return [paragraph]
    plain = _plain(paragraph)
    end = _END_UNCASED if plain.islower() else _END
    cuts = [heading.end() if heading else 0]
    for stop in _stops(paragraph, plain):
        if stop > cuts[-1] and (match := end.match(paragraph, stop)) and not paragraph.endswith(_NEVER_LAST, 0, stop):
            cuts.append(match.end())
    cuts[0] = 0
    cuts.append(len(paragraph))
    pieces = [paragraph[start:stop].strip() for start, stop in pairwise(cuts)]
    return [piece for piece in pieces if _LETTER.search(piece)]


def _parts(paragraph: str) -> Iterator[str]:
    """A long paragraph in parts of at most LONGEST characters."""
    start = 0
    while len(paragraph) - start > LONGEST:
        limit = start + LONGEST
        ends = [match.end() for match in _CLEAR_END.finditer(paragraph, limit - LONGEST // 10, limit)]
        stop = ends[-1] if ends else paragraph.rfind(" ", start, limit) + 1 or limit
        yield paragraph[start:stop]
        start = stop
    yield paragraph[start:]


def _plain(paragraph: str) -> str:
    """A paragraph with spaces for quotes and brackets, of the same length; apostrophes inside words stay."""
    plain = paragraph.replace('"', " ").replace("(", " ").replace(")", " ").replace("[", " ").replace("]", " ")
    plain = plain.replace(" '", "  ").replace("' ", "  ").replace("-'", "- ")
    if not plain.isascii():
        for mark, space in _QUOTES.items():
            plain = plain.replace(mark, space)
    return " " + plain[1:] if plain[:1] == "'" else plain


def segments(text: str, language: str) -> list[str]:
    """The sentences that sentencex sees, with the white space behind each.

    Raises:
        InputError: it is not installed.
    """
    try:
        from sentencex import segment
    except ImportError:
        raise InputError("splitting text into sentences needs the package sentencex; pip install sentencex") from None
    return segment(language, text)


def _stops(paragraph: str, plain: str) -> list[int]:
    """Where a sentence of the paragraph may end: after its full stop, before what closes a quotation."""
    stops, at = [], 0
    for piece in segments(plain, "en"):
        stop = len(piece.rstrip())
        dot = piece.find(". ", 0, stop)
        while dot >= 0:
            word = piece[piece.rfind(" ", 0, dot) + 1 : dot]
            if f" {word} " in _WORDS and not piece[dot + 2].isdigit():  # "No. 5"
                stops.append(at + dot + 1)
            dot = piece.find(". ", dot + 2, stop)
        stops.append(at + stop)
        at += len(piece)
    del stops[-1:]  # the end of the paragraph, or of the words before its last quotes
    if '" "' in paragraph or "” “" in paragraph or "' '" in paragraph or "’ ‘" in paragraph:
        stops += [match.end() for match in _TURN.finditer(paragraph)]
        stops.sort()
    return stops


def clean(line: str) -> str:
    """One line with white space runs as one space, without NUL bytes and byte order marks."""
    return " ".join(line.replace("\0", "").replace("\ufeff", "").split())
