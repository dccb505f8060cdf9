"""What the recipes share: command line, flags, presets, final scores. The stages are in sentemb.pipeline."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from recipes.runner.command_line import Options, command, import_file
    from recipes.runner.evaluation import (
        RunSearch,
        print_scores,
        read_search,
        read_tasks,
        with_available_data,
    )
    from recipes.runner.flags import parser
    from recipes.runner.settings import RecipeSettings, check_tasks

__all__ = [
    "Options",
    "RecipeSettings",
    "RunSearch",
    "check_tasks",
    "command",
    "import_file",
    "parser",
    "print_scores",
    "read_search",
    "read_tasks",
    "with_available_data",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Options": "recipes.runner.command_line",
        "command": "recipes.runner.command_line",
        "import_file": "recipes.runner.command_line",
        "check_tasks": "recipes.runner.settings",
        **dict.fromkeys(
            ("RunSearch", "print_scores", "read_search", "read_tasks", "with_available_data"),
            "recipes.runner.evaluation",
        ),
        "parser": "recipes.runner.flags",
        "RecipeSettings": "recipes.runner.settings",
    },
)
