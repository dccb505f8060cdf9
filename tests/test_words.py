"""Plain English: phrases that readers stumble over are in no message, help text, docstring, comment or page.

``make check`` runs this. CONTRIBUTING.md has the rules and shows sentences before and after.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("sentemb", "eval", "recipes", "benchmarks")

INSTEAD = {  # a phrase, as a regular expression: what to write instead
    r"anew": "again, from the start",
    r"(is|are|be|been|was|were) told|tells? (all|what|why|how|of)": "says, prints, lists",
    r"(goes|go|going|went) on": "continues, resumes; run the same command again",
    r"beside": "next to, with, in addition to",
    r"(?<!, )(?<!; )(?-i:otherwise)": "differently; else",
    r"so many": "N, this number of",
    r"of ours": "that sentemb has written",
    r"strangers?|partners?": "negative, random pair; positive",
    r"(?<!\bthere )(is|are|was|were) no(?! (longer|more|nearer|such|one|way))": "is not a",
    r"(to be|can be|cannot be|could not be) had": "is (not) available",
    r"comes? to lie": "is written to",
    r"in the place of": "instead of",
    r"of now": "current",
    r"looked at": "read, checked",
    r"mend(s|ed)?": "fix",
    r"at hand": "current; installed",
    r"(method|one|it) that pays|pays in": "improves; the best",
    r"worth nothing": "useless",
    r"(?<=, )say(?=[,;)])|(?<=\d )say": "for example",
    r"thereof|wherein|whence|hereby|lest|naught|nought": "a plain word",
}
REFUSED = {re.compile(rf"\b(?:{phrase})(?!\w)", re.IGNORECASE): instead for phrase, instead in INSTEAD.items()}
WORD_LISTS = {"benchmarks/corpus.py"}  # whose strings are made-up text


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every comment, docstring and string with a space in it; keys and identifiers are left out."""
    inner = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(value) for value in node.values}
            text = "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield node.lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def prose_of_page(source: str) -> Iterator[tuple[int, str]]:
    """Lines outside of code, and outside of tables, which may show a phrase that is refused."""
    is_code = False
    for number, line in enumerate(source.splitlines(), 1):
        is_code ^= line.startswith("```")
        if not is_code and not line.startswith("|"):
            yield number, line


def prose() -> Iterator[tuple[str, int, str]]:
    """File, line and text of all that people read."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix == ".py" and name not in WORD_LISTS:
                for line, text in prose_of_python(path.read_text(encoding="utf-8")):
                    yield name, line, text
            elif path.suffix in (".toml", ".yaml", ".html"):
                for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                    yield name, line, text
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line, text in prose_of_page(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT).as_posix(), line, text


def refused(text: str) -> list[str]:
    """Each refused phrase in a text, and what to write instead."""
    text = " ".join(re.sub(r"(`+)[^`]*\1", "", text).split())
    return [f"{match[0]!r} -> {instead}" for phrase, instead in REFUSED.items() for match in phrase.finditer(text)]


def test_a_refused_phrase_is_seen():
    source = (
        '"""The same command\n    goes on."""\nx = f"{y} is no folder; mend {y}"  # told anew\nbeside = {"told": 1}\n'
    )
    seen = [(line, phrase.split("'")[1]) for line, text in prose_of_python(source) for phrase in refused(text)]
    assert seen == [(1, "goes on"), (3, "is no"), (3, "mend"), (3, "anew")]
    page = "It is told.\n```\nbeside\n```\n| beside |\n`anew` here\n"
    assert [line for line, text in prose_of_page(page) if refused(text)] == [1]
    assert refused("There is no file; it is no longer there, and the recommendations are long ones.") == []


def test_no_text_has_a_refused_phrase():
    hits = [f"{name}, line {line}: {phrase}" for name, line, text in prose() for phrase in refused(text)]
    assert not hits, "\n" + "\n".join(hits)
