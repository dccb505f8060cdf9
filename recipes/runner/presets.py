"""Settings of papers' rows, by name: recipes/presets.toml."""

import tomllib
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.registry import choose

PRESETS = Path(__file__).parents[1] / "presets.toml"


def presets() -> dict[str, dict[str, Any]]:
    """All presets, by name."""
    return tomllib.loads(PRESETS.read_text(encoding="utf-8"))


def with_preset(options: dict[str, Any], recipe: str) -> dict[str, Any]:
    """The options with those of ``--preset`` under them.

    Raises:
        InputError: an unknown preset, or one of another recipe.
    """
    name = options.pop("preset", None)
    if name is None:
        return options
    presets_by_name = presets()
    preset = dict(presets_by_name[choose("preset", name, presets_by_name)])
    if (owner := preset.pop("recipe")) != recipe:
        raise InputError(f"preset {name} is for recipes/{owner}.py; run that recipe, or choose another preset")
    if "init" in options:
        preset.pop("encoder", None)
    return preset | options
