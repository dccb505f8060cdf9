"""What a recipe trains, made from its settings: encoder, pairs, and what can be seen to be wrong before."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from eval import named
from sentemb.corpus import Corpus, Tokens
from sentemb.encoders import (
    ENCODERS,
    HEADS,
    NamedTexts,
    freeze_unused,
    has_dropout,
    load,
    parse_prompts,
    prompts_of,
    set_prompts,
    towers_of,
    two_towers,
)
from sentemb.errors import InputError
from sentemb.forward import ATTENTIONS
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import PAIRS, Pairs, contiguous, drop_unusable_pairs, joined, sample
from sentemb.registry import build, check, choose

SAMPLE, RUN = 1_000_000, 1_000  # sentences a vocabulary is learned from, in runs of so many
PRECISIONS = ("auto", "no", "bf16", "fp16")


def check_settings(settings: dict[str, Any]) -> Any:
    """Everything that can be seen to be wrong before any data is read; returns the objective."""
    if settings["init"] is None:
        check(ENCODERS, settings["encoder"], "encoder", ("texts", "max_length"))
    check(PAIRS, settings["pairs"], "pairs", ("ranges",))
    check(HEADS, settings["head"], "head", ("dimension",))
    objective = build(OBJECTIVES, settings["objective"], "objective")
    if settings["prompts"] is not None:
        parse_prompts(settings["prompts"])
    choose("attention", settings["attention"], ATTENTIONS)
    choose("dev", settings["dev"], ("auto", "stsb", "heldout"))
    choose("precision", settings["precision"], PRECISIONS)
    if settings["tasks"] is not None:
        named(part.strip() for part in settings["tasks"].split(",") if part.strip())
    if not 0 < settings["timeout"] <= 10_000:
        raise InputError(f"timeout must be minutes above 0 and at most 10,000, got {settings['timeout']}")
    if settings["compile"] and settings["attention"] == "packed":
        raise InputError("--compile and --attention packed exclude each other; leave one of them out")
    if settings["towers"] not in (1, 2):
        raise InputError(f"towers must be 1 or 2, got {settings['towers']}")
    for name, least in (("max_length", 1), ("max_pairs", 2)):
        if settings[name] is not None and settings[name] < least:
            raise InputError(f"{name.replace('_', '-')} must be at least {least}, got {settings[name]}")
    return objective


def make_model(settings: dict[str, Any], corpus: Corpus, train: np.ndarray) -> SentenceTransformer:
    """The encoder to train, or two of them: made from its spec, or a finished model."""

    def one() -> SentenceTransformer:
        if settings["init"] is not None:
            model = load(settings["init"], device="cpu")
            limit = towers_of(model)[0].max_seq_length
            if limit and settings["max_length"] > limit:
                raise InputError(f"max-length {settings['max_length']} is more than the {limit} of {settings['init']}")
            freeze_unused(model)
            return model
        key = f"{corpus.fingerprint} {SAMPLE} {RUN} {hashlib.blake2b(train.tobytes()).hexdigest()}"
        texts = NamedTexts(lambda: training_texts(corpus, train), key)
        return build(ENCODERS, settings["encoder"], "encoder", texts=texts, max_length=settings["max_length"])

    if settings["towers"] == 1:
        return one()
    f, g = one(), one()
    if len(towers_of(f)) > 1:
        raise InputError(f"{settings['init']} has two towers already; leave --towers out")
    both = two_towers(f, g)
    if not (prompts := prompts_of(f)).alike:  # f has the anchor's, and g the positive's
        set_prompts(both, prompts)
    return both


def tower_dimension(model: SentenceTransformer) -> int:
    """Of one tower's embeddings."""
    return int(towers_of(model)[0].get_embedding_dimension() or 0)


def make_pairs(
    settings: dict[str, Any], corpus: Corpus, train: np.ndarray, tokens: Tokens, kept: np.ndarray | None = None
) -> Pairs:
    """The usable pairs of the training documents, of kept sentences, each source's by its weight."""
    if corpus.labelled != (settings["pairs"] == "labelled"):
        raise InputError(
            "labelled pairs need a labelled corpus, and it them: --corpus labelled:path=FILE with --pairs labelled; "
            f"got {settings['corpus']} with {settings['pairs']}"
        )
    sources = corpus.by_source(train)
    if set(corpus.weights) == {1.0}:
        sources = [train]
    parts, weights, failed = [], [], InputError("")
    for ranges, weight in zip(sources, corpus.weights, strict=False):
        try:
            found: Pairs = build(PAIRS, settings["pairs"], "pairs", ranges=ranges)
        except InputError as error:  # a source without a pair, which others may have
            failed = error
            continue
        if corpus.classes:
            rows = np.asarray(found.rows)
            _, labels = np.unique(corpus.sentences(rows[:, -1]), return_inverse=True)
            found = replace(found, rows=rows[:, :-1], labels=labels)
        parts.append(drop_unusable_pairs(found, tokens, kept))
        weights.append(weight)
    if not parts:
        raise failed
    seed = settings["seed"]
    return sample(joined(parts, weights, seed), settings["max_pairs"], seed)


def refuse_no_noise(settings: dict[str, Any], model: SentenceTransformer, pairs: Pairs) -> None:
    """InputError where both views of a sentence would be the same, unless it is forced."""
    if pairs.self_pairs and pairs.noise is None and not has_dropout(model) and not settings["force"]:
        raise InputError(
            "dropout pairs need an encoder with dropout, and this one has none: both views of a sentence would be the "
            "same; give it some (transformer:name=...,dropout=0.1), choose other --pairs, or --force it to degenerate"
        )


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
            if not columns or row % columns != columns - 1:  # (a class is no sentence)
                yield text
