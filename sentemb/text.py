"""Text of any shape as clean paragraphs and sentences: wrapped lines, dialogue, whole books."""

import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from sentemb.errors import InputError
from sentemb.files import clean, reading


def _version() -> str:
    try:
        return version("sentencex")
    except PackageNotFoundError:  # all but the splitting of sentences works without it
        return "(not installed)"


SPLITTER = f"sentencex {_version()}, rules 2"  # in each corpus's fingerprint: count up with the rules here

LONGEST = 20_000  # characters of a paragraph that sentencex sees at once
HEADER = 30_000  # characters that Project Gutenberg's header or licence takes at most
PORTION = 1 << 23  # characters: a book is held whole up to twice this, a larger one in portions of it

# ---- sentences ----

_LETTER = re.compile(r"[^\W\d_]")
_QUOTES = {"“": " ", "”": " ", "‘": " ", "’ ": "  ", "«": " ", "»": " ", "…": "."}
# behind a full stop: what closes the sentence, white space, and then no sign that it goes on; all of bounded length,
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
_NUMBER = r"""(?:the\s+)?(?:[ivxlcdm]+|\d+|first|second|third|last|\w+th|one|two|three|four|five|six|seven|eight|nine
    |ten|eleven|twelve|\w+teen|\w+ty(?:[-\s]\w+)?)"""
_CHAPTER = r"Chapter|Book|Part|Volume|Vol\.|Canto|Letter|Section|Scene|Act|Stave"
_CHAPTER += "|" + _CHAPTER.upper()
_HEADING = re.compile(rf"(?:(?:{_CHAPTER})[ ](?i:{_NUMBER})|[IVXLCDM]+|\d+)[.:]?(?=\s|$)", re.VERBOSE)


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of one paragraph of English, in order; pieces without a letter are dropped.

    sentencex proposes the places. It keeps quotations and brackets whole, and in novels those are often speeches of
    ten sentences: so it sees spaces in their place. A closing quote belongs to the sentence it ends, and in text that
    has capitals a sentence does not begin with a small letter ('"Well?" said she.' is one). The number of a chapter
    stays with its title.

    A paragraph of more than LONGEST characters is cut before that, behind a full stop where there is one, else at
    white space: so the time is linear in its length, and no sentence is longer.
    """
    if "\n" in paragraph:
        paragraph = clean(paragraph)
    if len(paragraph) > LONGEST:
        return [sentence for part in _parts(paragraph) for sentence in split_sentences(part)]
    heading = _HEADING.match(paragraph)
    if heading and paragraph.isupper():
        return [paragraph]
    plain = _plain(paragraph)
    end = _END_UNCASED if plain.islower() else _END
    cuts = [heading.end() if heading else 0]
    for stop in _stops(paragraph, plain):
        if stop > cuts[-1] and (found := end.match(paragraph, stop)) and not paragraph.endswith(_NEVER_LAST, 0, stop):
            cuts.append(found.end())
    cuts[0] = 0
    cuts.append(len(paragraph))
    pieces = [paragraph[start:stop].strip() for start, stop in pairwise(cuts)]
    return [piece for piece in pieces if _LETTER.search(piece)]


def _parts(paragraph: str) -> Iterator[str]:
    """A long paragraph in parts of at most LONGEST characters."""
    start = 0
    while len(paragraph) - start > LONGEST:
        limit = start + LONGEST
        ends = [found.end() for found in _CLEAR_END.finditer(paragraph, limit - LONGEST // 10, limit)]
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


def _segments(text: str) -> list[str]:
    """The sentences that sentencex sees.

    Raises:
        InputError: it is not installed.
    """
    try:
        from sentencex import segment
    except ImportError:
        raise InputError("splitting text into sentences needs the package sentencex; pip install sentencex") from None
    return segment("en", text)


def _stops(paragraph: str, plain: str) -> list[int]:
    """Where a sentence of the paragraph may end: behind its full stop, before what closes a quotation."""
    stops, at = [], 0
    for piece in _segments(plain):
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
        stops += [found.end() for found in _TURN.finditer(paragraph)]
        stops.sort()
    return stops


# ---- books ----

_START = re.compile(
    r"^[ \t]*\*{3}[ \t]*START OF TH(?:E|IS) PROJECT GUTENBERG(?:(?:[^*\n]+\n){0,3}?[^*\n]*\*{3})?.*$"
    r"|^[ \t]*\*END[* ]*THE SMALL PRINT!.*$",
    re.MULTILINE,
)
_STOP = re.compile(
    r"^[ \t]*\*{3}[ \t]*END OF TH(?:E|IS) PROJECT GUTENBERG"
    r"|(?<=\n\n)[ \t]*E(?i:nd of (?:the |this )?project gutenberg(?:['’]s|,? e-?(?:book|text)))",
    re.MULTILINE,
)
# what stands between the header and the book: who made the file, and the transcriber's notes
_CREDITS = re.compile(
    r"""(?:\s*+(?:
        \[(?:transcriber|note:|illustration)[^\]]{0,5000}\]
        | \+[-=]+\+\n(?:\|.*\n)*?\|.*transcriber.*\n(?:[|+].*(?:\n|\Z))+
        | transcriber(?:['’]?s|s['’])?[ ]notes?[.:]?[ ]*\n\s*.+(?:\n.+)*
        | (?:(?:this[ ])?(?:e-?text|e-?book)[ ](?:was[ ])?|html[ ]version[ ])?
          (?:produced|prepared|transcribed|scanned|digiti[sz]ed|proofread)[ ](?:and[ ]\w+[ ])?(?:by|from)\b.*(?:\n.+)*
        | transcriber(?:['’]?s|s['’])?[ ]notes?\b.*(?:\n.+)*
    )(?=\s*\n|\Z))+""",
    re.IGNORECASE | re.VERBOSE,
)


def book_text(text: str, keep_matter: bool = False) -> str:
    """A book without what Project Gutenberg puts around it: header, credits, transcriber's notes and licence.

    The header ends with a line "*** START OF THE PROJECT GUTENBERG EBOOK ..." (or with "*END*THE SMALL PRINT!") and
    the licence begins with "*** END OF ..." or "End of Project Gutenberg's ...". Each counts with the other, or alone
    within HEADER characters of its end of the text: anything else is the book's own mention. A text without such
    lines comes back as it is, and so does any with ``keep_matter``.
    """
    start, stop = (0, len(text)) if keep_matter else _matter(text)
    return text[start:stop]


def _matter(text: str) -> tuple[int, int]:
    """Where the book's own text begins and ends."""
    if "PROJECT GUTENBERG" not in text and "Project Gutenberg" not in text:
        return 0, len(text)
    starts = [found.end() for found in _START.finditer(text)]
    stops = [found.start() for found in _STOP.finditer(text)]
    half = len(text) / 2
    # an old header has both kinds of start: the last one before the book counts
    start = max((place for place in starts if place <= min(half, HEADER)), default=0)
    if not start and starts and stops and starts[0] < stops[-1]:
        start = starts[0]
    behind = [place for place in stops if place > start]
    # a text shorter than its licence ends in the first half
    stop = next((place for place in behind if place > half), behind[0] if start and behind else len(text))
    if not start and len(text) - stop > HEADER:
        stop = len(text)
    if start and (credits := _CREDITS.match(text, start, stop)):
        start = credits.end()
    return start, stop


def read_book(path: Path, keep_matter: bool = False) -> Iterator[str]:
    """The sentences of the book in a file, in order: those of each paragraph of its :func:`book_text`.

    A book of more than two PORTIONs of characters is read in portions of at most that, cut at a blank line where
    there is one, else at a line end, else at white space: a gigabyte takes no more memory than sixteen megabytes.

    Raises:
        InputError: as :func:`reading`.
    """
    with reading(path) as text:
        for portion in _portions(text, keep_matter):
            for paragraph in paragraphs(portion):
                yield from split_sentences(paragraph)


def _portions(text: TextIO, keep_matter: bool) -> Iterator[str]:
    held = text.read(2 * PORTION)
    begin = 0 if keep_matter else _matter(held)[0]
    # at least one portion stays for the end, so that the licence is found whole
    while len(held) >= 2 * PORTION:
        places = (held.rfind(mark, PORTION // 2, PORTION) + len(mark) for mark in ("\n\n", "\n", " "))
        cut = max(next((place for place in places if place > PORTION // 2), PORTION), begin)
        yield held[begin:cut]
        held, begin = held[cut:] + text.read(cut), 0
    end = len(held) if keep_matter else _matter(held)[1]
    yield held[begin:end]


_SPACES = "\t\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_SPACES += "\u2028\u2029\u202f\u205f\u3000"  # all white space but the two that paragraphs() works with
_SEVERAL = re.compile("  +")
_BLANK = re.compile(r"\n\s*\n")
_DIVIDED = re.compile(r"-(?<=[^\W\d_]-)\n[ ]*(?=[^\W\d_])")
# a heading's line right before the text; a title in capitals below it belongs to it
_OPENING = re.compile(
    rf"(\n\n[ ]*(?:(?:{_CHAPTER})[ ](?i:{_NUMBER})|[IVXLCDM]+)[.:]?)[ ]*\n(?=[ ]*[A-Z\"“'‘].*[a-z])", re.VERBOSE
)


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a book, each on one line, whether the file has one a line or is wrapped at some width.

    It is wrapped unless most of its text is in lines no typist would set. In a wrapped file a blank line ends a
    paragraph; where there are next to none, so does a line that had room for the next word (see _ends). In any other
    file each line is one, but that a short line in mid-sentence, as in verse, joins the next. A chapter's number on a
    line by itself is a paragraph, and marks of illustrations are none.
    """
    for mark in _SPACES:
        text = text.replace(mark, " ")
    text = text.replace("\0", "").replace("\ufeff", "")
    text = _OPENING.sub(r"\1\n\n", _BLANK.sub("\n\n", "\n\n" + text))
    lines = [*map(str.rstrip, text.split("\n"))]
    lengths = [*map(len, lines)]
    total, blank = sum(lengths), lengths.count(0)
    if not total:
        return []
    if 2 * sum(length for length in lengths if length > 120) > total:
        separate = 2 * blank > len(lines) - blank  # blank lines between paragraphs, so none within verse
        return _mended(_blocks(lines, lambda line, following: not _runs_on(line, following, separate)))
    if 50 * blank >= len(lines) - blank + 50:
        return _mended("\n".join(lines))
    width = sorted(filter(None, lengths))[(len(lines) - blank) * 9 // 10]
    return _mended(_blocks(lines, lambda line, following: _ends(line, following, width)))


def _blocks(lines: list[str], ends: Callable[[str, str], bool]) -> str:
    """Lines with a blank one behind each that ``ends`` a paragraph before the next."""
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    return "\n".join(f"{line}\n" if line and following and ends(line, following) else line for line, following in pairs)


def _runs_on(line: str, following: str, separate: bool) -> bool:
    """Whether a short line, in text that is a paragraph a line, goes on in the next: verse, or a piece left wrapped."""
    if len(line) > 80:
        return False
    last = line.rstrip("\"'”’")[-1:]
    return last in ",;-—" or (separate and last.islower() and not _HEADING.match(following))


def _ends(line: str, following: str, width: int) -> bool:
    """Whether a paragraph ends with ``line``, in wrapped text without blank lines."""
    first = following.split(maxsplit=1)[0]
    if first[0].islower():
        return False
    if len(following) - len(following.lstrip()) > len(line) - len(line.lstrip()):
        return True
    room = len(line) + 1 + len(first) <= width
    return room and (len(line) < width / 2 or line.endswith(tuple(".!?:\"'”’)-—")))


def _mended(text: str) -> list[str]:
    """Paragraphs between blank lines, cleaned; one that begins with a small letter in mid-sentence joins the last.

    The text holds no white space but spaces and line ends.
    """
    # a hyphen at a line end stays, and joins: "full-" "grown" is a compound far more often than a divided word
    text = _DIVIDED.sub("-", text).replace("\n\n", "\0").replace("\n", " ")
    text = _SEVERAL.sub(" ", text)
    found: list[str] = []
    parts: list[str] = []  # of the paragraph at hand
    for paragraph in text.split("\0"):
        paragraph = paragraph.strip(" ")
        if not paragraph or (paragraph[0] == "[" and paragraph.startswith("[Illustration") and paragraph[-1] == "]"):
            continue
        if parts and not (paragraph[0].islower() and _open(parts[-1])):
            found.append(" ".join(parts))
            parts.clear()
        parts.append(paragraph)
    return [*found, " ".join(parts)] if parts else found


def _open(paragraph: str) -> bool:
    """Whether a paragraph breaks off in mid-sentence."""
    ended = paragraph.rstrip("\"'”’)").endswith((".", "!", "?"))
    return not ended and (paragraph == "I" or not _HEADING.fullmatch(paragraph))
