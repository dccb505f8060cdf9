"""Estimate the time and disk space of a teacher, from measured batches of all lengths."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentemb.corpus import Tokens

SAMPLED = 20_000  # sentences whose lengths stand for all
MEASURED = 6  # batches that are measured, at most
SHARE = 20  # ... and one in this number
BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "binary": 1 / 8}  # of a number, by precision


@dataclass(frozen=True)
class Estimate:
    """The cost of a teacher's pass. The user reads its text before the pass starts."""

    sentences: int  # that are left
    all_sentences: int
    dimension: int
    seconds: float
    role: str = "teacher"  # what embeds
    precision: str = "float16"
    unit: str = "sentences"  # what it embeds

    @property
    def gigabytes(self) -> str:
        """The size of all embeddings in words."""
        return size_in_words(BYTES[self.precision] * self.all_sentences * self.dimension)

    def __str__(self) -> str:
        left = "" if self.sentences == self.all_sentences else f"{self.sentences:,} left of "
        rate = self.sentences / max(self.seconds, 1e-9)
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return (
            f"{self.role}: {left}{self.all_sentences:,} {self.unit} x {self.dimension:,} in {self.precision}: "
            f"{self.gigabytes}, about {time_in_words(self.seconds)} ({speed} {self.unit}/s)"
        )


def batches_of(lengths: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """Places of sentences in batches of like length, the shortest first, of about ``tokens`` tokens each."""
    order = np.argsort(lengths, kind="stable")
    batch = (np.cumsum(np.maximum(lengths[order], 1)) - 1) // tokens
    return np.split(order, np.flatnonzero(np.diff(batch)) + 1)


def seconds_left(
    tokens: Tokens, rows: NDArray[np.int32], size: int, embed: Callable[[NDArray[np.int32]], object]
) -> float:
    """Seconds that embedding the sentences of these rows will take.

    The sentences of a sample are put into batches as the pass makes them, and evenly spread ones of these, from the
    shortest sentences to the longest, are embedded after one that warms up.

    Args:
        tokens: of all sentences. rows: ``[n]``, in random order.
        size: tokens of a batch.
        embed: embeds the sentences of some rows.
    """
    sample = rows[np.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).astype(np.int64)]
    lengths = tokens.lengths(sample.astype(np.int64))
    batches = batches_of(lengths, size)
    count = min(MEASURED, max(1, len(batches) // SHARE))
    measured = [batches[int((number + 0.5) * len(batches) / count)] for number in range(count)]
    embed(sample[measured[0]][: len(measured[0]) // 4 + 1])
    start = time.perf_counter()
    for places in measured:
        embed(sample[places])
    seconds = time.perf_counter() - start
    measured_tokens = sum(int(lengths[places].sum()) for places in measured)
    return seconds / max(measured_tokens, 1) * float(lengths.mean()) * len(rows)


def size_in_words(size: float) -> str:
    """Bytes as ``77 MB`` or ``1.2 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def time_in_words(seconds: float) -> str:
    """Seconds as ``12 seconds``, ``3.5 minutes`` or ``1.2 hours``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds" if seconds >= 1.5 else "1 second"
    return f"{seconds / 60:.1f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
