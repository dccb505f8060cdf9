"""The teacher of a run: its embeddings of the training sentences, and what config.json says of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentemb.corpus import Corpus
from sentemb.errors import InputError
from sentemb.objectives import Objective
from sentemb.pipeline.processes import precision_of
from sentemb.pipeline.settings import ComputeSettings, DataSettings
from sentemb.runs import as_dict
from sentemb.teacher import (
    ProjectedTeacher,
    TeacherEmbeddings,
    TeacherFolder,
    TeacherSpec,
    embed_corpus,
    parse_teacher,
    projected,
)
from sentemb.validation import HeldOutPairs, TeacherReference


def refuse_no_use_of_teacher(objective: Objective) -> None:
    """InputError if an objective does not learn from a teacher."""
    if "teacher" not in objective.needs | objective.takes:
        raise InputError(
            "--teacher is for objectives that learn from one, and this one does not; choose distill or "
            "distill_similarity, or leave --teacher out"
        )


def refuse_teacher_as_student(teacher: str, student: str | None, objective: Objective) -> None:
    """InputError if training begins from the teacher, and the objective asks for nothing but its output.

    Args:
        teacher: its spec. student: the model to begin from (``--init``); None: none.
        objective: what is learned.
    """
    spec = parse_teacher(teacher)
    if student is None or spec.uses_hidden_states or not all("teacher" in each.needs for each in objective.terms()):
        return
    if TeacherFolder(TeacherSpec(student)).fingerprint == TeacherFolder(spec).fingerprint:
        raise InputError(
            f"--init {student} is the teacher itself, so there is nothing to learn from it; begin from a smaller "
            "--encoder, add another objective (distill + infonce), or name layers of the teacher"
        )


def reference_of(
    data: DataSettings,
    corpus: Corpus,
    pairs: HeldOutPairs,
    device: torch.device,
    about: Mapping[str, Any],
    targets: object,
) -> TeacherReference | None:
    """The teacher's embeddings of the distinct first sentences of held-out pairs; None where their rows are unknown.

    ``about``: what config.json gets of the teacher. ``targets``: what is learned, a projection of them maybe.
    """
    if pairs.rows is None:
        return None
    _, places = np.unique(pairs.first, return_index=True)
    rows = pairs.rows[places]
    embeddings = embed_corpus(
        TeacherFolder(parse_teacher(str(data.teacher))),
        corpus,
        np.stack([rows, rows + 1], axis=1),
        data.max_length,
        device,
        about["precision"] == "bf16",
        learned_from=False,
    )
    sentences, plain = [pairs.first[place] for place in places], embeddings.rows(rows)
    return TeacherReference(
        sentences, plain, targets.transform(plain) if isinstance(targets, ProjectedTeacher) else None
    )


def embed_by_teacher(
    data: DataSettings,
    compute: ComputeSettings,
    corpus: Corpus,
    ranges: NDArray[Any],
    device: torch.device,
    begun: Mapping[str, Any],
) -> tuple[TeacherEmbeddings | ProjectedTeacher, dict[str, Any]]:
    """The teacher's embeddings of the sentences of these ranges of rows, and what config.json gets of them.

    They are computed in the precision of the settings; where that is "auto", in bfloat16 if the teacher is a
    transformer and the processor has it, and in a continued run as they were when it was begun (``begun``: what its
    config.json holds).

    Raises:
        InputError: the teacher cannot be used, or is not the one that the run was begun with.
    """
    folder = TeacherFolder(parse_teacher(str(data.teacher)))
    before = as_dict(begun.get("teacher"))
    fingerprint = folder.fingerprint_of_output
    if before.get("fingerprint", fingerprint) != fingerprint:
        raise InputError(
            f"the run was begun with another teacher of the name {data.teacher} (fingerprint {before['fingerprint']}, "
            f"now {fingerprint}); put the former model back, or begin a new run"
        )
    precision = str(before.get("precision") or precision_of(compute, folder.is_transformer))
    embeddings = projected(
        embed_corpus(folder, corpus, ranges, data.max_length, device, precision == "bf16"), folder.spec
    )
    about = {"fingerprint": fingerprint, "precision": precision, "dimension": embeddings.dimension}
    return embeddings, about | {"sentences": len(embeddings)}
