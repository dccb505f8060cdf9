"""Studies: many encoders trained and scored alike, their table, statistics, figures and page."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from recipes.study.choices import TRIALS, trials_of, with_choices
    from recipes.study.conclusion import conclude
    from recipes.study.plan import STUDY, EncoderSpec, Study, StudyFolder, read_study, shipped
    from recipes.study.run import Processes, prepare, refuse_others, run_all, with_starts

__all__ = [
    "STUDY",
    "TRIALS",
    "EncoderSpec",
    "Processes",
    "StudyFolder",
    "Study",
    "conclude",
    "prepare",
    "read_study",
    "refuse_others",
    "run_all",
    "shipped",
    "trials_of",
    "with_choices",
    "with_starts",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "conclude": "recipes.study.conclusion",
        **dict.fromkeys(("TRIALS", "trials_of", "with_choices"), "recipes.study.choices"),
        "EncoderSpec": "recipes.study.plan",
        "StudyFolder": "recipes.study.plan",
        "STUDY": "recipes.study.plan",
        "Study": "recipes.study.plan",
        "read_study": "recipes.study.plan",
        "shipped": "recipes.study.plan",
        "Processes": "recipes.study.run",
        "prepare": "recipes.study.run",
        "refuse_others": "recipes.study.run",
        "run_all": "recipes.study.run",
        "with_starts": "recipes.study.run",
    },
)
