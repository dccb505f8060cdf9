"""The encoders that a run is compared with: what training began with, averaged word embeddings, a teacher."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from sentemb.encoders import ENCODERS, Prompts, Texts, mean_of_word_embeddings, read_model, set_prompts, towers_of
from sentemb.errors import InputError
from sentemb.pipeline.initial_encoder import averaged_name, initial_name
from sentemb.registry import build, parse, quoted
from sentemb.runs import TEACHER, TRAINED, model_name
from sentemb.teacher import TeacherFolder, parse_teacher


@dataclass(frozen=True)
class ComparedEncoder:
    """An encoder that is scored at the end of a run."""

    name: str  # of its row
    role: str  # trained, initial, averaged, teacher, words
    model: SentenceTransformer


def compared_encoders(
    trained: SentenceTransformer,
    initial: SentenceTransformer | None,
    settings: Mapping[str, Any],
    texts: Texts | None = None,
) -> list[ComparedEncoder]:
    """The encoders that are scored at the end of a run, one for each row: first the teacher, if there is one.

    Args:
        trained: the model of the run.
        initial: the one that training began with; None: nothing was trained, and the model is scored alone.
        settings: of the run, as config.json has them.
        texts: of the training documents, whose words a student that was not trained counts; None: there is none.
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
        teacher = teacher_encoder(str(settings["teacher"]), str(trained.device))
    except InputError as error:
        print(f"note: the teacher is not scored: {error}", file=sys.stderr)
        return encoders
    return [teacher, *encoders, *_words_of(teacher, trained, settings, texts)]


def _words_of(
    teacher: ComparedEncoder, trained: SentenceTransformer, settings: Mapping[str, Any], texts: Texts | None
) -> list[ComparedEncoder]:
    """The average of the teacher's embeddings of single words: an untrained student.

    Where the student began as that, the average of the teacher's own word embeddings.
    """
    name = teacher.name.removeprefix("teacher ")
    if "distill" in parse(str(settings.get("encoder") or ""))[1]:
        averaged = mean_of_word_embeddings(teacher.model)
        return [ComparedEncoder(f"averaged embeddings of {name}", "averaged", averaged)]
    if texts is None:
        return []
    dimension = min(int(model.get_embedding_dimension() or 1) for model in (trained, teacher.model))
    spec = f"static:distill={quoted(parse_teacher(str(settings['teacher'])).name)},dim={dimension}"
    try:
        words = build(ENCODERS, spec, "encoder", texts=texts, max_length=int(settings.get("max_length", 40)))
    except InputError as error:  # it is not a transformer
        print(f"note: the teacher's single words are not scored: {error}", file=sys.stderr)
        return []
    return [ComparedEncoder(f"static distilled {name} embeddings", "words", words.to(trained.device))]


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
