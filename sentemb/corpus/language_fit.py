"""Check whether a text is in the language that it was split by: by its letters and its most frequent words.

No language is guessed to be used: a text that does not fit the one chosen gets a note with the flag to give.
"""

import re
from collections import Counter
from collections.abc import Sequence

from sentemb.languages import LANGUAGES

SAMPLE, LONGEST_TEXT = 1_000, 500  # sentences read; characters of each
LETTERS, WORDS = 100, 50  # the fewest letters and words that a check needs
RARE, OFTEN, TIMES = 0.1, 0.03, 2  # share of a second script; of a language's words, and against the chosen one's

SCRIPTS = {
    "latin": "A-Za-zÀ-ÖØ-öø-ɏ",
    "cyrillic": "Ѐ-ӿ",
    "greek": "Ͱ-Ͽἀ-῿",
    "arabic": "ء-يٮ-ۓ",
    "hebrew": "א-ת",
    "han": "一-鿿㐀-䶿",
    "kana": "ぁ-ヿ",
    "hangul": "가-힣",
    "devanagari": "ऄ-ॡ",
}
_SCRIPTS = {name: re.compile(f"[{letters}]") for name, letters in SCRIPTS.items()}
# Frequent words of each language that are rare in the six others (so "la", "die", "is" and the like are not there)
STOP_WORDS = {
    "de": "der und nicht ist ich mit auf sich dem wie auch ein",
    "en": "the and that with his you this which they from would not",
    "es": "los las y pero su muy más sus cuando había también hasta",
    "fr": "les et est dans une qui pas vous avec nous pour cette",
    "it": "il che di gli della sono nel anche più dei alla questo",
    "nl": "het een van niet dat zijn ik voor maar ook hij naar",
    "pt": "não uma com os um ao foi ele seu muito são pela",
}
_STOP_WORDS = {code: frozenset(words.split()) for code, words in STOP_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")


def misfit(sentences: Sequence[str], language: str) -> tuple[str, str] | None:
    """The language or script of sentences that are not in ``language``, and codes to choose from: ("Greek letters",
    "el").

    None where they fit, or where too little speaks against it. Scripts are compared for every language, words for
    those of STOP_WORDS.
    """
    text = "\n".join(sentence[:LONGEST_TEXT] for sentence in sentences)
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    letters = sum(counts.values())
    scripts = LANGUAGES[language].scripts
    if letters < LETTERS or not set(scripts) & set(SCRIPTS):
        return None
    script = max(counts, key=lambda name: counts[name])
    if script == "han" and counts["kana"] > RARE * letters:
        script = "kana"
    if script not in scripts or (language == "ja" and not counts["kana"]):
        codes = (_by_words(text, "") or "en") if script == "latin" else _written_in(script)
        return (f"{script.title()} letters", codes)
    named = _by_words(text, language) if script == "latin" and language in STOP_WORDS else None
    return (f"{LANGUAGES[named].name} words", named) if named else None


def _by_words(text: str, language: str) -> str | None:
    """The language of STOP_WORDS whose words a text has often, and far more often than those of ``language``."""
    words = Counter(_WORD.findall(text.lower()))
    total = words.total()
    counts = {code: sum(words[word] for word in stop_words) for code, stop_words in _STOP_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    often = total >= WORDS and counts[best] > OFTEN * total
    return best if often and counts[best] > TIMES * counts.get(language, 0) else None


def _written_in(script: str) -> str:
    """The codes of the languages whose first script it is, the most widely spoken one first."""
    first = {"cyrillic": "ru", "arabic": "ar", "devanagari": "hi"}.get(script)
    codes = [code for code, language in LANGUAGES.items() if language.scripts[0] == script and code != first]
    return " or ".join([first, *codes] if first else codes)


def misfit_note(name: str, sentences: Sequence[str], language: str) -> str | None:
    """A sentence on text of source ``name`` that is not in the language that it was split by; None where it is."""
    other = misfit(sentences, language)
    if other is None:
        return None
    what, codes = other
    return (
        f"{name} is mostly in {what} and was split by the rules of {LANGUAGES[language].name}; give --language {codes} "
        f"(from Python language={codes.partition(' ')[0]!r})"
    )
