"""The teacher and the guide of a run: embeddings of the training sentences, and what config.json says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentemb.corpus import Corpus
from sentemb.encoders import Prompts
from sentemb.errors import InputError
from sentemb.objectives import GuideMargin, Objective
from sentemb.pairs import Pairs
from sentemb.pipeline.processes import precision_of
from sentemb.pipeline.settings import ComputeSettings, DataSettings, EncoderSettings
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


@dataclass(frozen=True)
class ChosenTeacher:
    """The model whose embeddings of the training sentences a run learns."""

    spec: TeacherSpec
    is_start: bool = False  # the model that training begins from, which the objective anchor holds it near


def chosen_teacher(
    objective: Objective | None,
    data: DataSettings,
    encoder: EncoderSettings,
    has_head: bool,
    prompts: Prompts,
    towers: int,
) -> ChosenTeacher | None:
    """The teacher of a run: that of ``--teacher``, or the start where the objective has an anchor; None: there is none.

    Args:
        objective: what is learned; None: that is not known yet.
        data: ``--teacher``. encoder: ``--init``.
        has_head: whether the objective sees the embeddings through a head.
        prompts: of the model. towers: how many it has.

    Raises:
        InputError: the objective does not use the teacher, nothing is to be learned from it, or there is no start
            that an anchor could be compared with.
    """
    if objective is not None and has_anchor(objective, data, encoder, has_head):
        if towers > encoder.towers:
            raise InputError(f"objective anchor needs a start of one tower, and {encoder.init} has two; leave it out")
        if not prompts.alike:
            raise InputError(
                "objective anchor embeds each sentence with one prompt, and the two sides of a pair have different "
                "ones; give both sides one prompt, or leave anchor out"
            )
        return ChosenTeacher(TeacherSpec(str(encoder.init), prompt=prompts.anchor), is_start=True)
    if data.teacher is None:
        return None
    if objective is not None:
        refuse_no_use_of_teacher(objective)
        refuse_teacher_as_student(data.teacher, encoder.init, objective)
    return ChosenTeacher(parse_teacher(data.teacher))


def has_anchor(objective: Objective, data: DataSettings, encoder: EncoderSettings, has_head: bool) -> bool:
    """Whether a part of the objective holds the model near the start (``anchor``).

    Raises:
        InputError: it does, and there is no ``--init``, another teacher, a head, or nothing else to learn.
    """
    terms = objective.terms()
    if not any(term.teacher_is_start for term in terms):
        return False
    if all(term.teacher_is_start for term in terms):
        raise InputError(
            "objective anchor keeps the model where it starts, so alone it learns nothing; add another objective "
            "(infonce + anchor*0.1)"
        )
    if encoder.init is None:
        raise InputError(
            "objective anchor keeps the model near the finished one that training starts from; name that as init "
            "(--init minilm, a folder or a hub name) instead of an encoder"
        )
    if data.teacher is not None or any("teacher" in term.needs and not term.teacher_is_start for term in terms):
        raise InputError(
            "objective anchor has the start of training as its teacher, and a run has one teacher; leave anchor out, "
            "or the other teacher and the objectives that learn from it"
        )
    if has_head:
        raise InputError(
            "objective anchor compares the model's embeddings with the start's, and a head would change them; leave "
            "the head out"
        )
    return True


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


def refuse_unused_guide(data: DataSettings, objective: Objective, pairs: Pairs) -> None:
    """InputError if there is a guide, and nothing that it could leave out."""
    if data.guide is not None:
        refuse_useless_guide(objective, pairs, margin_of(data))


def reference_of(
    teacher: ChosenTeacher,
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
        TeacherFolder(teacher.spec),
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
    teacher: ChosenTeacher | None,
    data: DataSettings,
    compute: ComputeSettings,
    corpus: Corpus,
    ranges: NDArray[Any],
    device: torch.device,
    begun: Mapping[str, Any],
) -> tuple[TrainingData, dict[str, Any] | None, dict[str, Any] | None]:
    """Training data with the teacher's and the guide's embeddings, and what config.json gets of both; None: no such.

    Arguments and errors: see :func:`embed_by_teacher`. Data that another run has prepared may come with its teacher.
    """
    for role, chosen in (("a teacher", teacher), ("a guide", data.guide)):
        if chosen is not None:  # (before hours of work)
            training.pairs.refuse_passages(role)
    about_teacher = about_guide = embeddings = guide = None
    if teacher is not None:
        embeddings, about_teacher = embed_by_teacher(teacher, data, compute, corpus, ranges, device, begun)
    if data.guide is not None:
        guide, about_guide = embed_by_guide(data, compute, corpus, ranges, device, begun)
    if embeddings is not training.teacher or guide is not training.guide:
        training = replace(training, teacher=embeddings, guide=guide)
    return training, about_teacher, about_guide


def embed_by_teacher(
    teacher: ChosenTeacher,
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
        InputError: the teacher cannot be used, or is not the one that the run was started with.
    """
    folder = TeacherFolder(teacher.spec)
    precision = _precision(folder, compute, begun)
    bf16, learned_from = precision == "bf16", not teacher.is_start  # (no map to the start's embeddings is learned)
    embeddings = projected(
        embed_corpus(folder, corpus, ranges, data.max_length, device, bf16, learned_from), folder.spec
    )
    return embeddings, _about(folder, precision, embeddings) | {"is_start": teacher.is_start}


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
    """The precision of a model's embeddings, as at the start of the run; InputError if that was another model."""
    before, fingerprint = as_dict(begun.get(folder.role)), folder.fingerprint_of_output
    if before.get("fingerprint", fingerprint) != fingerprint:
        raise InputError(
            f"the run was started with another {folder.role} of the name {folder.spec.name} (fingerprint "
            f"{before['fingerprint']}, now {fingerprint}); put the former model back, or begin a new run"
        )
    return str(before.get("precision") or precision_of(compute, folder.is_transformer))


def _about(folder: TeacherFolder, precision: str, embeddings: TeacherEmbeddings | ProjectedTeacher) -> dict[str, Any]:
    """The entry of config.json about embeddings."""
    about = {"fingerprint": folder.fingerprint_of_output, "precision": precision, "dimension": embeddings.dimension}
    return about | {"sentences": len(embeddings)}
