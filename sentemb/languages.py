"""The languages whose text can be split into sentences, by ISO 639-1 code. Nothing heavy is imported."""

import difflib
from dataclasses import dataclass

from sentemb.errors import InputError

CASED = {"armenian", "cyrillic", "greek", "latin"}  # scripts with small letters and capitals


@dataclass(frozen=True)
class Language:
    """What of a language decides where its sentences end.

    Args:
        name: in English.
        scripts: those it is written in, as Unicode names them.
        rules: the code whose rules sentencex uses for it; "": its own.
    """

    name: str
    scripts: tuple[str, ...] = ("latin",)
    rules: str = ""

    @property
    def has_case(self) -> bool:
        """Whether it has capitals, so that no sentence begins with a small letter."""
        return self.scripts[0] in CASED

    @property
    def has_spaces(self) -> bool:
        """Whether white space stands between its words."""
        return self.scripts[0] not in ("han", "kana", "myanmar")


LANGUAGES = {
    "am": Language("Amharic", ("ethiopic",)),
    "ar": Language("Arabic", ("arabic",)),
    "bg": Language("Bulgarian", ("cyrillic",)),
    "bn": Language("Bengali", ("bengali",)),
    "ca": Language("Catalan"),
    "cs": Language("Czech", rules="sk"),
    "da": Language("Danish"),
    "de": Language("German"),
    "el": Language("Greek", ("greek",)),
    "en": Language("English"),
    "es": Language("Spanish"),
    "fa": Language("Persian", ("arabic",), rules="en"),
    "fi": Language("Finnish"),
    "fr": Language("French"),
    "gl": Language("Galician", rules="pt"),
    "gu": Language("Gujarati", ("gujarati",)),
    "he": Language("Hebrew", ("hebrew",), rules="en"),
    "hi": Language("Hindi", ("devanagari",)),
    "hu": Language("Hungarian", rules="en"),
    "hy": Language("Armenian", ("armenian",)),
    "id": Language("Indonesian", rules="en"),
    "it": Language("Italian"),
    "ja": Language("Japanese", ("kana", "han")),
    "kk": Language("Kazakh", ("cyrillic",)),
    "kn": Language("Kannada", ("kannada",)),
    "ko": Language("Korean", ("hangul", "han"), rules="en"),
    "ml": Language("Malayalam", ("malayalam",)),
    "mr": Language("Marathi", ("devanagari",)),
    "my": Language("Burmese", ("myanmar",)),
    "nb": Language("Norwegian", rules="en"),
    "nl": Language("Dutch"),
    "pa": Language("Punjabi", ("gurmukhi",)),
    "pl": Language("Polish"),
    "pt": Language("Portuguese"),
    "ro": Language("Romanian", rules="en"),
    "ru": Language("Russian", ("cyrillic",)),
    "sk": Language("Slovak"),
    "sv": Language("Swedish", rules="en"),
    "ta": Language("Tamil", ("tamil",)),
    "te": Language("Telugu", ("telugu",)),
    "tr": Language("Turkish", rules="en"),
    "uk": Language("Ukrainian", ("cyrillic",)),
    "ur": Language("Urdu", ("arabic",), rules="en"),
    "vi": Language("Vietnamese", rules="en"),
    "zh": Language("Chinese", ("han",), rules="en"),
}
DEFAULT = "en"
COUNTRIES = {"cn": "zh", "cz": "cs", "dk": "da", "gr": "el", "ir": "fa", "jp": "ja", "kr": "ko", "no": "nb", "se": "sv",
             "ua": "uk", "us": "en", "vn": "vi"}  # taken for languages  # fmt: skip


def check_language(code: str) -> str:
    """``code`` if it is one of LANGUAGES.

    Raises:
        InputError: it is not; the code that was meant is suggested where a name ("German", "ge"), a longer code
            ("deu", "pt-BR") or a country's ("jp") is recognised.
    """
    if code in LANGUAGES:
        return code
    near = _nearest(code)
    hint = f" (did you mean {near!r}, {LANGUAGES[near].name}?)" if near else ""
    raise InputError(f"unknown language {code!r}{hint}; valid: {', '.join(LANGUAGES)}")


def _nearest(code: str) -> str | None:
    """The code that was meant by one that there is not, if it can be seen."""
    folded = code.strip().lower().replace("_", "-")
    if (base := folded.partition("-")[0]) in LANGUAGES:
        return base
    names = {language.name.lower(): code for code, language in LANGUAGES.items()}
    close = difflib.get_close_matches(folded, names, n=1, cutoff=0.75)
    close += [name for name in names if len(folded) > 1 and name.startswith(folded)]
    if base in COUNTRIES:
        return COUNTRIES[base]
    if close:
        return names[close[0]]
    return folded[:2] if len(folded) == 3 and folded[:2] in LANGUAGES else None
