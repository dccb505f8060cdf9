"""The teacher and the guide of a run: embeddings of the training sentences, and what config.json says of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentemb.corpus import Corpus
from sentemb.errors import InputError
from sentemb.objectives import GuideMargin, Objective
from sentemb.pairs import Pairs
from sentemb.pipeline.processes import precision_of
from sentemb.pipeline.settings import ComputeSettings, DataSettings
from sentemb.runs import as_dict
from sentemb.teacher import (
    ProjectedTeacher,
    TeacherEmbeddings,
    TeacherFolder,
    TeacherSpec,
    embed_corpus,
    parse_guide,
    parse_teacher,
    projected,
)
from sentemb.training import Guide, TrainingData, refuse_useless_guide
from sentemb.validation import HeldOutPairs, TeacherReference


def refuse_useless_models(data: DataSettings, student: str | None, objective: Objective, pairs: Pairs) -> None:
    """InputError if nothing would be learned from the teacher, or nothing left out by the guide.

    Args:
        data: which ones, if any.
        student: the model to begin from (``--init``); None: none.
        objective: what is learned.
        pairs: what is learned from.
    """
    if data.teacher is not None:
        _refuse_no_use_of_teacher(objective)
        _refuse_teacher_as_student(data.teacher, student, objective)
    if data.guide is not None:
        refuse_useless_guide(objective, pairs, margin_of(data))


def _refuse_no_use_of_teacher(objective: Objective) -> None:
    """InputError if an objective does not learn from a teacher."""
    if "teacher" not in objective.needs | objective.takes:
        raise InputError(
            "--teacher is for objectives that learn from one, and this one does not; choose distill or "
            "distill_similarity, or leave --teacher out"
        )


def _refuse_teacher_as_student(teacher: str, student: str | None, objective: Objective) -> None:
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


def with_embeddings(
    training: TrainingData,
    data: DataSettings,
    compute: ComputeSettings,
    corpus: Corpus,
    ranges: NDArray[Any],
    device: torch.device,
    begun: Mapping[str, Any],
) -> tuple[TrainingData, dict[str, Any] | None, dict[str, Any] | None]:
    """Training data with the teacher's and the guide's embeddings, and what config.json gets of both; None: no such.

    Arguments and errors as of :func:`embed_by_teacher`.
    """
    teacher = guide = None
    if data.teacher is not None:
        embeddings, teacher = embed_by_teacher(data, compute, corpus, ranges, device, begun)
        training = replace(training, teacher=embeddings)
    if data.guide is not None:
        chosen, guide = embed_by_guide(data, compute, corpus, ranges, device, begun)
        training = replace(training, guide=chosen)
    return training, teacher, guide


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
    precision = _precision(folder, compute, begun)
    embeddings = projected(
        embed_corpus(folder, corpus, ranges, data.max_length, device, precision == "bf16"), folder.spec
    )
    return embeddings, _about(folder, precision, embeddings)


def margin_of(data: DataSettings) -> GuideMargin:
    """How near candidates may come by the settings.

    Raises:
        InputError: a margin outside of its bounds.
    """
    spec = parse_guide(str(data.guide))
    try:
        return GuideMargin(spec.margin, spec.relative_margin)
    except ValueError as error:
        raise InputError(f"--guide {data.guide}: {error}") from error


def embed_by_guide(
    data: DataSettings,
    compute: ComputeSettings,
    corpus: Corpus,
    ranges: NDArray[Any],
    device: torch.device,
    begun: Mapping[str, Any],
) -> tuple[Guide, dict[str, Any]]:
    """As :func:`embed_by_teacher`, of the guide: any number of sentences will do, as nothing is learned from them."""
    folder = TeacherFolder(parse_guide(str(data.guide)).model, "guide")
    precision = _precision(folder, compute, begun)
    bf16 = precision == "bf16"
    embeddings = embed_corpus(folder, corpus, ranges, data.max_length, device, bf16, learned_from=False)
    return Guide(embeddings, margin_of(data)), _about(folder, precision, embeddings)


def _precision(folder: TeacherFolder, compute: ComputeSettings, begun: Mapping[str, Any]) -> str:
    """What a model's embeddings are computed in: as where the run was begun; InputError if that was another model."""
    before, fingerprint = as_dict(begun.get(folder.role)), folder.fingerprint_of_output
    if before.get("fingerprint", fingerprint) != fingerprint:
        raise InputError(
            f"the run was begun with another {folder.role} of the name {folder.spec.name} (fingerprint "
            f"{before['fingerprint']}, now {fingerprint}); put the former model back, or begin a new run"
        )
    return str(before.get("precision") or precision_of(compute, folder.is_transformer))


def _about(folder: TeacherFolder, precision: str, embeddings: TeacherEmbeddings | ProjectedTeacher) -> dict[str, Any]:
    """What config.json gets of embeddings."""
    about = {"fingerprint": folder.fingerprint_of_output, "precision": precision, "dimension": embeddings.dimension}
    return about | {"sentences": len(embeddings)}
