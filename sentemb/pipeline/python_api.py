"""Training from Python: ``sentemb.train``."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import towers_of
from sentemb.errors import InputError
from sentemb.objectives import FunctionObjective, Objective, as_objective, name_of
from sentemb.pipeline.experiment import Experiment
from sentemb.pipeline.model import trains_transformer
from sentemb.pipeline.settings import (
    ComputeSettings,
    DataSettings,
    EncoderSettings,
    EvaluationSettings,
    ObjectiveSettings,
    PairSettings,
    RunSettings,
    default_settings,
    pick,
)
from sentemb.pipeline.settings_of_run import OBJECT_PREFIX, absolute_settings, refuse_used, resumed_settings
from sentemb.pipeline.specs import check_specs
from sentemb.pipeline.trained_run import TrainedRun
from sentemb.training import TrainingSettings
from sentemb.validation import DevScore

SCORING = {"tasks", "data", "score"}  # settings of the recipes that need the eval package


def train(
    corpus: Any = None,
    encoder: str | SentenceTransformer | None = None,
    objective: str | nn.Module | Callable[..., Any] | None = None,
    pairs: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    dev: Callable[[SentenceTransformer], float] | DevScore | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train an encoder of sentences.

        run = sentemb.train("books/", encoder="transformer:name=minilm", objective="infonce:temperature=0.05")
        run.model.encode(["A sentence."])

    In one process, or in all processes of ``accelerate launch``. KeyboardInterrupt (a notebook's stop button) saves
    after the update at hand and returns the run so far; ``resume=True`` goes on with it. Random states of the caller
    are as before when it returns.

    Args:
        corpus: a spec as ``--corpus`` takes it (a path, ``sample``, ...); a list of texts, of documents or of pairs; a
            ``datasets.Dataset``; or an opened Corpus. Default: sample, the built-in one.
        encoder: a spec (``rnn``, ``static:...``, ``transformer:name=...``), or a SentenceTransformer, which is trained
            in place. Default: rnn. ``init=`` names a finished model to begin from instead.
        objective: a spec (``infonce:temperature=0.05``), an :class:`sentemb.objectives.Objective`, or a module or
            function of two views ``[n, d]`` that returns the loss. Default: infonce.
        pairs: what belongs together: ``neighbours``, ``dropout``, ``contiguous``, ``augment:...``. Default: neighbours,
            and of pairs or labelled rows those.
        out: the run folder, new; None: a temporary one, which ``folder`` of the result names.
        resume: continue the run in ``out``, if there is one. Objects are given again; their classes and settings are
            compared with those that the run was begun with.
        dev: the score by which the best model is chosen (``select="best"``): a function of the model, higher is better.
            Default: MRR of held-out pairs.
        **settings: by the names of the recipes' flags: ``max_steps``, ``batch_size``, ``lr``, ``head``, ``init``,
            ``max_length``, ``clean``, ... (:mod:`sentemb.pipeline.settings`).

    Returns:
        The run: ``model``, ``log``, ``scores``, ``folder``, ``report()``.

    Raises:
        InputError: something that was given cannot be used; one sentence says what, and nothing has been written.
        FloatingPointError: the training diverged.
        TrainingFailed: the disk or the memory is full, or another process has died.
    """
    opened = corpus if isinstance(corpus, Corpus) else None
    if corpus is not None and not isinstance(corpus, str | Path | Corpus):
        opened = open_corpus(corpus)
    custom_encoder = encoder if isinstance(encoder, SentenceTransformer) else None
    if encoder is not None and not isinstance(encoder, str | SentenceTransformer):
        raise InputError(f"the encoder is a {type(encoder).__name__}; give a spec or a SentenceTransformer")
    custom_objective = None if objective is None or isinstance(objective, str) else as_objective(objective)
    if pairs is None and opened is not None and opened.labelled:
        pairs = "labelled"
    specs: dict[str, Any] = {
        "corpus": _description_of_corpus(opened) if opened else None if corpus is None else str(corpus),
        "encoder": _description_of_encoder(custom_encoder) if custom_encoder else encoder,
        "objective": _description_of_objective(custom_objective) if custom_objective else objective,
        "pairs": pairs,
    }
    dev_score = DevScore.of(dev) if dev is not None and not isinstance(dev, DevScore) else dev
    specs["dev"] = dev_score.spec if dev_score else None
    options = {name: value for name, value in specs.items() if value is not None} | _checked(settings)
    folder = Path(out) if out is not None else None
    if resume and folder is None:
        raise InputError("resume=True continues the run in a folder; give it as out=")
    if folder is not None and not resume:
        refuse_used(folder)
    defaults = default_settings() | {"dev": "heldout", "score": False}
    chosen = resumed_settings(absolute_settings(options), defaults, folder, resume)
    for name, instance in (
        ("corpus", opened),
        ("encoder", custom_encoder),
        ("objective", custom_objective),
        ("dev", dev_score),
    ):
        if instance is None and (
            str(chosen[name]).startswith(OBJECT_PREFIX) or (name, chosen[name]) == ("dev", "stsb")
        ):
            raise InputError(f"{out} was begun with {name} {chosen[name]}; give the same as {name}= to resume it")

    data, encoder_settings = pick(DataSettings, chosen), pick(EncoderSettings, chosen)
    pair_settings, objective_settings = pick(PairSettings, chosen), pick(ObjectiveSettings, chosen)
    evaluation = pick(EvaluationSettings, chosen | {"dev": "heldout"})  # (which dev is in its place says dev_score)
    spec_encoder = replace(encoder_settings, encoder="rnn") if custom_encoder else encoder_settings
    check_specs(data, spec_encoder, pair_settings, None if custom_objective else objective_settings)
    transformer = trains_transformer(encoder_settings) if custom_encoder is None else _is_transformer(custom_encoder)
    run, training, compute = RunSettings(folder, resume), pick(TrainingSettings, chosen), pick(ComputeSettings, chosen)
    with Experiment("train", run, training, compute, transformer) as experiment:
        text = experiment.open_corpus(data, opened)
        model = experiment.make_encoder(encoder_settings, text, custom_encoder)
        positives = experiment.make_pairs(pair_settings, text, model)
        loss = experiment.make_objective(objective_settings, custom_objective)
        return experiment.train(text, model, positives, loss, evaluation, dev_score)


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, if all of them have names that there are."""
    named = {"corpus", "encoder", "objective", "pairs", "dev"}  # arguments of their own
    valid = sorted(set(default_settings()) - named - SCORING)
    for name in settings:
        if name in SCORING:
            raise InputError(
                f"{name} is a setting of the recipes; score the model with eval.evaluate(run.model, tasks)"
            )
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(f"train has no setting {name!r}{hint}; valid: {', '.join(valid)}")
    return dict(settings)


def _description_of_corpus(corpus: Corpus) -> str:
    return f"{OBJECT_PREFIX}{corpus.name}, {corpus.fingerprint}>"


def _description_of_encoder(model: SentenceTransformer) -> str:
    """Its modules and the number of its weights; the weights themselves are in the checkpoints."""
    modules = ", ".join(type(module).__name__ for tower in towers_of(model) for module in tower)
    return (
        f"{OBJECT_PREFIX}SentenceTransformer of {modules}; {sum(p.numel() for p in model.parameters()):,} parameters>"
    )


def _description_of_objective(objective: Objective) -> str:
    """Its class and its settings: the public attributes that are numbers, texts or truth values."""
    implementation: Any = objective.function if isinstance(objective, FunctionObjective) else objective
    plain = {
        name: value
        for name, value in sorted(getattr(implementation, "__dict__", {}).items())
        if isinstance(value, int | float | str) and not name.startswith("_") and name != "training"
    }
    listed = ", ".join(f"{name}={value}" for name, value in plain.items())
    return f"{OBJECT_PREFIX}{name_of(implementation)}{': ' if listed else ''}{listed}>"


def _is_transformer(model: SentenceTransformer) -> bool:
    return isinstance(towers_of(model)[0][0], Transformer)
