"""Paragraphs of any language as sentences: sentencex' rules of that language, and what they need in addition.

English has rules for novels of its own (``sentences``). Of those, quotations as separate sentences hold for every
language, "no sentence begins with a small letter" for those that have capitals, and headings, titles and words that
look like abbreviations for none but English.
"""

import re
from itertools import pairwise

from sentemb.corpus.sentences import LONGEST, SPLITTER, clean, segments, split_sentences
from sentemb.languages import DEFAULT, LANGUAGES, Language

RULES = "languages 1"  # in the fingerprint of corpora that are not English: count up with the rules here

_LETTER = re.compile(r"[^\W\d_]")
_BRACKETS = dict.fromkeys(map(ord, '"()[]“”„«»‹›「」『』（）《》〈〉【】'), " ")
_CLOSERS = r"""(?:[%s]|\[\d+\]){0,9}+(?:\s["”’'»›](?=\s|$))?+"""  # the second: French has a space before »
_CLOSED = re.compile(_CLOSERS % r"""\"“”‘’'«»‹›)\]_""")  # (German closes with “ and «)
_CLOSED_UNSPACED = re.compile(_CLOSERS % r"""\"”’'」』）》〉】)\]""")  # (“ opens there, and no space stands before it)
_GOES_ON = re.compile(r"[.,;:!?…)、，；：。！？]")
_OPENERS = re.compile(r"""[-–—\s"“„‘‚«»‹›'(\[_¿¡]{0,9}""")
_CLEAR_END = re.compile(r"""[。！？｡।॥؟۔።]["”’'」』）»)]{0,9}+\s?|[.!?]["”’'»)]{0,9}+\s""")
_INITIAL = re.compile(r"(?:^|[\s\"“„‘‚«»‹›'(\[.])[^\W\d_]\.")
_DOTTED = re.compile(r"[^\W\d_](?:\.[^\W\d_]+)+\.")  # z.B., d.w.z.
# "and so on" and "no", at which sentencex never ends one
_MAY_END = re.compile(r"""(?<!\w)(?:usw|etc|ecc|enz|[Nn]o|т\.\s?[дп])\.(?=["”“’»«)]{0,3}\s\D)""")

# Abbreviations (in small letters) that never end a sentence, and at which sentencex ends one.
_NEVER_LAST = {
    "de": "hr. fr. dr. prof. inkl. exkl. bzw. vgl. ca. nr. bd. evtl. ggf. z. u. d. s. st. str. tel.",
    "fr": "m. mm. mme. mmes. mlle. dr. pr. st. ste. cf. av. p. ex. n. vol. art. fig.",
    "es": "sr. sra. srta. sres. dr. dra. d. dña. p. ej. pág. núm. cap. art. ud. uds.",
    "it": "sig. sigg. sig.ra dott. dott.ssa prof. prof.ssa avv. ing. pag. cap. art. cfr. p. es. n.",
    "nl": "dhr. mevr. mw. dr. drs. ir. mr. prof. bijv. bv. blz. nr. p. t. o. st.",
    "pt": "sr. sra. srta. dr. dra. prof. profa. d. p. ex. av. r. pág. n. cap. art.",
    "ru": "ул. пр. пл. д. е. кв. им. стр. см. проф. акад. тов. гр. т. к. н. св. рис. гл.",
    "el": "κ. κα. κκ. δρ. οδ. βλ. σελ. αγ. αρ. τηλ. κεφ. π.",
    "hi": "डॉ. श्री. श्रीमती. प्रो. पं. कु. ई. पू. सं.",
}
NEVER_LAST = {code: frozenset(words.split()) for code, words in _NEVER_LAST.items()}
# A German noun after a number may be what it counts ("3. Oktober"); after these words a sentence begins
_STARTERS = "der die das ein eine er sie es wir ich ihr man dann danach da dort und aber doch in im am an auf als auch"
_GERMAN_STARTERS = frozenset(f"{_STARTERS} so nun wenn was wer wie wo mit nach vor bei für".split())
_GERMAN_NUMBER = re.compile(r"(?:^|[\s(])\d{1,2}\.")
_QUOTATIVE = re.compile("って|と(?!ても|ころ|き|にかく|うとう|りあえず|なり|もだち)")  # "...," said
_ATTRIBUTION = re.compile(r"[\u4e00-\u9fff]{1,6}?[说問问道喊答](?=[，。：！？])")  # 他说。


def split_text(paragraph: str, language: str = DEFAULT) -> list[str]:
    """Sentences of one paragraph, in order; pieces without a letter are dropped.

    Args:
        paragraph: at more than LONGEST characters it is cut first, so that the time is linear in its length.
        language: a code of :data:`sentemb.languages.LANGUAGES`.
    """
    if language == DEFAULT:
        return split_sentences(paragraph)
    if "\n" in paragraph:
        paragraph = clean(paragraph)
    if len(paragraph) > LONGEST:
        return [sentence for part in _parts(paragraph) for sentence in split_text(part, language)]
    cuts, about = [0], LANGUAGES[language]
    uncased = not about.has_case or paragraph.islower()
    for stop in _stops(paragraph, language, about):
        end = _end(paragraph, stop, about, uncased) if stop > cuts[-1] else None
        if end is not None and not _is_inside(paragraph, stop, end, language, about):
            cuts.append(end)
    cuts.append(len(paragraph))
    pieces = [paragraph[start:stop].strip() for start, stop in pairwise(cuts)]
    return [piece for piece in pieces if _LETTER.search(piece)]


def splitter_of(language: str) -> str:
    """The name and version of the rules for a language, as a part of a cache key. English keeps its former key."""
    return SPLITTER if language == DEFAULT else f"{SPLITTER}, {RULES}, {language}"


def _parts(paragraph: str) -> list[str]:
    """A long paragraph in parts of at most LONGEST characters: cut at a clear end, else at white space."""
    parts, start = [], 0
    while len(paragraph) - start > LONGEST:
        limit = start + LONGEST
        ends = [match.end() for match in _CLEAR_END.finditer(paragraph, limit - LONGEST // 10, limit)]
        stop = ends[-1] if ends else paragraph.rfind(" ", start, limit) + 1 or limit
        parts.append(paragraph[start:stop])
        start = stop
    return [*parts, paragraph[start:]]


def _stops(paragraph: str, language: str, about: Language) -> list[int]:
    """Where a sentence may end: after its full stop, before what closes a quotation."""
    plain = paragraph.translate(_BRACKETS).replace(" '", "  ").replace("' ", "  ").replace("’ ", "  ")
    plain = plain.replace("‘", " ").replace("‚", " ")
    if about.has_case:
        plain = plain.replace("…", ".")
    stops, at = [], 0
    for piece in segments(plain, language):
        stops.append(at + len(piece.rstrip()))
        at += len(piece)
    del stops[-1:]
    if about.has_case:
        stops += [match.end() for match in _MAY_END.finditer(paragraph)]
        stops.sort()
    return stops


def _end(paragraph: str, stop: int, about: Language, uncased: bool) -> int | None:
    """Where the next sentence begins, if one ends at ``stop``."""
    closed = (_CLOSED if about.has_spaces else _CLOSED_UNSPACED).match(paragraph, stop)
    end = closed.end() if closed else stop
    begin = end
    while begin < len(paragraph) and paragraph[begin].isspace():
        begin += 1
    mark, following = paragraph[stop - 1], paragraph[begin : begin + 1]
    if begin == end and (about.has_case or mark == "." or (mark == "．" and following.isdigit())):
        return None  # "3.5", "www.example.com": only marks of scripts without capitals need no space
    if not following or _GOES_ON.match(following):
        return None
    opened = _OPENERS.match(paragraph, begin)
    first = paragraph[opened.end() : opened.end() + 1] if opened else ""
    return None if first.islower() and not uncased else begin


def _is_inside(paragraph: str, stop: int, end: int, language: str, about: Language) -> bool:
    """Whether a full stop belongs to an abbreviation, an initial or an ordinal, or a quotation to what follows it."""
    if language == "ja":
        return _QUOTATIVE.match(paragraph, end) is not None
    if language == "zh":
        return paragraph[end - 1] in '”’」』"' and _ATTRIBUTION.match(paragraph, end) is not None
    if paragraph[stop - 1] != ".":
        return False
    if any(match.end() == stop for match in _MAY_END.finditer(paragraph, max(0, stop - 8), stop + 5)):
        return False
    begin = paragraph.rfind(" ", 0, stop) + 1
    word = paragraph[begin:stop].lstrip("\"“„‘‚«»‹›'([¿¡—–-")
    if word.lower() in NEVER_LAST.get(language, ()) or (word[0:1].islower() and _DOTTED.fullmatch(word)):
        return True
    if _INITIAL.fullmatch(paragraph, max(0, stop - 3), stop) or _INITIAL.fullmatch(paragraph, max(0, stop - 2), stop):
        return not about.has_case or paragraph[stop - 2].isupper()
    if language == "de" and _GERMAN_NUMBER.fullmatch(paragraph, max(0, begin - 1), stop):
        return paragraph[end:].split(maxsplit=1)[0].lower() not in _GERMAN_STARTERS
    return False
