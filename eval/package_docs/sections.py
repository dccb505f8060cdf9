"""Documentation as titled sections: docstrings of Python modules, and pages in Markdown or reStructuredText."""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc

TITLE = (3, 20)  # words of a title, at least and at most
LEAST = 20  # words of a section's text
MOST = 250  # words of a section's text; what is after them is cut off
_STAY = """
a an and are as at be been but by can do for from has have if in into is it its may no not of on or so that the their
then there these this those to was were when which will with you your
"""
FUNCTION_WORDS = frozenset(_STAY.split())  # which stay in a section's text where its title has them, too

_WORD = re.compile(r"[^\W_]+")
_FENCE = re.compile(r"^(\s*)(```|~~~).*?^\s*\2.*?$", re.MULTILINE | re.DOTALL)
_RULE = re.compile(r"\s*([=\-~^\"'`#*+._:<>])\1{2,}\s*")  # a line of one sign, three times or more
_HEADING = re.compile(r"#{1,6}\s+(?P<title>\S.*?)\s*#*\s*")
_MARKUP = (  # in this order: what it is, and what stays of it
    (re.compile(r"`([^`<>]+?)\s*<[^`<>]+>`_{1,2}"), r"\1"),  # links in reStructuredText
    (re.compile(r"<!--.*?-->|<[a-zA-Z/][^<>]*>", re.DOTALL), " "),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)|!\[[^\]]*\]\[[^\]]*\]"), " "),  # pictures
    (re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),  # links in Markdown
    (re.compile(r":[\w:.-]+:`~?([^`]*)`"), r"\1"),  # roles
    (re.compile(r"(?:https?|ftp)://[^\s)>]+"), " "),
    (re.compile(r"[`*|]+"), " "),
)
_NOISE = re.compile(r"\s*(?:>>>|\.\.\.(?:\s|$)|\.\.\s|:\w[\w ]*:\s*\S*$|\[\d+\]:|In \[|Out\[)")


@dataclass(frozen=True)
class DocSection:
    """A title and the text below it."""

    title: str
    text: str


def docstring_sections(source: str) -> Iterator[DocSection]:
    """The docstrings of a module and of its public classes and functions: the summary is the title of the rest.

    A source that cannot be parsed has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # (of escapes in old sources)
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    yield from _docstrings(tree)


def _docstrings(node: ast.AST) -> Iterator[DocSection]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        title, _, text = cleandoc(ast.get_docstring(node, clean=False) or "").partition("\n\n")
        if (section := section_of(title, text)) is not None:
            yield section
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from _docstrings(child)


def markup_sections(page: str) -> Iterator[DocSection]:
    """The sections of a page: from a heading (``# Title``, or a line with a line of signs below it) to the next one."""
    title, lines = "", list[str]()
    page_lines = _FENCE.sub("", page).splitlines()
    for line, following in zip(page_lines, [*page_lines[1:], ""], strict=False):
        heading = _HEADING.fullmatch(line)
        underlined = _RULE.fullmatch(following) and line.strip() and not _RULE.fullmatch(line) and line[:1] != " "
        if not heading and not underlined:
            lines.append(line)
            continue
        if (section := section_of(title, "\n".join(lines))) is not None:
            yield section
        title, lines = heading["title"] if heading else line, []
    if (section := section_of(title, "\n".join(lines))) is not None:
        yield section


def section_of(title: str, text: str) -> DocSection | None:
    """A section of plain words, its title's words removed from its text; None where one of both is not prose."""
    title = plain(title).rstrip(".: ")
    if not TITLE[0] <= len(_WORD.findall(title)) <= TITLE[1] or "(" in title or not title[:1].isalnum():
        return None
    text = without_title(title, plain(text))
    words = text.split()
    wordlike = sum(any(character.isalpha() for character in word) for word in words)
    if wordlike < LEAST or 2 * wordlike < len(words):
        return None
    return DocSection(title, " ".join(words[:MOST]))


def plain(text: str) -> str:
    """Text without code, links, rules and marks, on one line."""
    lines = [line for line in text.splitlines() if not _RULE.fullmatch(line) and not _NOISE.match(line)]
    text = "\n".join(lines)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.replace("\0", "").split())


def without_title(title: str, text: str) -> str:
    """``text`` without the words of ``title`` except function words, in small letters or capitals."""
    words = {word.casefold() for word in _WORD.findall(title)} - FUNCTION_WORDS
    return " ".join(_WORD.sub(lambda word: "" if word[0].casefold() in words else word[0], text).split())
