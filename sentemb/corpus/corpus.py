"""A prepared corpus and its tokens, opened memory-mapped."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentemb.corpus.prepare import tokenize_sentences
from sentemb.corpus.stored_sentences import StoredSentences, open_stored
from sentemb.corpus.tokens import Tokens, open_tokens, prompt_length_of
from sentemb.errors import InputError
from sentemb.languages import DEFAULT
from sentemb.storage import key_of

LEAST_HELD_OUT = 5  # documents held out of a source that has four times as many


def _no_titles() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sentences in documents, prepared once, opened memory-mapped."""

    name: str  # what it truly is, for outputs: "folder books (100 books)"
    fingerprint: str  # hex, of the source's content, of how it is read, and FORMAT
    stored: StoredSentences = field(repr=False)  # its texts, and where they are cached
    documents: NDArray[np.int64] = field(repr=False)  # [n_documents + 1], offsets into the sentences
    bounds: tuple[int, ...] = (0,)  # first document of each of its sources
    weights: tuple[float, ...] = (1.0,)  # of its sources: how often their pairs are seen in an epoch
    notes: tuple[str, ...] = ()  # what was left out or found in preparing it, a sentence each
    progress: bool = field(default=True, repr=False)  # whether to show a bar while tokenizing
    labelled: bool = False  # whether its documents are the rows of a labelled data set
    classes: bool = False  # whether the last sentence of each of its documents is a class
    one_book: bool = False  # whether it is a single book
    least_held_out: int = LEAST_HELD_OUT  # 1 for what version 0.1 has trained on
    language: str = DEFAULT  # whose rules split its raw text into sentences
    titles: NDArray[np.int64] = field(default_factory=_no_titles, repr=False)  # [n], rows of sentences that are titles

    def __len__(self) -> int:
        """Number of sentences."""
        return int(self.documents[-1])

    @property
    def folder(self) -> Path:
        """Where it is cached, and what is made of it."""
        return self.stored.folder

    def sentences(self, rows: slice | Sequence[int] | NDArray[Any]) -> list[str]:
        """Texts of these rows, in the order given. Training uses tokens() instead."""
        return self.stored[rows]

    def tokens(self, tokenizer: Tokenizer, max_length: int, prompt: str = "") -> Tokens:
        """Every sentence as the tokenizer encodes it, special tokens included, cut to ``max_length`` ids.

        Stored next to the corpus for each tokenizer, length and ``prompt``, which goes before each sentence. The
        tokenizer's own padding and truncation are ignored.

        Raises:
            InputError: ``max_length`` leaves no room besides the special tokens and the prompt, or nothing was encoded
                at all.
        """
        tokenizer_copy = Tokenizer.from_str(tokenizer.to_str())
        tokenizer_copy.no_padding()
        tokenizer_copy.no_truncation()
        if max_length <= (special := tokenizer_copy.num_special_tokens_to_add(False)):
            raise InputError(f"max-length must be more than the {special} special tokens, got {max_length}")
        prompt_length = prompt_length_of(tokenizer_copy, prompt)
        if prompt and max_length <= len(tokenizer_copy.encode(prompt).ids):
            raise InputError(f"max-length {max_length} leaves no room after the prompt {prompt!r}; give a larger one")
        key = key_of(tokenizer_copy.to_str(), *([prompt] if prompt else []))
        folder = self.folder / f"tokens-{key}-{max_length}"
        if (tokens := open_tokens(folder, prompt_length)) is None:
            tokenizer_copy.enable_truncation(max_length)
            tokenize_sentences(self.stored, tokenizer_copy, folder, prompt, f"the tokens of {self.name}", self.progress)
            tokens = open_tokens(folder, prompt_length)
        if tokens is None:
            raise InputError(f"the tokenizer gives no token for any sentence of {self.name}")
        return tokens

    def split(self, held_out: float = 0.1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents for training and held-out, as ranges of sentence rows ``[n, 2]`` (start, stop).

        Held out is the last share of the documents (at least one) of each source, moved just so far that both sides
        have a neighbour pair. Where that is fewer than ``least_held_out`` documents, and the source has at least four
        times as many, that many in a row are held out: those whose share of the sentences is nearest to ``held_out``,
        of equals the last ones. If only one document has two sentences, it is the end of that one (at least two
        sentences), and below four sentences there is nothing to hold out: both sides are then the same.

        Raises:
            ValueError: ``held_out`` is not between 0 and 1.
        """
        if not 0 < held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {held_out}")
        ranges = np.stack([self.documents[:-1], self.documents[1:]], axis=1)  # [n, 2]
        parts = [_split(part, held_out, self.least_held_out) for part in np.split(ranges, self.bounds[1:])]
        training, held = (np.concatenate(side) for side in zip(*parts, strict=True))
        return training, held

    def by_source(self, ranges: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Ranges of rows ``[n, 2]`` in order, as those of each source."""
        return np.split(ranges, np.searchsorted(ranges[:, 0], self.documents[list(self.bounds[1:])]))


def _split(ranges: NDArray[np.int64], held_out: float, least: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    paired = np.flatnonzero(np.diff(ranges, axis=1) >= 2)
    if len(paired) >= 2:
        count = max(1, round(held_out * len(ranges)))
        if count < least <= len(ranges) // 4:
            first = _nearest_share(np.diff(ranges, axis=1)[:, 0], held_out, least)
            return np.delete(ranges, slice(first, first + least), axis=0), ranges[first : first + least]
        wanted = len(ranges) - count
        cut = min(max(wanted, int(paired[0]) + 1), int(paired[-1]))
        return ranges[:cut], ranges[cut:]
    if not len(paired):
        return ranges, ranges[:0]
    start, stop = (int(row) for row in ranges[paired[0]])
    if stop - start < 4:
        return ranges, ranges
    middle = stop - min(max(2, round(held_out * (stop - start))), stop - start - 2)
    ranges = ranges.copy()
    ranges[paired[0], 1] = middle
    return ranges, np.array([[middle, stop]], dtype=np.int64)


def _nearest_share(sentences: NDArray[np.int64], share: float, count: int) -> int:
    """The first of ``count`` consecutive documents whose share of the sentences is nearest to ``share``; the last of
    equals.

    Args:
        sentences: ``[n]``, of each document; at least two of them have two.
    """

    def in_a_row(values: NDArray[Any]) -> NDArray[np.int64]:  # [n - count + 1], the sum of each ``count`` in a row
        sums = np.concatenate([[0], np.cumsum(values)])
        return sums[count:] - sums[:-count]

    pairs = in_a_row(sentences >= 2)
    distance = np.abs(in_a_row(sentences) - share * sentences.sum())
    distance = np.where((pairs > 0) & (pairs < (sentences >= 2).sum()), distance, np.inf)
    return len(distance) - 1 - int(distance[::-1].argmin())


def open_folder(folder: Path, name: str, key: str, weights: tuple[float, ...], progress: bool) -> Corpus | None:
    """The prepared corpus in a folder; None if it is missing or damaged."""
    stored = open_stored(folder, len(weights))
    if stored is None:
        return None
    corpus = Corpus(name, key, stored.sentences, stored.documents, stored.bounds, weights, stored.notes, progress)
    return replace(corpus, titles=stored.titles)
