"""Flags out of settings: each field of a settings class is one, with its help, type and default."""

import argparse
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from sentemb.pipeline import STORED, RunSettings
from sentemb.program import command_parser
from sentemb.settings import types_of


def parser(description: str | None, defaults: Mapping[str, Any]) -> argparse.ArgumentParser:
    """A recipe's flags; only what is given is set.

    Args:
        description: what ``--help`` begins with.
        defaults: the recipe's own, by name of the setting; the others are those of the settings classes.
    """
    made = command_parser(description, argument_default=argparse.SUPPRESS)
    for kind in (RunSettings, *STORED):
        title = (kind.__doc__ or "").partition("\n")[0].partition(".")[0].lower()
        group = made.add_argument_group(title)
        if kind is RunSettings:
            text = "settings of a paper's model, by a name in recipes/presets.toml; other flags override them"
            group.add_argument("--preset", help=text)
            text = "import this script first; it adds an objective, an encoder or a kind of pairs to its table"
            group.add_argument("--import", dest="imports", action="append", metavar="FILE.py", help=text)
        for each in fields(kind):
            if each.metadata.get("help"):
                add_flag(group, each, defaults.get(each.name, each.default))
    return made


def add_flag(group: Any, each: Field[Any], default: Any) -> None:
    """The flag of a setting, on a parser or a group of its flags."""
    flag = f"--{each.name.replace('_', '-')}"
    shown = "" if default is None or isinstance(default, bool) else f" (default {default})"
    text = (each.metadata["help"] + shown).replace("%", "%%")
    kinds = types_of(each)
    if bool in kinds:
        action = argparse.BooleanOptionalAction if default is True else "store_true"
        group.add_argument(flag, help=text, action=action)
        return
    kind = next(kind for kind in (int, float, Path, str) if kind in kinds)
    group.add_argument(flag, help=text, type=kind)
