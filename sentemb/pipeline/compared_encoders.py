"""The encoders that a run is scored beside: what training began with, averaged word embeddings, a teacher."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from sentemb.encoders import Prompts, mean_of_word_embeddings, read_model, set_prompts, towers_of
from sentemb.errors import InputError
from sentemb.pipeline.initial_encoder import averaged_name, initial_name
from sentemb.runs import TEACHER, TRAINED, model_name
from sentemb.teacher import TeacherFolder, parse_teacher


@dataclass(frozen=True)
class ComparedEncoder:
    """An encoder that is scored at the end of a run."""

    name: str  # of its row
    role: str  # trained, initial, averaged, teacher
    model: SentenceTransformer


def compared_encoders(
    trained: SentenceTransformer, initial: SentenceTransformer | None, settings: Mapping[str, Any]
) -> list[ComparedEncoder]:
    """What is scored at the end of a run, a row each: first the teacher, if there is one.

    Args:
        trained: the model of the run.
        initial: the one that training began with; None: nothing was trained, and the model is scored alone.
        settings: of the run, as config.json has them.
    """
    if initial is None:
        return [ComparedEncoder(TRAINED, "trained", trained)]
    encoders = [
        ComparedEncoder(initial_name(settings), "initial", initial),
        ComparedEncoder(TRAINED, "trained", trained),
    ]
    if not isinstance(towers_of(trained)[0][0], StaticEmbedding):  # before training it is that average
        encoders.append(ComparedEncoder(averaged_name(settings), "averaged", mean_of_word_embeddings(initial)))
    if settings.get("teacher") is None:
        return encoders
    try:
        return [teacher_encoder(str(settings["teacher"]), str(trained.device)), *encoders]
    except InputError as error:
        print(f"note: the teacher is not scored: {error}", file=sys.stderr)
        return encoders


def teacher_encoder(spec: str, device: str) -> ComparedEncoder:
    """The teacher of a spec as an encoder: its plain output, also where the student learned from its layers.

    Raises:
        InputError: it cannot be read.
    """
    teacher = parse_teacher(spec)
    model = read_model(TeacherFolder(teacher).path, device)
    if teacher.prompt is not None:
        set_prompts(model, Prompts(teacher.prompt, teacher.prompt))
    return ComparedEncoder(f"teacher {model_name(teacher.name)}", TEACHER, model)
