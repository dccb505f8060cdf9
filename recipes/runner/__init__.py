"""What all recipes share: settings, command line, what is built from them, the pipeline, resuming, final scores."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from recipes.runner.build import check_settings, make_model
    from recipes.runner.cli import command
    from recipes.runner.final_scores import selected
    from recipes.runner.pipeline import run, save_trained_model
    from recipes.runner.settings import DEFAULTS

__all__ = [
    "DEFAULTS",
    "check_settings",
    "command",
    "make_model",
    "run",
    "save_trained_model",
    "selected",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "check_settings": "recipes.runner.build",
        "make_model": "recipes.runner.build",
        "command": "recipes.runner.cli",
        "selected": "recipes.runner.final_scores",
        "run": "recipes.runner.pipeline",
        "save_trained_model": "recipes.runner.pipeline",
        "DEFAULTS": "recipes.runner.settings",
    },
)
