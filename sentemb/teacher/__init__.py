"""A teacher's embeddings of the training sentences, the targets of a student: computed once and cached.

:mod:`sentemb.teacher.spec` reads ``--teacher``, :mod:`sentemb.teacher.model` embeds, :mod:`sentemb.teacher.embeddings`
keeps the result, :mod:`sentemb.teacher.projection` makes targets of it. Nothing heavy is imported before a name is
asked for.
"""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.teacher.embeddings import EmbeddingSource, TeacherEmbeddings, embed_corpus
    from sentemb.teacher.estimate import BYTES, Estimate, batches_of, seconds_left, size_in_words, time_in_words
    from sentemb.teacher.model import TeacherFolder, TeacherModel
    from sentemb.teacher.projection import ProjectedTeacher, projected
    from sentemb.teacher.selection import distinct_sentences, sentence_runs
    from sentemb.teacher.spec import GuideSpec, TeacherSpec, absolute_teacher, parse_guide, parse_teacher

__all__ = [
    "BYTES",
    "EmbeddingSource",
    "Estimate",
    "GuideSpec",
    "ProjectedTeacher",
    "TeacherEmbeddings",
    "TeacherFolder",
    "TeacherModel",
    "TeacherSpec",
    "absolute_teacher",
    "batches_of",
    "distinct_sentences",
    "embed_corpus",
    "parse_guide",
    "parse_teacher",
    "projected",
    "seconds_left",
    "sentence_runs",
    "size_in_words",
    "time_in_words",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EmbeddingSource": "sentemb.teacher.embeddings",
        "GuideSpec": "sentemb.teacher.spec",
        "ProjectedTeacher": "sentemb.teacher.projection",
        "TeacherEmbeddings": "sentemb.teacher.embeddings",
        "TeacherFolder": "sentemb.teacher.model",
        "TeacherModel": "sentemb.teacher.model",
        "TeacherSpec": "sentemb.teacher.spec",
        "absolute_teacher": "sentemb.teacher.spec",
        "embed_corpus": "sentemb.teacher.embeddings",
        "parse_guide": "sentemb.teacher.spec",
        "parse_teacher": "sentemb.teacher.spec",
        "projected": "sentemb.teacher.projection",
        **dict.fromkeys(("distinct_sentences", "sentence_runs"), "sentemb.teacher.selection"),
        **dict.fromkeys(
            ("BYTES", "Estimate", "batches_of", "seconds_left", "size_in_words", "time_in_words"),
            "sentemb.teacher.estimate",
        ),
    },
)
