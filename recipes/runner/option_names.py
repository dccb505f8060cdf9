"""The names that options of the recipes take, for shell completion."""

from dataclasses import fields

from recipes.runner.early_checks import OPTIONS
from recipes.runner.presets import presets
from sentemb.pairs import PAIRS
from sentemb.pipeline import STORED


def names_by_option() -> dict[str, list[str]]:
    """The names of each option that takes one: choices of settings, rows of tables, presets."""
    settings = [each for kind in STORED for each in fields(kind) if each.metadata.get("choices")]
    names = {
        f"--{each.name.replace('_', '-')}": [str(value) for value in each.metadata["choices"]] for each in settings
    }
    names |= {f"--{what}": sorted(rows) for what, rows in OPTIONS.items()}
    return names | {"--pairs": sorted(PAIRS), "--preset": sorted(presets())}
