"""The model that is trained: made from a spec, a finished model, or the caller's own."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from sentemb.corpus import Corpus
from sentemb.encoders import (
    ENCODERS,
    NamedTexts,
    OnnxEncoder,
    add_frequent_words,
    freeze_unused,
    has_dropout,
    is_folder,
    load,
    parse_lora,
    parse_prompts,
    prompts_of,
    read_json,
    refuse_unsafe,
    set_prompts,
    towers_of,
    two_towers,
)
from sentemb.errors import InputError
from sentemb.pairs import Pairs, contiguous
from sentemb.pipeline.settings import EncoderSettings
from sentemb.registry import build, check
from sentemb.runs import MODULES, model_folder
from sentemb.storage import verify

SAMPLE, RUN = 1_000_000, 1_000  # sentences a vocabulary is learned from, in runs of this length


def check_encoder(settings: EncoderSettings) -> None:
    """Check the encoder's settings before any data is read; InputError for a wrong one."""
    if settings.init is None and settings.encoder is not None:
        check(ENCODERS, settings.encoder, "encoder", ("texts", "max_length"))
    if settings.prompts is not None:
        parse_prompts(settings.prompts)
    kind = "" if settings.init is not None else (settings.encoder or "").partition(":")[0]
    if settings.lora is not None:
        parse_lora(settings.lora)
        if kind in ("rnn", "static"):
            raise InputError(
                f"--lora is for transformer encoders, and --encoder {kind} is not one of them; leave it out"
            )
    if settings.new_tokens and kind == "rnn":
        raise InputError(
            "--new-tokens is for transformer and static encoders, and --encoder rnn is not one of them; leave it out"
        )


def trains_transformer(settings: EncoderSettings) -> bool:
    """Whether the encoder is a transformer, by its spec or its folder; a hub name counts as one."""
    if settings.init is None:
        return (settings.encoder or "").startswith("transformer")
    if not is_folder(settings.init):
        return True
    folder = model_folder(Path(settings.init))
    verify(folder)
    refuse_unsafe(folder)
    modules = read_json(folder / MODULES)
    return bool(modules) and modules[0]["type"].endswith(".Transformer")


def make_model(
    settings: EncoderSettings,
    corpus: Corpus,
    train: np.ndarray,
    max_length: int,
    custom_encoder: SentenceTransformer | None,
) -> SentenceTransformer:
    """The encoder to train, or two of them as towers, with its prompts.

    Args:
        settings: which one.
        corpus: its sentences are what a vocabulary is learned from.
        train: ranges of rows of its training documents.
        max_length: tokens of the longest sentence.
        custom_encoder: the caller's model, in place of ``settings.encoder``; it is trained in place.

    Raises:
        InputError: there is no such encoder, or it does not fit the other settings.
    """

    def one() -> SentenceTransformer:
        if custom_encoder is not None or settings.init is not None:
            model = custom_encoder if custom_encoder is not None else load(str(settings.init), device="cpu")
            if isinstance(model[0], OnnxEncoder):
                raise InputError(
                    f"{settings.init or 'the encoder'} is in ONNX, which only encodes; train another model"
                )
            limit = towers_of(model)[0].max_seq_length
            if limit and max_length > limit:
                raise InputError(
                    f"max-length {max_length} is more than the {limit} of {settings.init or 'the encoder'}"
                )
            freeze_unused(model)
            return model
        texts = named_texts(corpus, train)
        model = build(ENCODERS, str(settings.encoder), "encoder", texts=texts, max_length=max_length)
        assert isinstance(model, SentenceTransformer)
        return model

    model = one()
    if settings.towers == 2:
        if custom_encoder is not None:
            raise InputError("towers=2 makes two encoders from a spec; give sentemb.encoders.two_towers(f, g) instead")
        if len(towers_of(model)) > 1:
            raise InputError(f"{settings.init} has two towers already; leave --towers out")
        prompts, model = prompts_of(model), two_towers(model, one())
        if not prompts.alike:  # f has the anchor's, and g the positive's
            set_prompts(model, prompts)
    if settings.new_tokens:
        if custom_encoder is not None:
            raise InputError("new_tokens changes a model that is made from a spec or init; give one of them, no object")
        add_frequent_words(model, named_texts(corpus, train), settings.new_tokens)
    if settings.prompts is not None:
        set_prompts(model, parse_prompts(settings.prompts))
    return model


def tower_dimension(model: SentenceTransformer) -> int:
    """Of one tower's embeddings."""
    return int(towers_of(model)[0].get_embedding_dimension() or 0)


def refuse_no_noise(model: SentenceTransformer, pairs: Pairs, force: bool) -> None:
    """InputError where both views of a sentence would be the same, unless it is forced."""
    if pairs.self_pairs and pairs.noise is None and not has_dropout(model) and not force:
        raise InputError(
            "dropout pairs need an encoder with dropout, and this one has none: both views of a sentence would be the "
            "same; give it dropout (transformer:name=...,dropout=0.1), choose other --pairs, or --force it to "
            "degenerate"
        )


def named_texts(corpus: Corpus, ranges: np.ndarray) -> NamedTexts:
    """The sentences of the training documents by a name, so that what is learned from them is kept."""
    key = f"{corpus.fingerprint} {SAMPLE} {RUN} {hashlib.blake2b(ranges.tobytes()).hexdigest()}"
    return NamedTexts(lambda: training_texts(corpus, ranges), key)


def training_texts(corpus: Corpus, ranges: np.ndarray) -> Iterator[str]:
    """The sentences of the training documents, for a vocabulary to be learned from.

    Of more than SAMPLE of them, that many: runs of a thousand, evenly spread over the corpus.
    """
    every = contiguous(ranges).rows
    runs = np.arange(0, len(every), RUN)
    if len(every) > SAMPLE:
        runs = runs[np.linspace(0, len(runs) - 1, SAMPLE // RUN).astype(int)]
        print(f"vocabulary: learned from {SAMPLE:,} of {len(every):,} sentences", file=sys.stderr)
    columns = int(corpus.documents[1]) if corpus.classes else 0
    for start in runs:
        rows = every[start : start + RUN][:, 0]
        for row, text in zip(rows, corpus.sentences(rows), strict=True):
            if not columns or row % columns != columns - 1:  # (a class is not a sentence)
                yield text
