"""A teacher's embeddings of the training sentences, computed once and kept in the cache: what a student learns from.

:mod:`sentemb.teacher.spec` reads ``--teacher``, :mod:`sentemb.teacher.model` embeds, :mod:`sentemb.teacher.embeddings`
keeps the result, :mod:`sentemb.teacher.projection` makes targets of it. Nothing heavy is imported before a name is
asked for.
"""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.teacher.embeddings import TeacherEmbeddings, embed_corpus
    from sentemb.teacher.model import TeacherFolder
    from sentemb.teacher.projection import ProjectedTeacher, projected
    from sentemb.teacher.selection import sentence_runs
    from sentemb.teacher.spec import GuideSpec, TeacherSpec, absolute_teacher, parse_guide, parse_teacher

__all__ = [
    "GuideSpec",
    "ProjectedTeacher",
    "TeacherEmbeddings",
    "TeacherFolder",
    "TeacherSpec",
    "absolute_teacher",
    "embed_corpus",
    "parse_guide",
    "parse_teacher",
    "projected",
    "sentence_runs",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "GuideSpec": "sentemb.teacher.spec",
        "ProjectedTeacher": "sentemb.teacher.projection",
        "TeacherEmbeddings": "sentemb.teacher.embeddings",
        "TeacherFolder": "sentemb.teacher.model",
        "TeacherSpec": "sentemb.teacher.spec",
        "absolute_teacher": "sentemb.teacher.spec",
        "embed_corpus": "sentemb.teacher.embeddings",
        "parse_guide": "sentemb.teacher.spec",
        "parse_teacher": "sentemb.teacher.spec",
        "projected": "sentemb.teacher.projection",
        "sentence_runs": "sentemb.teacher.selection",
    },
)
