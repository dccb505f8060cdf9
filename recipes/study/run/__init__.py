"""A study's encoders in processes side by side: scheduled, trained, measured."""

from recipes.study.run.scheduler import prepare, refuse_others, run_all

__all__ = [
    "prepare",
    "refuse_others",
    "run_all",
]
