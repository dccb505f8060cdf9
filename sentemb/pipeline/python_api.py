"""Training from Python: ``sentemb.train``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import towers_of
from sentemb.errors import InputError
from sentemb.languages import DEFAULT, check_language
from sentemb.objectives import FunctionObjective, Matryoshka, Objective, WeightedSum, as_objective, name_of
from sentemb.pairs import Pairs
from sentemb.pipeline.experiment import Experiment
from sentemb.pipeline.model import trains_transformer
from sentemb.pipeline.resume import config_begun
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
from sentemb.registry import suggestion
from sentemb.training import TrainingSettings
from sentemb.validation import DevScore

SCORING = {"tasks", "data", "search", "score"}  # settings of the recipes that need the eval package

OF_EVAL = {"dev": ("stsb", "search")}  # values of settings that stand for an object of that package


def train(
    corpus: Any = None,
    encoder: str | SentenceTransformer | None = None,
    objective: str | nn.Module | Callable[..., Any] | None = None,
    pairs: str | Callable[..., Pairs] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    dev: Callable[[SentenceTransformer], float] | DevScore | str | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train an encoder of sentences.

        run = sentemb.train("books/", encoder="transformer:name=minilm", objective="infonce:temperature=0.05")
        run.model.encode(["A sentence."])

    In one process, or in all processes of ``accelerate launch``. KeyboardInterrupt (a notebook's stop button) saves
    after the current update and returns the run so far; ``resume=True`` resumes it. Random states of the caller
    are as before when it returns.

    Args:
        corpus: a spec as ``--corpus`` takes it (a path, ``sample``, ...); a list of texts, of documents or of pairs; a
            ``datasets.Dataset``; or an opened Corpus. Default: sample, the built-in one.
        encoder: a spec (``rnn``, ``static:...``, ``transformer:name=...``), or a SentenceTransformer, which is trained
            in place. Default: rnn. ``init=`` names a finished model to begin from instead.
        objective: a spec (``infonce:temperature=0.05``), an :class:`sentemb.objectives.Objective`, or a module or
            function of two views ``[n, d]`` that returns the loss. Default: infonce.
        pairs: what belongs together: a spec (``neighbours``, ``dropout``, ``contiguous``, ``augment:...``), or a
            function of the documents' ranges ``[documents, 2]`` that returns :class:`sentemb.pairs.Pairs`. Default:
            neighbours; of pairs or labelled rows those.
        out: the run folder, new; None: a temporary one, which ``folder`` of the result names.
        resume: continue the run in ``out``, if there is one. Objects are given again; their classes and settings are
            compared with those that the run was started with.
        dev: the score by which the best model is chosen (``select="best"``): a function of the model, higher is better;
            or "teacher", how alike the ``teacher`` finds held-out sentences. Default: MRR of held-out pairs.
        **settings: by the names of the recipes' flags: ``max_steps``, ``batch_size``, ``lr``, ``init``,
            ``max_length``, ``language``, ``clean``, ... (:mod:`sentemb.pipeline.settings`). ``head`` takes a module.

    Returns:
        The run: ``model``, ``log``, ``scores``, ``folder``, ``report()``.

    Raises:
        InputError: something that was given cannot be used; one sentence says what, and nothing has been written.
        FloatingPointError: the training diverged.
        TrainingFailed: the disk or the memory is full, or another process has died.
    """
    head = settings.pop("head", None)
    folder = Path(out) if out is not None else None
    text = corpus if corpus is None or isinstance(corpus, str | Path) else _opened(corpus, settings, folder, resume)
    objects = _Objects.of(text, encoder, objective, pairs, head, dev)
    if resume and folder is None:
        raise InputError("resume=True continues the run in a folder; give it as out=")
    options = {**_checked(settings), **objects.specs}
    if folder is not None and not resume:
        refuse_used(folder)
    defaults = default_settings() | {"dev": "heldout", "score": False}
    chosen = resumed_settings(absolute_settings(options), defaults, folder, resume)
    objects.refuse_missing(chosen, out)

    data, encoder_settings = pick(DataSettings, chosen), pick(EncoderSettings, chosen)
    pair_settings, objective_settings = pick(PairSettings, chosen), pick(ObjectiveSettings, chosen)
    by_teacher = objects.dev is None and chosen["dev"] == "teacher"
    evaluation = pick(EvaluationSettings, chosen | {"dev": "teacher" if by_teacher else "heldout"})
    specs = {name: value for name, value in chosen.items() if not str(value).startswith(OBJECT_PREFIX)}
    if objects.encoder is not None:
        specs["encoder"] = None  # (and not the default one)
    check_specs(
        pick(DataSettings, specs),
        pick(EncoderSettings, specs),
        pick(PairSettings, specs),
        pick(ObjectiveSettings, specs),
    )
    transformer = _is_transformer(objects.encoder) if objects.encoder else trains_transformer(encoder_settings)
    run, training, compute = RunSettings(folder, resume), pick(TrainingSettings, chosen), pick(ComputeSettings, chosen)
    with Experiment("train", run, training, compute, transformer) as experiment:
        text = experiment.open_corpus(data, objects.corpus)
        loss = experiment.make_objective(objective_settings, objects.objective, objects.head)
        model = experiment.make_encoder(encoder_settings, text, objects.encoder)
        positives = experiment.make_pairs(pair_settings, text, model, objects.pairs)
        return experiment.train(text, model, positives, loss, evaluation, objects.dev)


@dataclass(frozen=True)
class _Objects:
    """The caller's objects in the places of specs; None where there is a spec, or nothing."""

    corpus: Corpus | None
    encoder: SentenceTransformer | None
    objective: Objective | None
    pairs: Callable[..., Pairs] | None
    head: nn.Module | None
    dev: DevScore | None
    specs: Mapping[str, str]  # the specs, and descriptions of the objects

    @classmethod
    def of(cls, corpus: Any, encoder: Any, objective: Any, pairs: Any, head: Any, dev: Any) -> "_Objects":
        """Tell objects from specs; ``corpus`` is an opened one or a spec.

        Raises:
            InputError: something is neither.
        """
        opened = corpus if isinstance(corpus, Corpus) else None
        if encoder is not None and not isinstance(encoder, str | SentenceTransformer):
            raise InputError(f"the encoder is a {type(encoder).__name__}; give a spec or a SentenceTransformer")
        if pairs is not None and not isinstance(pairs, str) and not callable(pairs):
            raise InputError(
                f"pairs is a {type(pairs).__name__}; give a spec or a function (a list of pairs is a corpus)"
            )
        if head is not None and not isinstance(head, str | nn.Module):
            raise InputError(f"head is a {type(head).__name__}; give a spec or a module")
        if pairs is None and opened is not None and opened.labelled:
            pairs = "labelled"
        loss = None if objective is None or isinstance(objective, str) else as_objective(objective)
        if isinstance(loss, Matryoshka):
            raise InputError(
                "the objective is a Matryoshka, whose prefixes are a setting here; give the objective that it is of, "
                "and matryoshka='64,128'"
            )
        by_name = dev is None or dev == "teacher"
        score = None if by_name else dev if isinstance(dev, DevScore) else DevScore.of(dev)
        described: dict[str, Any] = {
            "corpus": _described_corpus(opened) if opened else None if corpus is None else str(corpus),
            "encoder": encoder if isinstance(encoder, str | None) else _described_encoder(encoder),
            "objective": objective if loss is None else _described_objective(loss),
            "pairs": pairs if isinstance(pairs, str | None) else f"{OBJECT_PREFIX}{name_of(pairs)}>",
            "head": head if isinstance(head, str | None) else _described_head(head),
            "language": opened.language if opened else None,
            "dev": score.spec if score else dev,
        }
        return cls(
            opened,
            encoder if isinstance(encoder, SentenceTransformer) else None,
            loss,
            pairs if callable(pairs) else None,
            head if isinstance(head, nn.Module) else None,
            score,
            {name: value for name, value in described.items() if value is not None},
        )

    def refuse_missing(self, settings: Mapping[str, Any], out: str | Path | None) -> None:
        """InputError if the run that is continued was started with an object that was not given again."""
        for name in ("corpus", "encoder", "objective", "pairs", "head", "dev"):
            described = str(settings[name]).startswith(OBJECT_PREFIX) or settings[name] in OF_EVAL.get(name, ())
            if getattr(self, name) is None and described:
                raise InputError(
                    f"{out} was started with {name} {settings[name]}; give the same as {name}= to resume it"
                )


def _opened(corpus: Any, settings: Mapping[str, Any], folder: Path | None, resume: bool) -> Corpus:
    """The caller's texts as a corpus: in the language of the settings, else of the run that is continued.

    Raises:
        InputError: it holds something else, or was opened in another language than the settings name.
    """
    begun_with = config_begun(folder, resume).get("settings", {}).get("language", DEFAULT)
    language = check_language(settings.get("language", begun_with))
    opened = open_corpus(corpus, language=language)
    if opened.language != language and "language" in settings:
        raise InputError(
            f"the corpus was opened with language={opened.language!r}, not {language!r}; give the language to "
            "open_corpus alone"
        )
    return opened


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, after a check of their names."""
    named = {"corpus", "encoder", "objective", "pairs", "head", "dev"}  # which may be objects
    valid = sorted(set(default_settings()) - named - SCORING)
    for name in settings:
        if name in SCORING:
            raise InputError(
                f"{name} is a setting of the recipes; score the model with eval.evaluate(run.model, tasks)"
            )
        if name not in valid:
            raise InputError(f"train has no setting {name!r}{suggestion(name, valid)}; valid: {', '.join(valid)}")
    return dict(settings)


def _described_corpus(corpus: Corpus) -> str:
    return f"{OBJECT_PREFIX}{corpus.name}, {corpus.fingerprint}>"


def _described_encoder(model: SentenceTransformer) -> str:
    """Its modules and the number of its weights; the weights themselves are in the checkpoints."""
    modules = ", ".join(type(module).__name__ for tower in towers_of(model) for module in tower)
    return (
        f"{OBJECT_PREFIX}SentenceTransformer of {modules}; {sum(p.numel() for p in model.parameters()):,} parameters>"
    )


def _described_objective(objective: Objective) -> str:
    """Its class and its settings: the public attributes that are numbers, texts or truth values; of a sum its parts."""
    if isinstance(objective, WeightedSum):
        parts = zip(objective.parts, objective.weights, strict=True)
        described = [f"{_described_objective(cast(Objective, part))}*{weight:g}" for part, weight in parts]
        return f"{OBJECT_PREFIX}sum of {' + '.join(described)}>"
    implementation: Any = objective.function if isinstance(objective, FunctionObjective) else objective
    plain = {
        name: value
        for name, value in sorted(getattr(implementation, "__dict__", {}).items())
        if isinstance(value, int | float | str) and not name.startswith("_") and name != "training"
    }
    listed = ", ".join(f"{name}={value}" for name, value in plain.items())
    return f"{OBJECT_PREFIX}{name_of(implementation)}{': ' if listed else ''}{listed}>"


def _described_head(head: nn.Module) -> str:
    modules = ", ".join(type(module).__name__ for module in head.modules())
    return f"{OBJECT_PREFIX}{name_of(head)} of {modules}; {sum(p.numel() for p in head.parameters()):,} parameters>"


def _is_transformer(model: SentenceTransformer) -> bool:
    return isinstance(towers_of(model)[0][0], Transformer)
