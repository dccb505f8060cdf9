"""Changes to the words of a sentence that roughly preserve its meaning: SimCSE's table of augmentations."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

Change = Callable[[int, float, np.random.Generator], np.ndarray]  # words, rate -> positions of the words that follow


def repeat(words: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Some words twice in a row: none up to ``max(2, rate * words)`` of them (ESimCSE, Wu et al. 2021, section 3.1)."""
    most = min(words, max(2, int(rate * words)))
    twice = rng.choice(words, size=int(rng.integers(most + 1)), replace=False)
    return np.repeat(np.arange(words), 1 + np.isin(np.arange(words), twice))


def delete(words: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """``max(1, rate * words)`` words left out, at random places."""
    return np.sort(rng.choice(words, size=words - _changed(words, rate), replace=False))


def crop(words: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A run of words kept, ``max(1, rate * words)`` shorter than the sentence."""
    run_length = words - _changed(words, rate)
    start = int(rng.integers(words - run_length + 1))
    return np.arange(start, start + run_length)


def shuffle(words: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """The words of a run of ``max(2, rate * words)`` in another order."""
    size = min(words, max(2, round(rate * words)))
    start = int(rng.integers(words - size + 1))
    order = np.arange(words)
    order[start : start + size] = rng.permutation(order[start : start + size])
    return order


AUGMENTATIONS: dict[str, Change] = {"repeat": repeat, "delete": delete, "crop": crop, "shuffle": shuffle}


@dataclass(frozen=True)
class Composed:
    """Several changes, each of what the one before has left."""

    changes: tuple[Change, ...]

    def __call__(self, words: int, rate: float, rng: np.random.Generator) -> np.ndarray:
        """As each of the changes."""
        positions = np.arange(words)
        for change in self.changes:
            positions = positions[change(len(positions), rate, rng)]
        return positions


def _changed(words: int, rate: float) -> int:
    """Words to take away: the share, at least one, never the last one left."""
    return min(words - 1, max(1, round(rate * words)))


@dataclass(frozen=True)
class Noise:
    """A change of a sentence's words and how much of it."""

    change: Change
    rate: float


@dataclass(frozen=True)
class Words:
    """How a tokenizer's ids make words: which continue one, and which are special and stay where they are."""

    continues: np.ndarray  # bool [vocabulary]
    special: np.ndarray  # bool [vocabulary]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Words":
        """Read off the vocabulary: ``##`` continues a word (WordPiece), else what lacks the mark of a space does."""
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        size = max(vocabulary.values(), default=0) + 1
        continues, special = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        spaced = any(token[:1] in "Ġ▁" and len(token) > 1 for token in vocabulary)
        for token, number in vocabulary.items():
            continues[number] = token[:1] not in "Ġ▁" if spaced else token.startswith("##") and len(token) > 2
        for number, added in tokenizer.get_added_tokens_decoder().items():
            special[number] = added.special
        for name in ("[CLS]", "[SEP]", "<s>", "</s>"):
            if name in vocabulary:
                special[vocabulary[name]] = True
        return cls(continues & ~special, special)

    def changed(self, ids: np.ndarray, noise: Noise, rng: np.random.Generator, longest: int) -> np.ndarray:
        """``ids`` ``[length]`` with its words changed, at most ``longest`` of them; special tokens keep their ends."""
        inner = np.flatnonzero(~self.special[ids])
        if not len(inner):
            return ids
        first, last = int(inner[0]), int(inner[-1]) + 1
        before, body, after = ids[:first], ids[first:last], ids[last:]
        starts = np.flatnonzero(~self.continues[body])
        starts = starts if len(starts) and starts[0] == 0 else np.concatenate([[0], starts])
        words = np.split(body, starts[1:])
        changed_words = [words[i] for i in noise.change(len(words), noise.rate, rng)]
        room = max(1, longest - len(before) - len(after))
        return np.concatenate([before, np.concatenate(changed_words)[:room], after])
