"""A study's encoders in processes side by side: scheduled, trained, measured."""

from recipes.study.run.scheduler import Processes, prepare, refuse_others, run_all, with_starts

__all__ = [
    "Processes",
    "prepare",
    "refuse_others",
    "run_all",
    "with_starts",
]
