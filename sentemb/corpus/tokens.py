"""Token ids of every sentence of a corpus, flat and memory-mapped."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentemb.corpus.hashing import splitmix64

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
            ids: uint16 or int32 ``[total]``. offsets: ``[sentences + 1]``. keys: see :func:`keys_of`. folder: where
            they are stored; None: nowhere.
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

    def flat(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Ids of all these sentences, one after the other, and how many of each."""
        starts, lengths = self._offsets[rows], self.lengths(rows)
        ends = np.cumsum(lengths)
        places = np.repeat(starts - ends + lengths, lengths)
        places += np.arange(len(places))
        return self._flat[places], lengths

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


def prompt_length_of(tokenizer: Tokenizer, prompt: str) -> int:
    """The number of ids of a prompt and of the special ids before it, as sentence-transformers counts them."""
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
            mixed = splitmix64(
                (ids[bounds[0] : bounds[-1]].astype(np.uint64) + np.uint64(1)) << np.uint64(24)
                | places.astype(np.uint64)
            )
            sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
            ends = bounds - bounds[0]
            out[first : first + len(lengths)] = sums[ends[1:]] - sums[ends[:-1]]
    return out.view(np.int64)


def open_tokens(folder: Path, prompt_length: int = 0) -> Tokens | None:
    """Tokens kept in a folder; None if they are not there or not whole. ``prompt_length``: see Tokens."""
    try:
        ids, offsets, keys = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "offsets", "keys"))
        is_complete = len(ids) and (len(keys), offsets[-1]) == (len(offsets) - 1, len(ids))
        return Tokens(ids, offsets, keys, folder, prompt_length) if is_complete else None
    except (OSError, ValueError, EOFError):
        return None
