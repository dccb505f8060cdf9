"""The encoder before training: its name, and how to rebuild it from the run's folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from sentemb.corpus import open_corpus
from sentemb.encoders import resolve_embeddings, towers_of
from sentemb.errors import InputError
from sentemb.pipeline.model import make_model
from sentemb.pipeline.processes import preserved_caller_state
from sentemb.pipeline.settings import DataSettings, EncoderSettings, default_settings, pick
from sentemb.pipeline.settings_of_run import OBJECT_PREFIX, absolute_settings
from sentemb.registry import parse
from sentemb.runs import TRAINED, RunFolder, as_dict, least_held_out, model_name


def initial_name(settings: Mapping[str, Any]) -> str:
    """The name of the encoder before training: ``minilm``, a hub name, a run's folder, ``random rnn``.

    Args:
        settings: of the run, as config.json has them.
    """
    name = _initial_name(settings)
    named = f"initial {name}" if name == TRAINED else name
    return f"{named} with new tokens" if settings.get("new_tokens") else named


def _initial_name(settings: Mapping[str, Any]) -> str:
    if settings.get("init") is not None:
        return model_name(str(settings["init"]))
    spec = str(settings.get("encoder") or "")
    if not spec or spec.startswith(OBJECT_PREFIX):
        return "initial encoder"
    kind, options = parse(spec)
    if kind == "transformer":
        layers = options.get("keep_layers")
        return model_name(options.get("name", "minilm")) + (f" layers {layers}" if layers else "")
    if kind == "static" and (source := _embeddings(options)) != "random":
        return f"static {source} embeddings"
    return f"random {kind}"


def averaged_name(settings: Mapping[str, Any]) -> str:
    """The name of the average of that encoder's word embeddings, which says whose embeddings they are."""
    kind, options = parse(str(settings.get("encoder") or ""))
    if settings.get("init") is None and kind in ("rnn", "static"):
        return f"averaged {_embeddings(options)} embeddings"
    return f"averaged embeddings of {initial_name(settings)}"


def _embeddings(options: Mapping[str, str]) -> str:
    if teacher := options.get("distill"):
        return f"distilled {model_name(teacher)}"
    source = resolve_embeddings(options.get("embeddings", "auto"))
    return source if source in ("minilm", "random") else Path(source).name


def initial_model(run: Path) -> SentenceTransformer:
    """Rebuild the encoder before training from the run's folder: by ``--init``, or by spec and seed.

    Args:
        run: a run folder. Scripts that its encoder needs (``--import``) have been run.

    Raises:
        InputError: it is not a run folder; the encoder was an object of a Python program; the text from which a fresh
            encoder learned its words has changed; or as :func:`sentemb.pipeline.make_model`.
    """
    from accelerate.utils import set_seed

    content = RunFolder(run).read_settings()
    settings = default_settings() | absolute_settings(content["settings"])
    if settings.get("init") is not None:
        settings["encoder"] = None
    if str(settings.get("encoder") or "").startswith(OBJECT_PREFIX):
        raise InputError(
            f"{run} began with {settings['encoder']} of a Python program, which its folder does not hold; score that "
            "object itself"
        )
    encoder, data = pick(EncoderSettings, settings), pick(DataSettings, settings)
    corpus = open_corpus(data.corpus, language=data.language)
    corpus = replace(corpus, least_held_out=least_held_out(content))
    fingerprint = as_dict(content.get("corpus")).get("fingerprint")
    learns_words = encoder.init is None or encoder.new_tokens > 0
    if learns_words and fingerprint not in (None, corpus.fingerprint):
        raise InputError(
            f"the text of {run}, {data.corpus}, has changed since it was trained, and the encoder has words from it; "
            "put the former text back"
        )
    with preserved_caller_state():
        set_seed(int(settings["seed"]))
        model = make_model(encoder, corpus, corpus.split()[0], data.max_length, None)
    for part in (model, *towers_of(model)):
        part.similarity_fn_name = as_dict(content.get("retrieval")).get("score", "cosine")
    return model
