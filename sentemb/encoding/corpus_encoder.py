"""A model as what embeds the sentences of a corpus: which tower, which prompt, how many dimensions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding, Transformer

from sentemb.corpus import Corpus, Tokens
from sentemb.encoders import default_prompt, gives_unit_length, max_tokens_of, towers_of
from sentemb.encoding.settings import EncodingSettings
from sentemb.errors import InputError
from sentemb.forward import collate_tokens
from sentemb.geometry import l2_normalize
from sentemb.teacher import TeacherModel, TeacherSpec, batches_of

ROLE = "encoder"  # what messages call the model
UNLIMITED = 1 << 20  # tokens of a sentence, for a model that takes any
# tokens of a batch on a CPU, by the first module
BATCH_TRANSFORMER, BATCH_RECURRENT, BATCH_STATIC, BATCH_ELSEWHERE = 4096, 4096, 262_144, 32_768
# a transformer's batch on a CPU has a multiple of this number of tokens: see :func:`filler_rows`
STEP = 64
# what cards of models say that goes before each text: "query: ", 'passage: ', ...
PREFIX = re.compile(r"""["'`“](query|passage|search_query|search_document|classification|clustering): """)
DOCUMENTS = {"query": "passage", "search_query": "search_document"}  # what such cards put before what is searched


@dataclass(frozen=True)
class _Part:
    """A model of one tower, and what it reads."""

    model: TeacherModel
    prompt: str
    length: int  # tokens of a sentence, at most

    @property
    def is_static(self) -> bool:
        """Whether its embedding is a mean of word embeddings."""
        return isinstance(self.model.encoder.model[0], StaticEmbedding)

    @property
    def is_transformer(self) -> bool:
        """Whether its first module is a transformer."""
        return isinstance(self.model.encoder.model[0], Transformer)


class CorpusEncoder:
    """Embeds the sentences of a corpus as ``encode`` of the model does, to rounding.

    Args:
        model: any SentenceTransformer. It is in evaluation mode from now on.
        corpus: the text.
        settings: tower, prompt and dimensions.
        card: the text of the model's README, which may ask for a prefix.

    Raises:
        InputError: the model has no such tower, prompt or number of dimensions, or has prompts and none is chosen.
    """

    def __init__(self, model: SentenceTransformer, corpus: Corpus, settings: EncodingSettings, card: str = "") -> None:
        self.corpus = corpus
        self.tower, parts = _towers(model, settings.tower)
        prompts = [chosen_prompt(part, settings, card, alone=self.tower is None) for part in parts]
        embedders = [
            TeacherModel(TeacherSpec("encoder", prompt=prompt), part, role=ROLE)
            for part, prompt in zip(parts, prompts, strict=True)
        ]
        self.parts = [
            _Part(embedder, prompt, max_tokens_of(part) or UNLIMITED)
            for embedder, part, prompt in zip(embedders, parts, prompts, strict=True)
        ]
        self.prompts = prompts
        self.notes = _notes(model, settings, prompts) if self.tower is None else []
        self.full_dimension = sum(part.model.dimension for part in self.parts)
        self.normalises = len(self.parts) > 1 or gives_unit_length(parts[0])
        self.dimension = self._truncated(model, settings)
        self._unit_length = self.normalises and settings.truncate is not None
        uncut = len(parts) > 1 or parts[0].truncate_dim is None  # (the model's own cut leaves rows shorter)
        self.unit_length = self.normalises and (uncut or settings.truncate is not None)

    def _truncated(self, model: SentenceTransformer, settings: EncodingSettings) -> int:
        """The dimensions that stay: those asked for, else those that the model's own encode gives."""
        if settings.truncate is None:
            return min(self.full_dimension, model.truncate_dim or self.full_dimension)
        if len(self.parts) > 1:
            raise InputError(
                "--truncate would cut off the second of two towers; choose one with --tower f or --tower g"
            )
        if settings.truncate > self.full_dimension:
            raise InputError(
                f"--truncate {settings.truncate} is more than the {self.full_dimension} dimensions of the model; give "
                "a smaller number"
            )
        return settings.truncate

    @cached_property
    def tokens(self) -> list[Tokens]:
        """The corpus as each part reads it; tokenized at the first call."""
        return [self.corpus.tokens(part.model.tokenizer, part.length, part.prompt) for part in self.parts]

    @cached_property
    def batch_tokens(self) -> int:
        """Tokens of a batch."""
        if self.parts[0].is_static:  # (of which :meth:`batches` makes one batch, of about this number)
            return BATCH_STATIC
        if self.parts[0].model.device.type != "cpu":
            return BATCH_ELSEWHERE
        return BATCH_TRANSFORMER if self.parts[0].is_transformer else BATCH_RECURRENT

    def keys(self) -> NDArray[np.int64]:
        """A number for each sentence ``[sentences]``, equal where sentences are the same to all parts."""
        first, *others = [tokens.distinct() for tokens in self.tokens]
        for keys in others if any(prompt != self.prompts[0] for prompt in self.prompts) else []:
            first = first * np.int64(0x9E3779B97F4A7C1) ^ keys
        return first

    def batches(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Places in ``rows`` of the sentences that are embedded together: of like length, but for word averages."""
        if not len(rows):
            return []
        if self.parts[0].is_static:
            return [np.arange(len(rows))]
        return batches_of(self.tokens[0].lengths(rows), self.batch_tokens)

    def embed(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings float32 ``[n, dimension]`` of the sentences of these corpus rows, in one batch."""
        sides = [self._embedded(part, tokens, rows) for part, tokens in zip(self.parts, self.tokens, strict=True)]
        if len(sides) > 1:  # (each tower is cut by itself, as Towers does)
            cuts = [part.model.encoder.model.truncate_dim for part in self.parts]
            sides = [l2_normalize(side[:, :cut]) for side, cut in zip(sides, cuts, strict=True)]
        made = sides[0] if len(sides) == 1 else torch.cat(sides, dim=1)
        if self.dimension < made.shape[1]:
            made = made[:, : self.dimension]
            made = l2_normalize(made) if self._unit_length else made
        array: NDArray[np.float32] = made.cpu().numpy()
        return array

    def _embedded(self, part: _Part, tokens: Tokens, rows: NDArray[np.int64]) -> torch.Tensor:
        if part.is_static:
            ids, lengths = tokens.flat(rows)
            features = {"input_ids": ids.astype(np.int64), "offsets": np.cumsum(lengths) - lengths}
            tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in features.items()}
        else:
            batch = tokens.rows(rows)
            if part.is_transformer and part.model.device.type == "cpu":
                batch += filler_rows(batch, STEP)
            tensors = collate_tokens(part.model.encoder.model, batch)
        return part.model.embeddings(tensors, tokens.prompt_length)[: len(rows)]


def filler_rows(rows: Sequence[NDArray[Any]], step: int) -> list[NDArray[Any]]:
    """Rows to embed with a batch and to forget, which bring its tokens to a multiple of ``step``.

    Without them no two batches have one number of tokens. Each number needs its own compiled kernels, and blocks of a
    slightly different size, which do not fit into the memory that the batch before has freed: with MiniLM both
    together took more than twice the memory.

    Args:
        rows: ids ``[length]`` of each sentence. step: in tokens.

    Returns:
        Beginnings of the longest row, none longer than that.
    """
    lengths = [len(row) for row in rows]
    missing, longest = -sum(lengths) % step, max(lengths)
    if not longest:
        return []
    filler = [longest] * (missing // longest) + [missing % longest] * (missing % longest > 0)
    source = rows[lengths.index(longest)]
    return [source[:length] for length in filler]


def _towers(model: SentenceTransformer, tower: str | None) -> tuple[str | None, list[SentenceTransformer]]:
    """Which tower is meant, None for a model of one, and what embeds."""
    towers = towers_of(model)
    if len(towers) == 1:
        if tower is not None:
            raise InputError(f"--tower {tower} is for a model with two towers, and this one has one; leave it out")
        return None, towers
    if tower is None or tower == "both":
        return "both", towers
    return tower, [towers["fg".index(tower)]]


def chosen_prompt(model: SentenceTransformer, settings: EncodingSettings, card: str, alone: bool) -> str:
    """What goes before each sentence, as ``encode(prompt=, prompt_name=)`` chooses it.

    Args:
        model: of one tower. settings: the prompt, or its name. card: the model's README.
        alone: whether it is not a tower of two, each of which has its own prompt.

    Raises:
        InputError: no such name; or the model or its card has prompts, none of them is its default, and none is chosen.
    """
    if settings.prompt is not None:
        return settings.prompt
    names = {name: text or "" for name, text in model.prompts.items()}
    if settings.prompt_name is not None:
        if settings.prompt_name not in names:
            listed = f"it has {', '.join(names)}" if names else "it has none"
            raise InputError(f"the model has no prompt named {settings.prompt_name!r}: {listed}; or give --prompt TEXT")
        return names[settings.prompt_name]
    if model.default_prompt_name is not None or not alone:
        return default_prompt(model)
    if asked := [name for name, text in names.items() if text]:
        raise InputError(
            f"the model has prompts ({', '.join(asked)}), and none is its default; choose one with --prompt-name, or "
            'write --prompt "" for none'
        )
    if prefix := PREFIX.search(card):
        of_documents = DOCUMENTS.get(prefix[1], prefix[1])
        raise InputError(
            f'the model\'s card puts "{prefix[1]}: " or the like before texts, and no prompt is given; write --prompt '
            f'"{of_documents}: ", or --prompt "" for none'
        )
    return ""


def _notes(model: SentenceTransformer, settings: EncodingSettings, prompts: list[str]) -> list[str]:
    """A note where the model's default prompt is chosen, and documents have another."""
    if settings.prompt is not None or settings.prompt_name is not None:
        return []
    if not (of_documents := model.prompts.get("document")) or of_documents == prompts[0]:
        return []
    return [
        f"{prompts[0]!r}, the model's default prompt, goes before each sentence; for texts that are searched choose "
        "--prompt-name document"
    ]
