"""The one configuration language: ``build(TABLE, "name:key=value,key=value")`` makes the thing named.

A table maps names to classes or functions. The options of a name are its parameters, with their annotated types and
defaults, so there is nothing else to keep in step with the code. A parameter whose annotation is a dataclass stands for
that dataclass's fields (``settings: RnnSettings``). A value that holds a comma, or begins or ends with a
space, stands in quotes: ``table:path="a, b.csv",column=text``. Inside quotes a doubled quote is a quote.
"""

import difflib
import inspect
import logging
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sentemb.errors import InputError

Table = Mapping[str, Callable[..., Any]]
_QUOTES = "\"'"
_WEIGHT = re.compile(r"(.+)\*(\d+(?:\.\d*)?|\.\d+)\s*")
_IN_QUOTES = re.compile(r"""=\s*(?:"(?:[^"]|"")*"|'(?:[^']|'')*')""")


@dataclass(frozen=True)
class PathUnless:
    """Marks an option that may name a file or folder, unless it is one of ``names``, which are built in."""

    names: tuple[str, ...] = ()


PathText = Annotated[str, PathUnless()]  # a path, or a name of the hub


def choose(what: str, name: str, valid: Iterable[str]) -> str:
    """``name`` if it is one of ``valid``; else an InputError that lists them and suggests the nearest."""
    names = sorted(valid)
    if name in names:
        return name
    raise InputError(f"unknown {what} {name!r}{suggestion(name, names)}; valid: {', '.join(names) or 'none'}")


def suggestion(name: str, valid: Iterable[str]) -> str:
    """`` (did you mean 'NEAREST'?)`` for the end of a sentence; empty where none of ``valid`` is near."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """``"name:key=value,key=value"`` as a name and its options, still text.

    Raises:
        InputError: an option without ``=``, or given twice; a quote that is not closed.
    """
    name, _, rest = spec.partition(":")
    return name.strip(), parse_options(rest, spec, f"write {name}:key=value,key=value")


def parse_options(text: str, spec: str, mend: str, strip: bool = True) -> dict[str, str]:
    """``key=value,key="a, b"`` as a mapping, still text.

    Args:
        text: the options. spec: the whole spec, and ``mend``: how to write it, both for the error.
        strip: leave out white space around values without quotes.

    Raises:
        InputError: as :func:`parse`.
    """
    options: dict[str, str] = {}
    place = 0
    while place < len(text):
        comma = (text.find(",", place) + 1 or len(text) + 1) - 1
        equals = text.find("=", place, comma)
        key = text[place : equals if equals >= 0 else comma].strip()
        if equals < 0 and not key:  # nothing between two commas
            place = comma + 1
            continue
        if equals < 0 or not key:
            raise InputError(f"option {text[place:comma].strip()!r} in {spec!r} is not key=value; {mend}")
        if key in options:
            raise InputError(f"option {key!r} is given twice in {spec!r}; keep one of them")
        start = equals + 1
        while start < len(text) and text[start] == " ":
            start += 1
        if text[start : start + 1] in _QUOTES and start < len(text):
            options[key], place = _quoted(text, start, key, spec)
        else:
            value = text[equals + 1 : comma]
            options[key], place = value.strip() if strip else value, comma + 1
    return options


def _quoted(text: str, start: int, key: str, spec: str) -> tuple[str, int]:
    """The value in quotes that begins at ``start``, and where the next option begins."""
    quote, value, place = text[start], "", start + 1
    while (end := text.find(quote, place)) >= 0:
        value += text[place:end]
        if text[end + 1 : end + 2] == quote:  # a doubled one
            value, place = value + quote, end + 2
            continue
        behind = text[end + 1 :].partition(",")[0]
        if behind.strip():
            raise InputError(
                f"option {key!r} in {spec!r} continues after its closing quote ({behind.strip()!r}); a quote inside of "
                f"a value in quotes is doubled ({quote}{quote})"
            )
        return value, end + 1 + len(behind) + 1
    raise InputError(f"the value of option {key!r} in {spec!r} begins with {quote} and has no closing one; add it")


def quoted(value: str) -> str:
    """``value`` as it is written in a spec: in quotes where it would be cut or lose something without them."""
    if value != value.strip() or value[:1] in tuple(_QUOTES) or any(sign in value for sign in (",", " + ", "*")):
        return '"' + value.replace('"', '""') + '"'
    return value


def outside_quotes(spec: str) -> str:
    """``spec`` with each value in quotes blanked by as many NUL characters, to look for signs outside of quotes."""
    return _IN_QUOTES.sub(lambda value: "=".ljust(len(value[0]), "\0"), spec)


def weighted_parts(spec: str, single: bool = False) -> list[tuple[str, str]]:
    """The parts of ``A + B*0.5`` with their weights as they are written, "" where there is none.

    Signs in quotes and in paths that are there stand for themselves. ``single``: there is one part only.
    """
    separators = [] if single or path_exists(spec) else [*re.finditer(r" \+ ", outside_quotes(spec))]
    parts, start = [], 0
    for separator in [*separators, None]:
        stop = separator.start() if separator else len(spec)
        part = spec[start:stop]
        weight = None if path_exists(part.strip()) else _WEIGHT.fullmatch(part)
        parts.append((weight[1].strip(), weight[2]) if weight else (part.strip(), ""))
        start = separator.end() if separator else stop
    return parts


def terms_of_sum(spec: str, what: str) -> list[tuple[str, str]]:
    """As :func:`weighted_parts`, of a sum ``A + B*0.5`` of things of a table.

    Raises:
        InputError: a part of the sum is empty.
    """
    parts = weighted_parts(spec)
    if len(parts) > 1 and not all(part for part, _ in parts):
        raise InputError(f"a part of {what} {spec!r} is empty; write A + B*0.5, each with its options")
    return parts


def options_of(factory: Callable[..., Any], supplied: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """The parameters of ``factory`` that a user sets in a spec: all but ``supplied``, which the program passes.

    The fields of a dataclass replace a parameter that is annotated with it.
    """
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if name in set(supplied) or parameter.kind in several:
            continue
        group = _option_group(factory, parameter)
        options |= inspect.signature(group).parameters if group else {name: parameter}
    return options


def _option_group(factory: Callable[..., Any], parameter: inspect.Parameter) -> type | None:
    """The dataclass that a parameter is annotated with, whose fields are options; None for any other parameter."""
    annotation = annotation_of(factory, parameter)
    return annotation if isinstance(annotation, type) and is_dataclass(annotation) else None


def _former_options(factory: Callable[..., Any]) -> dict[str, str]:
    """Renamed options, old name to new one: ``FORMER_OPTIONS`` of a factory and of its dataclasses."""
    parameters = inspect.signature(factory).parameters.values()
    groups = [factory, *(_option_group(factory, parameter) for parameter in parameters)]
    return {old: new for group in groups for old, new in getattr(group, "FORMER_OPTIONS", {}).items()}


@cache
def _warn_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)


def check(
    table: Table, spec: str, what: str = "name", supplied: Iterable[str] = ()
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What ``spec`` names in ``table`` and its options with their types, nothing made yet. As :func:`build`."""
    name, texts = parse(spec)
    factory = table[choose(what, name, table)]
    options, former = options_of(factory, supplied), _former_options(factory)
    values = {}
    for key, text in texts.items():
        if former.get(key) in options:
            _warn_once(f"option {key!r} of {what} {name!r} is {former[key]!r} now; version 0.2 drops the old name")
            key = former[key]
        choose(f"option of {what} {name!r}", key, options)
        values[key] = _convert(text, annotation_of(factory, options[key]), f"option {key!r} of {what} {name!r}")
    missing = [k for k, p in options.items() if p.default is p.empty and k not in values]
    if missing:
        raise InputError(f"{what} {name!r} needs {', '.join(missing)}; write {name}:{missing[0]}=...")
    return factory, values


def build(table: Table, spec: str, what: str = "name", **supplied: Any) -> Any:
    """Make what ``spec`` names in ``table``.

    Args:
        table: names to classes or functions.
        spec: ``"name"`` or ``"name:key=value,key=value"``. Values take the type the parameter is annotated with:
            bool (true/false, yes/no, 1/0), int, float, str, Path, Literal, or several of them (``int | None``, where
            ``none`` is None).
        what: the kind of thing, for error messages ("objective", "encoder", ...).
        supplied: arguments that the program passes. The factory must have a parameter for each, or ``**more``; only
            functions (``texts``, which is called where a vocabulary is learned) may be left out.

    Raises:
        InputError: unknown name or option (the valid ones are listed), a missing one, a value of the wrong type, an
            option whose annotation is none of these types, or a factory without a parameter for what is supplied.
            A ValueError of the factory about a value becomes one too.
    """
    factory, values = check(table, spec, what, supplied)
    parameters = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    passed = {k: v for k, v in supplied.items() if k in parameters or takes_all}
    ignored = [k for k, v in supplied.items() if k not in passed and v is not None and not callable(v)]
    if ignored:
        raise InputError(
            f"{what} {parse(spec)[0]!r} has no parameter {ignored[0]!r}, which the program passes to it, so that "
            f"{ignored[0]} would have no effect; add the parameter to its function"
        )
    try:
        for key, parameter in parameters.items():
            if key not in passed and (group := _option_group(factory, parameter)):
                passed[key] = group(**{k: values.pop(k) for k in inspect.signature(group).parameters if k in values})
        return factory(**values, **passed)
    except InputError:
        raise
    except ValueError as error:  # a value out of range, said by the factory
        raise InputError(f"{what} {spec!r}: {error}") from error


def absolute_paths(table: Table, spec: str) -> str:
    """``spec`` with the paths in it absolute: of options annotated Path or PathUnless that name something here.

    A run's config.json holds them so, and resumes from any folder. A spec that :func:`check` would refuse is returned
    as it is.
    """
    try:
        name, texts = parse(spec)
        options = options_of(table[name])
    except (InputError, KeyError):
        return spec
    if not texts or not texts.keys() <= options.keys() | _former_options(table[name]).keys():
        return spec
    absolute_texts = dict(texts)
    for key, text in texts.items():
        names = _path_unless(annotation_of(table[name], options[key])) if key in options else None
        if names is not None and text not in names:
            absolute_texts[key] = absolute(text)
    if absolute_texts == texts:
        return spec
    return f"{name}:" + ",".join(f"{key}={quoted(text)}" for key, text in absolute_texts.items())


def has_relative_path(spec: str) -> bool:
    """Whether a value in ``spec`` names a file or folder by a path that :func:`absolute_paths` would change."""
    try:
        return any(absolute(text) != text for text in parse(spec)[1].values())
    except InputError:
        return False


def _path_unless(annotation: Any) -> tuple[str, ...] | None:
    """The built-in names that an option takes in addition to paths; None: it takes no path."""
    members = [annotation, *get_args(annotation)]
    marks = [mark for member in members for mark in get_args(member) if isinstance(mark, PathUnless)]
    return marks[0].names if marks else () if Path in members else None


def absolute(path: str) -> str:
    """The absolute path of a file or folder that is there, without links; any other text as it is.

    A link stays one where its target ends differently: the hub's cache keeps files by their digests, and the
    ending says what is in a file.
    """
    if not path_exists(path):
        return path
    straight, resolved = os.path.abspath(os.path.expanduser(path)), os.path.realpath(os.path.expanduser(path))
    return resolved if os.path.splitext(resolved)[1] == os.path.splitext(straight)[1] else straight


def path_exists(path: str) -> bool:
    """Whether a file or folder has this path. (Path.exists complains of names that are too long.)"""
    return path != "" and os.path.exists(os.path.expanduser(path))


def path_suggestion(path: str, built_in: Iterable[str] = ()) -> str:
    """As :func:`suggestion`: a file or folder near the missing part of ``path``, or one of the names ``built_in``."""
    missing = Path(os.path.expanduser(path))
    if os.path.lexists(missing):  # it is not what was asked for, or is a broken link
        return ""
    while not os.path.lexists(missing.parent):
        missing = missing.parent
    candidates = {name: name for name in built_in}
    with suppress(OSError):  # the parent is not a folder, or not readable
        candidates |= {name: str(missing.parent / name) for name in os.listdir(missing.parent)}
    near = difflib.get_close_matches(missing.name, candidates, n=1)
    return f" (did you mean {candidates[near[0]]!r}?)" if near else ""


def shadowing_note(name: str, what: str) -> str | None:
    """A note where the built-in ``name`` is taken and a file or folder of that name is here; else None."""
    return (
        f"{name} is {what}, not the {name} in this folder; write ./{name} for that one" if path_exists(name) else None
    )


def annotation_of(factory: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of a parameter: its annotation, which may be text, else that of its default."""
    kind = parameter.annotation
    if kind is parameter.empty:
        return str if parameter.default in (None, parameter.empty) else type(parameter.default)
    if not isinstance(kind, str):
        return kind
    # As text, under `from __future__ import annotations`; alone, as another may name what only type checkers import.
    function = factory.func if isinstance(factory, partial) else factory
    function = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    names = getattr(inspect.unwrap(function), "__globals__", {})
    alone = types.SimpleNamespace(__annotations__={parameter.name: kind})
    try:
        return get_type_hints(alone, globalns=names, include_extras=True)[parameter.name]
    except (NameError, TypeError, SyntaxError, AttributeError):
        return kind


def _convert(text: str, kind: Any, where: str) -> Any:
    """``text`` as one of the types that ``kind`` allows, the first that it fits."""
    names, tried = [], _members(kind)
    for member in tried:
        try:
            return _CONVERTERS[member](text) if member in _CONVERTERS else _literal(text, member)
        except ValueError:
            names.append(_NAMES[member] if member in _NAMES else f"one of {', '.join(map(repr, get_args(member)))}")
    if not tried:
        raise InputError(
            f"{where} is annotated {kind!r}, which no text can be turned into; annotate it bool, int, float, str, "
            "Path, a Literal of these, or with | None after it"
        )
    raise InputError(f"{where} is {' or '.join(names)}, got {text!r}")


def _members(kind: Any) -> list[Any]:
    """The types that ``kind`` is made of, text last; none if one of them cannot be made from text."""
    several = list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]
    members = [get_args(member)[0] if get_origin(member) is Annotated else member for member in several]
    if not all(get_origin(member) is Literal or member in _CONVERTERS for member in members):
        return []
    return sorted(members, key=lambda member: member in (str, Path))


def _literal(text: str, kind: Any) -> Any:
    for value in get_args(kind):
        if str(value) == text:
            return value
    raise ValueError(text)


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError(text)
    return _BOOLEANS[text.lower()]


def _nothing(text: str) -> None:
    if text.lower() != "none":
        raise ValueError(text)


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CONVERTERS: dict[Any, Callable[[str], Any]] = {
    bool: _boolean,
    int: int,
    float: float,
    str: str,
    Path: Path,
    type(None): _nothing,
}
_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "none",
}
