"""The one configuration language: ``build(TABLE, "name:key=value,key=value")`` makes the thing named.

A table maps names to classes or functions; the options a name takes are its parameters, with their annotated
types and defaults, so there is nothing else to keep in step with the code.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Table = Mapping[str, Callable[..., Any]]


class InputError(ValueError):
    """Something the user gave cannot be used. Its text is one sentence: what, where, how to mend it.

    Commands print it and exit with code 2; nothing has been written by then.
    """


class Unfinished(InputError):
    """Work that stopped on its way: what was done is kept, and the same command goes on."""


def in_a_line(error: BaseException) -> str:
    """An error's text in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def choose(what: str, given: str, valid: Iterable[str]) -> str:
    """``given`` if it is one of ``valid``; else an InputError that lists them and suggests the nearest."""
    names = sorted(valid)
    if given in names:
        return given
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InputError(f"unknown {what} {given!r}{hint}; valid: {', '.join(names) or 'none'}")


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """``"name:key=value,key=value"`` as a name and its options, still text.

    Raises:
        InputError: an option without ``=``, or given twice.
    """
    name, _, rest = spec.partition(":")
    options: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise InputError(f"option {part!r} in {spec!r} is not key=value; write {name}:key=value,key=value")
        if key in options:
            raise InputError(f"option {key!r} is given twice in {spec!r}; keep one of them")
        options[key] = value
    return name.strip(), options


def options_of(factory: Callable[..., Any], given: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """The parameters of ``factory`` that a user sets in a spec: all but those the program gives."""
    return {k: p for k, p in inspect.signature(factory).parameters.items() if k not in set(given)}


def check(
    table: Table, spec: str, what: str = "name", given: Iterable[str] = ()
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What ``spec`` names in ``table`` and its options with their types, nothing made yet. As :func:`build`."""
    name, texts = parse(spec)
    factory = table[choose(what, name, table)]
    options = options_of(factory, given)
    values = {}
    for key, text in texts.items():
        choose(f"option of {what} {name!r}", key, options)
        values[key] = _convert(text, options[key].annotation, f"option {key!r} of {what} {name!r}")
    missing = [k for k, p in options.items() if p.default is p.empty and k not in values]
    if missing:
        raise InputError(f"{what} {name!r} needs {', '.join(missing)}; write {name}:{missing[0]}=...")
    return factory, values


def build(table: Table, spec: str, what: str = "name", **given: Any) -> Any:
    """Make what ``spec`` names in ``table``.

    Args:
        table: names to classes or functions.
        spec: ``"name"`` or ``"name:key=value,key=value"``. Values take the type the parameter is annotated with:
            bool (true/false, yes/no, 1/0), int, float, str, Path.
        what: the kind of thing, for error messages ("objective", "encoder", ...).
        given: arguments the program supplies, passed on where the factory has a parameter of that name.

    Raises:
        InputError: unknown name or option (the valid ones are listed), a missing one, or a value of the wrong type.
            A ValueError of the factory about a value becomes one too.
    """
    factory, values = check(table, spec, what, given)
    parameters = inspect.signature(factory).parameters
    try:
        return factory(**values, **{k: v for k, v in given.items() if k in parameters})
    except InputError:
        raise
    except ValueError as error:  # a value out of range, said by the factory
        raise InputError(f"{what} {spec!r}: {error}") from error


def _convert(text: str, kind: Any, where: str) -> Any:
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise InputError(f"{where} is true or false, got {text!r}")
        return _BOOLEANS[text.lower()]
    if kind not in (int, float, str, Path):
        return text
    try:
        return kind(text)
    except ValueError:
        article = "a whole number" if kind is int else "a number"
        raise InputError(f"{where} is {article}, got {text!r}") from None


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
