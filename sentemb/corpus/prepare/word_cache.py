"""Tokenizing a corpus word by word: each distinct word goes through the tokenizer once.

Most tokenizers treat what stands between two spaces by itself, and most words of a text have been met before. Where a
tokenizer is such a kind (:func:`by_words`), the ids of a sentence are those of its words, looked up.
"""

import json
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

MAX_WORDS = 500_000  # remembered at most: some 60 MB; then they are forgotten, and the frequent ones soon met again
CHECKED = 200  # sentences that are also encoded whole, to be sure

# The first step has to cut at white space and drop it: byte-level BPE alone keeps it, so what comes of a word that the
# normalizer empties or spaces out depends on the words around it.
CUTTING = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
PRE_TOKENIZERS = {"BertPreTokenizer", "ByteLevel", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"}


def by_words(tokenizer: Tokenizer) -> bool:
    """Whether no part of the tokenizer looks beyond a word."""
    content = json.loads(tokenizer.to_str())
    steps = _steps(content["pre_tokenizer"], "pretokenizers")
    normal = {step["type"] for step in _steps(content["normalizer"], "normalizers")} <= NORMALIZERS
    local = {step["type"] for step in steps} <= PRE_TOKENIZERS and bool(steps) and steps[0]["type"] in CUTTING
    spaced = all(step.get("add_prefix_space", True) for step in steps if step["type"] == "ByteLevel")
    spaceless = all(" " not in token["content"] for token in content["added_tokens"])
    cut = content["truncation"] is None or content["truncation"]["direction"] == "Right"
    return normal and local and spaced and spaceless and cut


def _steps(part: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return [step for each in part[inside] for step in _steps(each, inside)] if part["type"] == "Sequence" else [part]


class WordwiseTokenizer:
    """Sentences to token ids, as the tokenizer's own ``encode_batch``, but faster."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._words = _Words(tokenizer) if by_words(tokenizer) else None
        self.trusted = False  # until a check; the same text gives the same ids whatever was encoded before

    def check(self, texts: list[str]) -> None:
        """Compare ids by word with ids by sentence. Words are used until the next check, if both agree."""
        self.trusted = False
        if self._words is not None:
            wordwise, expected = self._words.encode(texts), self._encode_batch(texts)
            self.trusted = all(np.array_equal(a, b) for a, b in zip(wordwise, expected, strict=True))

    def encode(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of all the sentences, flat, and how many of each, ``[sentences]``."""
        return self._words.encode(texts) if self._words is not None and self.trusted else self._encode_batch(texts)

    def _encode_batch(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum())), lengths


class _Words(dict[str, int]):
    """The number of each word that was met, and after it its ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        limit = (tokenizer.truncation or {"max_length": 1 << 40})["max_length"]
        self._before, self._after = _special(self._tokenizer)
        self._limit = limit - len(self._before) - len(self._after)
        self._forget()

    def _forget(self) -> None:
        self.clear()
        self._new: list[str] = []
        self._ids = np.zeros(1 << 20, dtype=np.int32)
        self._ends = np.zeros(MAX_WORDS + 1, dtype=np.int64)  # of each word's ids; the word before begins there
        self._encoded_count = 0

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self._new.append(word)
        return number

    def _learn(self) -> None:
        """Encode the new words."""
        rows = [e.ids for e in self._tokenizer.encode_batch_fast(self._new, add_special_tokens=False)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        start = int(self._ends[self._encoded_count])
        stop, encoded_count = start + int(lengths.sum()), self._encoded_count + len(rows)
        while stop > len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        if encoded_count >= len(self._ends):
            self._ends = np.concatenate([self._ends, np.zeros(encoded_count, dtype=np.int64)])
        self._ids[start:stop] = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=stop - start)
        self._ends[self._encoded_count + 1 : encoded_count + 1] = start + np.cumsum(lengths)
        self._encoded_count, self._new = encoded_count, []

    def encode(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As :meth:`WordwiseTokenizer.encode`."""
        if len(self) > MAX_WORDS:
            self._forget()
        split = [text.split() for text in texts]  # (a corpus has single spaces, and no other white space)
        words = np.fromiter(map(self.__getitem__, chain.from_iterable(split)), dtype=np.int64)
        if self._new:
            self._learn()
        starts, counts = self._ends[words], self._ends[words + 1] - self._ends[words]  # of each word
        sentences = _ends(np.fromiter(map(len, split), dtype=np.int64, count=len(split)))
        bounds = _ends(counts)[sentences]  # of the sentences, in tokens
        lengths = np.minimum(np.diff(bounds), self._limit)
        content = self._ids[np.repeat(starts - _ends(counts)[:-1], counts) + np.arange(bounds[-1])]
        if (np.diff(bounds) > self._limit).any():
            content = content[np.arange(bounds[-1]) - np.repeat(bounds[:-1], np.diff(bounds)) < self._limit]
        before, after = len(self._before), len(self._after)
        if not before + after:
            return content.astype(np.int64), lengths
        bounds_with_special = _ends(lengths + before + after)
        out = np.empty(bounds_with_special[-1], dtype=np.int64)
        inside = np.ones(len(out), dtype=bool)
        for place, special in enumerate(self._before):
            out[bounds_with_special[:-1] + place], inside[bounds_with_special[:-1] + place] = special, False
        for place, special in enumerate(reversed(self._after), start=1):
            out[bounds_with_special[1:] - place], inside[bounds_with_special[1:] - place] = special, False
        out[inside] = content
        return out, lengths + before + after


def _ends(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _special(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that stand before and after those of each sentence."""
    text = "a"
    inside, with_special = tokenizer.encode(text, add_special_tokens=False).ids, tokenizer.encode(text).ids
    count = len(with_special) - len(inside)
    for before in range(count + 1):
        if with_special[before : before + len(inside)] == inside:
            return with_special[:before], with_special[before + len(inside) :]
    return with_special, []  # (no such form: the check finds it)
