"""A prepared corpus and its tokens, opened memory-mapped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentemb.errors import InputError
from sentemb.order import mix
from sentemb.storage import key_of

CHUNK = 10_000  # sentences written, read or tokenized at a time


class Tokens:
    """Token ids of every sentence, flat and memory-mapped."""

    def __init__(
        self,
        ids: NDArray[Any],
        offsets: NDArray[np.int64],
        keys: NDArray[np.int64] | None = None,
        folder: Any = None,
        prompt_length: int = 0,
    ) -> None:
        """
        Args:
            ids: uint16 or int32 ``[total]``. offsets: ``[sentences + 1]``. keys: as :func:`keys_of` makes them.
            folder: where these are kept, if they are.
            prompt_length: ids at the start of each sentence that are a prompt's, special tokens before it included.
        """
        self.ids, self.offsets, self.folder, self.prompt_length = ids, offsets, folder, prompt_length
        self._flat, self._offsets = np.asarray(ids), np.asarray(offsets)  # a memmap is ten times as slow to slice
        self._keys = keys

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:  # another process maps the same files
            return open_tokens, (self.folder, self.prompt_length)
        return Tokens, (self.ids, self.offsets, self._keys, None, self.prompt_length)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Ids of one sentence, ``[length]``; IndexError outside the corpus."""
        row = range(len(self))[row]
        return self._flat[self._offsets[row] : self._offsets[row + 1]]

    def rows(self, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Ids of each of these sentences."""
        starts, stops = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        return [self._flat[start:stop] for start, stop in zip(starts, stops, strict=True)]

    def lengths(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
        """Tokens in these sentences, an array of the shape of ``rows``."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return np.diff(self._offsets[start : stop + 1])
        return self._offsets[rows + 1] - self._offsets[rows]

    def distinct(self) -> NDArray[np.int64]:
        """A number for each sentence, ``[sentences]``: equal where sentences are copies, the same tokens.

        It is 64 bits of a hash: of 74 million sentences two different ones share it with a chance of 1 in 6,700.
        """
        if self._keys is None:
            self._keys = keys_of(self._flat, self._offsets)
        return self._keys


def _prompt_length(tokenizer: Tokenizer, prompt: str) -> int:
    """Ids that a prompt takes, special ones before it included, one behind it not: as sentence-transformers counts."""
    if not prompt:
        return 0
    ids = tokenizer.encode(prompt).ids
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return len(ids) - (ids[-1:] != [] and ids[-1] in special)


def keys_of(ids: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """64 bits of a hash of each sentence's tokens, ``[sentences]``; 0 where there is none."""
    out = np.zeros(len(offsets) - 1, dtype=np.uint64)
    for first in range(0, len(out), CHUNK):
        bounds = offsets[first : first + CHUNK + 1]
        lengths = np.diff(bounds)
        places = np.arange(bounds[-1] - bounds[0]) - np.repeat(bounds[:-1] - bounds[0], lengths)
        with np.errstate(over="ignore"):
            mixed = mix(
                (ids[bounds[0] : bounds[-1]].astype(np.uint64) + np.uint64(1)) << np.uint64(24)
                | places.astype(np.uint64)
            )
            sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
            ends = bounds - bounds[0]
            out[first : first + len(lengths)] = sums[ends[1:]] - sums[ends[:-1]]
    return out.view(np.int64)


def open_tokens(folder: Path, prompt_length: int = 0) -> Tokens | None:
    """Tokens kept in a folder; None if they are not there or not whole. ``prompt_length``: as of Tokens."""
    try:
        ids, offsets, keys = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "offsets", "keys"))
        whole = len(ids) and (len(keys), offsets[-1]) == (len(offsets) - 1, len(ids))
        return Tokens(ids, offsets, keys, folder, prompt_length) if whole else None
    except (OSError, ValueError, EOFError):
        return None


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sentences in documents, prepared once, opened memory-mapped."""

    name: str  # what it truly is, for outputs: "folder books (100 books)"
    fingerprint: str  # hex, of the source's content, of how it is read, and FORMAT
    folder: Path  # where it is cached
    documents: NDArray[np.int64] = field(repr=False)  # [n_documents + 1], offsets into the sentences
    shards: tuple[str, ...] = field(repr=False)  # files of the folder, in order
    bounds: tuple[int, ...] = (0,)  # first document of each of its sources
    weights: tuple[float, ...] = (1.0,)  # of its sources: how often their pairs are seen in an epoch
    notes: tuple[str, ...] = ()  # what was left out or found in preparing it, a sentence each
    progress: bool = field(default=True, repr=False)  # whether to show a bar while tokenizing
    labelled: bool = False  # whether its documents are the rows of a labelled data set
    classes: bool = False  # whether the last sentence of each of its documents is a class
    one_book: bool = False  # whether it is a single book

    def __len__(self) -> int:
        """Number of sentences."""
        return int(self.documents[-1])

    @cached_property
    def _texts(self) -> Any:
        from datasets import Dataset, concatenate_datasets  # over a second to import; training needs only the tokens

        return concatenate_datasets([Dataset.from_file(str(self.folder / name)) for name in self.shards])

    def sentences(self, rows: slice | Sequence[int] | NDArray[Any]) -> list[str]:
        """Texts of these rows, in the order given. For looking: training reads tokens()."""
        return list(self._texts[rows if isinstance(rows, slice) else [int(row) for row in rows]]["text"])

    def tokens(self, tokenizer: Tokenizer, max_length: int, prompt: str = "") -> Tokens:
        """Every sentence as the tokenizer encodes it, special tokens included, cut to ``max_length`` ids.

        Kept beside the corpus for each tokenizer, length and ``prompt``, which goes before each sentence. The
        tokenizer's own padding and truncation are ignored.

        Raises:
            InputError: ``max_length`` leaves no room beside the special tokens and the prompt, or nothing was encoded
                at all.
        """
        from sentemb.corpus.prepare import tokenize

        own = Tokenizer.from_str(tokenizer.to_str())
        own.no_padding()
        own.no_truncation()
        if max_length <= (special := own.num_special_tokens_to_add(False)):
            raise InputError(f"max-length must be more than the {special} special tokens, got {max_length}")
        prompt_length = _prompt_length(own, prompt)
        if prompt and max_length <= len(own.encode(prompt).ids):
            raise InputError(f"max-length {max_length} leaves no room behind the prompt {prompt!r}; give a larger one")
        key = key_of(own.to_str(), *([prompt] if prompt else []))
        folder = self.folder / f"tokens-{key}-{max_length}"
        if (found := open_tokens(folder, prompt_length)) is None:
            own.enable_truncation(max_length)
            tokenize(self, own, folder, prompt)
            found = open_tokens(folder, prompt_length)
        if found is None:
            raise InputError(f"the tokenizer gives no token for any sentence of {self.name}")
        return found

    def split(self, held_out: float = 0.1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents for training and held-out, as ranges of sentence rows ``[n, 2]`` (start, stop).

        Held out is the last share of the documents (at least one) of each source, moved just so far that both sides
        have a neighbour pair. If only one document has two sentences, it is the end of that one (at least two
        sentences), and below four sentences there is nothing to hold out: both sides are then the same.

        Raises:
            ValueError: ``held_out`` is not between 0 and 1.
        """
        if not 0 < held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {held_out}")
        ranges = np.stack([self.documents[:-1], self.documents[1:]], axis=1)  # [n, 2]
        parts = [_split(part, held_out) for part in np.split(ranges, self.bounds[1:])]
        training, held = (np.concatenate(side) for side in zip(*parts, strict=True))
        return training, held

    def by_source(self, ranges: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Ranges of rows ``[n, 2]`` in order, as those of each source."""
        return np.split(ranges, np.searchsorted(ranges[:, 0], self.documents[list(self.bounds[1:])]))


def _split(ranges: NDArray[np.int64], held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    paired = np.flatnonzero(np.diff(ranges, axis=1) >= 2)
    if len(paired) >= 2:
        wanted = len(ranges) - max(1, round(held_out * len(ranges)))
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


def open_folder(folder: Path, name: str, key: str, weights: tuple[float, ...], progress: bool) -> Corpus | None:
    """The prepared corpus in a folder; None if it is missing or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        documents: NDArray[np.int64] = np.load(folder / "documents.npy")
        shards = tuple(str(shard["file"]) for shard in meta["shards"])
        whole = all((folder / shard["file"]).stat().st_size == shard["bytes"] for shard in meta["shards"])
        if not (whole and shards and int(documents[-1]) == meta["sentences"] and len(weights) == len(meta["bounds"])):
            return None
        bounds, notes = tuple(map(int, meta["bounds"])), tuple(map(str, meta["notes"]))
        return Corpus(name, key, folder, documents, shards, bounds, weights, notes, progress)
    except (OSError, ValueError, LookupError, EOFError, TypeError):
        return None
