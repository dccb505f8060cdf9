"""Settings as dataclasses: each field says its default, its help text and its bounds once.

Command lines make their flags of the fields, ``sentemb.train`` takes them as keyword arguments, and
:func:`check_settings` checks their types and bounds. Nothing heavy is imported, so that ``--help`` answers at once.
"""

import math
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, Union, get_args, get_origin

from sentemb.errors import InputError
from sentemb.registry import choose


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str | int] = (),
    may_change: bool = False,
) -> Any:
    """A field of a settings dataclass.

    Args:
        default: its value where the user gives none.
        help: what the value means, with its unit; the text of its flag.
        at_least: the least valid number.
        at_most: the greatest one.
        above: valid numbers are larger than this one.
        below: valid numbers are smaller than this one.
        choices: the valid values; (): any.
        may_change: whether a resumed run may have another value; the others decide its result.
    """
    bounds = {"at_least": at_least, "at_most": at_most, "above": above, "below": below}
    metadata = {"help": help, "choices": tuple(choices), "may_change": may_change, **bounds}
    return field(default=default, metadata=metadata)


def check_settings(settings: Any) -> None:
    """Check each field of a settings dataclass against its type, choices and bounds.

    Raises:
        InputError: a value has another type, is none of the choices or lies outside of the bounds; it names the field.
    """
    for each in fields(settings):
        value, name = getattr(settings, each.name), each.name.replace("_", "-")
        valid = types_of(each)
        if value is None and type(None) in valid:
            continue
        if not _fits(value, valid):
            expected = " or ".join(WORDS[kind] for kind in valid if kind in WORDS)
            raise InputError(f"{name} must be {expected}, got {value!r}")
        choices = each.metadata.get("choices", ())
        if choices and isinstance(value, str):
            choose(name, value, choices)
        elif choices and value not in choices:
            raise InputError(f"{name} must be {' or '.join(map(str, choices))}, got {value}")
        if isinstance(value, int | float):
            _check_bounds(name, value, each)


WORDS: dict[type, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def types_of(each: Field[Any]) -> tuple[type, ...]:
    """The types that a field's annotation allows: ``int | None`` is ``(int, NoneType)``."""
    annotation: Any = each.type
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _fits(value: Any, valid: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in valid
    if isinstance(value, int):
        return int in valid or float in valid
    return isinstance(value, valid)


def _check_bounds(name: str, value: float, each: Field[Any]) -> None:
    names = ("at_least", "at_most", "above", "below")
    at_least, at_most, above, below = (each.metadata.get(bound) for bound in names)
    if at_least is not None and not value >= at_least:
        raise InputError(f"{name} must be at least {at_least}, got {value}")
    if above is not None and not (value > above and math.isfinite(value)):
        raise InputError(f"{name} must be a number above {above}, got {value}")
    if at_most is not None and not value <= at_most:
        raise InputError(f"{name} must be at most {at_most:,}, got {value}")
    if below is not None and not value < below:
        raise InputError(f"{name} must be below {below:,}, got {value}")
    if not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, got {value}")
