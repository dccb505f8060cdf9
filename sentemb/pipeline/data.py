"""The training data: token ids of a corpus, cleaned, and its usable positive pairs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from sentemb.corpus import CLEANINGS, Cleaning, CleaningResult, Corpus, Tokens, clean_corpus
from sentemb.encoders import Prompts, tokenizer_of
from sentemb.errors import InputError
from sentemb.mining import (
    Computation,
    MinedSpec,
    MiningTask,
    PassageTexts,
    begin_mining,
    candidate_pool,
    parse_negatives,
    passage_pool,
    passage_task,
)
from sentemb.pairs import PAIRS, Pairs, PassageText, Words, drop_unusable_pairs, joined, passage_text, sample
from sentemb.pipeline.settings import DataSettings, PairSettings
from sentemb.registry import build
from sentemb.runs import as_dict
from sentemb.training import TrainingData


@dataclass(frozen=True)
class PreparedData:
    """The training data, and what cleaning left out."""

    training: TrainingData
    cleaned: CleaningResult | None
    pool: np.ndarray | None = None  # [p] rows of sentences, or [p, 2] bounds of passages, that mined negatives are from
    mined: dict[str, Any] | None = None  # what config.json gets of mined hard negatives


def prepare_data(
    data: DataSettings,
    pairs: PairSettings,
    corpus: Corpus,
    train: np.ndarray,
    model: SentenceTransformer,
    prompts: Prompts,
    seed: int,
    custom_pairs: Callable[..., Pairs] | None = None,
) -> PreparedData:
    """Tokens and usable pairs of the training documents.

    Args:
        data: how long sentences may be, and which ones are left out.
        pairs: which sentences belong together.
        corpus: the text.
        train: ranges of rows of its training documents.
        model: its tokenizer makes the token ids.
        prompts: what goes before the texts of each side.
        seed: draws pairs, where only some are wanted.
        custom_pairs: the caller's function of ranges, in place of ``pairs.pairs``.
    """
    tokenizer, length = tokenizer_of(model), data.max_length
    cleaning = build(CLEANINGS, data.clean, "clean")
    tokens = corpus.tokens(tokenizer, length, prompts.anchor)
    positive_tokens = None if prompts.alike else corpus.tokens(tokenizer, length, prompts.positive)
    plain = corpus.tokens(tokenizer, length) if prompts.anchor and cleaning != Cleaning() else tokens
    cleaned = clean_corpus(corpus, plain, cleaning, tokenizer.num_special_tokens_to_add(False), length)

    def text() -> PassageText:
        return passage_text(corpus, tokenizer, length, (tokens, tokens if positive_tokens is None else positive_tokens))

    def make_pairs(ranges: np.ndarray) -> Pairs:
        made = custom_pairs(ranges) if custom_pairs else build(PAIRS, pairs.pairs, "pairs", ranges=ranges, text=text)
        if not isinstance(made, Pairs):
            raise InputError(f"the function of pairs returned a {type(made).__name__}; return sentemb.pairs.Pairs")
        return made

    if custom_pairs is None and corpus.labelled != (pairs.pairs == "labelled"):
        raise InputError(
            "labelled pairs need a labelled corpus, and it them: --corpus labelled:path=FILE with --pairs labelled; "
            f"got {data.corpus} with {pairs.pairs}"
        )
    sources = corpus.by_source(train)
    if set(corpus.weights) == {1.0}:
        sources = [train]
    parts, weights, failed = [], [], InputError("")
    for ranges, weight in zip(sources, corpus.weights, strict=False):
        try:
            source_pairs = make_pairs(ranges)
        except InputError as error:  # a source without a pair, which others may have
            failed = error
            continue
        if custom_pairs:
            _refuse_other_rows(np.asarray(source_pairs.rows), ranges)
        if corpus.classes:
            rows = np.asarray(source_pairs.rows)
            _, labels = np.unique(corpus.sentences(rows[:, -1]), return_inverse=True)
            source_pairs = replace(source_pairs, rows=rows[:, :-1], labels=labels)
        parts.append(drop_unusable_pairs(source_pairs, tokens, cleaned.mask if cleaned else None))
        weights.append(weight)
    if not parts:
        raise failed
    together = joined(parts, weights, seed)
    chosen = sample(together, pairs.max_pairs, seed)
    words = Words.of(tokenizer) if chosen.noise else None
    pool = _pool(together, tokens, pairs.negatives, seed)
    return PreparedData(TrainingData(chosen, tokens, positive_tokens, words), cleaned, pool)


def _pool(pairs: Pairs, tokens: Tokens, negatives: str, seed: int) -> np.ndarray | None:
    """What hard negatives are mined from: rows of sentences, or bounds of passages; None: none are mined."""
    spec = parse_negatives(negatives)
    if spec is None:
        return None
    if pairs.passages is not None:
        return passage_pool(pairs, spec.pool, seed)
    return candidate_pool(pairs, tokens.distinct(), spec.pool, seed)


def with_mined_negatives(
    prepared: PreparedData,
    spec: MinedSpec,
    corpus: Corpus,
    computation: Computation,
    begun: Mapping[str, Any],
    seed: int,
) -> PreparedData:
    """The data with hard negatives of each pair out of the pool.

    Args:
        prepared: the data, with its pool.
        spec: which hard negatives. corpus: the text. computation: how a model finds them.
        begun: config.json of a continued run. seed: of the run, which draws the texts of passages.

    Raises:
        InputError: the pool is too small, or as :func:`sentemb.mining.begin_mining`.
    """
    assert prepared.pool is not None
    data, pool, pairs = prepared.training, prepared.pool, prepared.training.pairs
    if pairs.passages is None:
        task = MiningTask(corpus, data.tokens, pairs, pool, spec)
    else:
        task = passage_task(PassageTexts(corpus, pairs, pool, seed), spec)
        pairs = replace(pairs, passages=replace(pairs.passages, candidates=pool))
    negatives, about = begin_mining(task, computation, as_dict(begun.get("negatives")))
    return replace(prepared, training=replace(data, pairs=replace(pairs, negatives=negatives)), mined=about)


def _refuse_other_rows(rows: np.ndarray, ranges: np.ndarray) -> None:
    """InputError if rows of pairs ``[m, k]`` are not sentences of the documents ``ranges`` ``[documents, 2]``.

    Others may be held out, and training on them would make the held-out scores worthless.
    """
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise InputError(
            f"the function of pairs returned rows of shape {rows.shape} and type {rows.dtype}; return int64 [m, k]: "
            "anchor, positive and any hard negatives"
        )
    document = np.searchsorted(ranges[:, 0], rows, side="right") - 1
    outside = (document < 0) | (rows >= ranges[document, 1])
    if outside.any():
        raise InputError(
            f"the function of pairs returned sentence {rows[outside][0]}, which is in none of the documents given to "
            "it; return rows inside of its ranges"
        )
