"""Split books of any layout into paragraphs, without Project Gutenberg's header and licence."""

import re
from collections.abc import Callable

from sentemb.corpus.sentences import CHAPTER, HEADING, NUMBER
from sentemb.languages import DEFAULT, LANGUAGES

HEADER = 30_000  # characters that Project Gutenberg's header or licence takes at most
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
_SPACES = "\t\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_SPACES += "\u2028\u2029\u202f\u205f\u3000"  # all white space but the two that paragraphs() works with
_SEVERAL = re.compile("  +")
_BLANK = re.compile(r"\n\s*\n")
_DIVIDED = re.compile(r"-(?<=[^\W\d_]-)\n[ ]*(?=[^\W\d_])")
# a heading's line right before the text; a title in capitals below it belongs to it
_UNSPACED = re.compile(r"(?<=[^\x00-\x7f])\n[ ]*(?=[^\x00-\x7f])")  # a line end of text without spaces between words
_OPENING = re.compile(
    rf"(\n\n[ ]*(?:(?:{CHAPTER})[ ](?i:{NUMBER})|[IVXLCDM]+)[.:]?)[ ]*\n(?=[ ]*[A-Z\"“'‘].*[a-z])", re.VERBOSE
)


def book_text(text: str, keep_matter: bool = False) -> str:
    """Remove Project Gutenberg's header, credits, transcriber's notes and licence from a book.

    The header ends with a line "*** START OF THE PROJECT GUTENBERG EBOOK ..." (or with "*END*THE SMALL PRINT!") and
    the licence begins with "*** END OF ..." or "End of Project Gutenberg's ...". Each counts with the other, or alone
    within HEADER characters of its end of the text: anything else is the book's own mention. A text without such
    lines comes back as it is, and so does any with ``keep_matter``.
    """
    start, stop = (0, len(text)) if keep_matter else matter_bounds(text)
    return text[start:stop]


def matter_bounds(text: str) -> tuple[int, int]:
    """Where the book's own text begins and ends."""
    if "PROJECT GUTENBERG" not in text and "Project Gutenberg" not in text:
        return 0, len(text)
    starts = [match.end() for match in _START.finditer(text)]
    stops = [match.start() for match in _STOP.finditer(text)]
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


def paragraphs(text: str, language: str = DEFAULT) -> list[str]:
    """Paragraphs of a book, each on one line, whether the file has one a line or is wrapped at some width.

    It is wrapped unless most of its text is in lines no typist would set. In a wrapped file a blank line ends a
    paragraph; where there are next to none, so does a line that had room for the next word (see _ends). In any other
    file each line is one, but that a short line in mid-sentence, as in verse, joins the next. A chapter's number on a
    line by itself is a paragraph, and marks of illustrations are none.

    In a ``language`` without spaces between words, lines join without one, and one that ends with a full stop, or
    stands before an indented one, ends a paragraph.
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
    if not LANGUAGES[language].has_spaces:
        return _mended(_blocks(lines, _ends_unspaced), unspaced=True)
    if 50 * blank >= len(lines) - blank + 50:
        return _mended("\n".join(lines))
    width = sorted(filter(None, lengths))[(len(lines) - blank) * 9 // 10]
    return _mended(_blocks(lines, lambda line, following: _ends(line, following, width)))


def _blocks(lines: list[str], ends: Callable[[str, str], bool]) -> str:
    """Lines with a blank one after each that ``ends`` a paragraph before the next."""
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    return "\n".join(f"{line}\n" if line and following and ends(line, following) else line for line, following in pairs)


def _runs_on(line: str, following: str, separate: bool) -> bool:
    """Whether a short line of a text with a paragraph a line continues in the next: verse, or wrapped prose."""
    if len(line) > 80:
        return False
    last = line.rstrip("\"'”’")[-1:]
    return last in ",;-—" or (separate and last.islower() and not HEADING.match(following))


def _ends(line: str, following: str, width: int) -> bool:
    """Whether a paragraph ends with ``line``, in wrapped text without blank lines."""
    first = following.split(maxsplit=1)[0]
    if first[0].islower():
        return False
    if len(following) - len(following.lstrip()) > len(line) - len(line.lstrip()):
        return True
    room = len(line) + 1 + len(first) <= width
    return room and (len(line) < width / 2 or line.endswith(tuple(".!?:\"'”’)-—")))


def _ends_unspaced(line: str, following: str) -> bool:
    """The same in a language without spaces between words: a line's full stop ends a sentence in any case."""
    return line.endswith(tuple("。！？…」』”）")) or following.startswith(" ")


def _mended(text: str, unspaced: bool = False) -> list[str]:
    """Paragraphs between blank lines, cleaned; one that begins with a small letter in mid-sentence joins the last.

    The text holds no white space but spaces and line ends.
    """
    # a hyphen at a line end stays, and joins: "full-" "grown" is a compound far more often than a divided word
    text = _DIVIDED.sub("-", text).replace("\n\n", "\0")
    if unspaced:
        text = _UNSPACED.sub("", text)
    text = text.replace("\n", " ")
    text = _SEVERAL.sub(" ", text)
    joined: list[str] = []
    parts: list[str] = []  # of the current paragraph
    for paragraph in text.split("\0"):
        paragraph = paragraph.strip(" ")
        if not paragraph or (paragraph[0] == "[" and paragraph.startswith("[Illustration") and paragraph[-1] == "]"):
            continue
        if parts and not (paragraph[0].islower() and _open(parts[-1])):
            joined.append(" ".join(parts))
            parts.clear()
        parts.append(paragraph)
    return [*joined, " ".join(parts)] if parts else joined


def _open(paragraph: str) -> bool:
    """Whether a paragraph breaks off in mid-sentence."""
    ended = paragraph.rstrip("\"'”’)").endswith((".", "!", "?"))
    return not ended and (paragraph == "I" or not HEADING.fullmatch(paragraph))
