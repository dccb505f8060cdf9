"""Studies: many encoders trained and scored alike, their table, statistics, figures and page."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from recipes.study.conclusion import conclude
    from recipes.study.plan import STUDY, Study, StudyFolder, read_study, shipped
    from recipes.study.run import Processes, prepare, refuse_others, run_all

__all__ = [
    "STUDY",
    "Processes",
    "StudyFolder",
    "Study",
    "conclude",
    "prepare",
    "read_study",
    "refuse_others",
    "run_all",
    "shipped",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "conclude": "recipes.study.conclusion",
        "StudyFolder": "recipes.study.plan",
        "STUDY": "recipes.study.plan",
        "Study": "recipes.study.plan",
        "read_study": "recipes.study.plan",
        "shipped": "recipes.study.plan",
        "Processes": "recipes.study.run",
        "prepare": "recipes.study.run",
        "refuse_others": "recipes.study.run",
        "run_all": "recipes.study.run",
    },
)
