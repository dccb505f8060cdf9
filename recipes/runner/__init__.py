"""What the recipes share: command line, flags, presets, final scores. The stages are in sentemb.pipeline."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from recipes.runner.command_line import Options, command, import_file
    from recipes.runner.early_checks import check_specs_early
    from recipes.runner.evaluation import (
        RunSearch,
        print_scores,
        read_search,
        read_tasks,
        with_available_data,
    )
    from recipes.runner.flags import add_flag, parser
    from recipes.runner.option_names import names_by_option
    from recipes.runner.settings import RecipeSettings, check_tasks

__all__ = [
    "Options",
    "RecipeSettings",
    "RunSearch",
    "add_flag",
    "check_specs_early",
    "check_tasks",
    "command",
    "import_file",
    "names_by_option",
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
        "check_specs_early": "recipes.runner.early_checks",
        "check_tasks": "recipes.runner.settings",
        **dict.fromkeys(
            ("RunSearch", "print_scores", "read_search", "read_tasks", "with_available_data"),
            "recipes.runner.evaluation",
        ),
        "add_flag": "recipes.runner.flags",
        "parser": "recipes.runner.flags",
        "names_by_option": "recipes.runner.option_names",
        "RecipeSettings": "recipes.runner.settings",
    },
)
