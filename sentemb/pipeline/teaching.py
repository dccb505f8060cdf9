"""The teacher of a run: its embeddings of the training sentences, and what config.json says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentemb.corpus import Corpus
from sentemb.encoders import Prompts
from sentemb.errors import InputError
from sentemb.objectives import Objective
from sentemb.pipeline.processes import precision_of
from sentemb.pipeline.settings import ComputeSettings, DataSettings, EncoderSettings
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


@dataclass(frozen=True)
class ChosenTeacher:
    """Whose embeddings of the training sentences a run learns from."""

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
        InputError: the objective makes no use of the teacher, nothing is to be learned from it, or there is no start
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
            "objective anchor holds the model where it begins, so alone it teaches nothing; add another objective "
            "(infonce + anchor*0.1)"
        )
    if encoder.init is None:
        raise InputError(
            "objective anchor holds the model near the finished one that training begins from; name that as init "
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
        InputError: the teacher cannot be used, or is not the one that the run was begun with.
    """
    folder = TeacherFolder(teacher.spec)
    before = as_dict(begun.get("teacher"))
    fingerprint = folder.fingerprint_of_output
    if before.get("fingerprint", fingerprint) != fingerprint:
        raise InputError(
            f"the run was begun with another teacher of the name {teacher.spec.name} (fingerprint "
            f"{before['fingerprint']}, now {fingerprint}); put the former model back, or begin a new run"
        )
    precision = str(before.get("precision") or precision_of(compute, folder.is_transformer))
    bf16, learned_from = precision == "bf16", not teacher.is_start  # (no map to the start's embeddings is learned)
    embeddings = projected(
        embed_corpus(folder, corpus, ranges, data.max_length, device, bf16, learned_from), folder.spec
    )
    about = {"fingerprint": fingerprint, "precision": precision, "dimension": embeddings.dimension}
    return embeddings, about | {"sentences": len(embeddings), "is_start": teacher.is_start}
