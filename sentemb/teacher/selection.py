"""Which sentences a teacher embeds: all of the training documents, or a run of each; copies once."""

import numpy as np
from numpy.typing import NDArray

SHORTEST_RUN = 16  # sentences of a run at least, unless its document is shorter, so that few neighbours are parted
BLOCK = 1_000_000  # sentences looked at together
SEED = 0  # always the same sentences, so that runs with different seeds share the embeddings


def sentence_runs(ranges: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Runs of neighbouring sentences of the documents, at most one of each, ``count`` sentences in all at most.

    Each document gives about the same share of its sentences, from a place drawn with a fixed seed; one too short for
    that is taken as a whole or left out. Fewer than SHORTEST_RUN sentences are lacking at the end.

    Args:
        ranges: int64 ``[documents, 2]``, first and one-past-last sentence row of each document.
        count: sentences wanted.

    Returns:
        int64 ``[runs, 2]``, in the order of ``ranges``; ``ranges`` where it has no more sentences than ``count``.
    """
    ranges = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    lengths = ranges[:, 1] - ranges[:, 0]
    total = int(lengths.sum())
    if count >= total:
        return ranges
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(ranges))
    runs = np.zeros(len(ranges), dtype=np.int64)
    owed = 0  # (in units of 1 / total of a sentence, so that it is exact)
    for document, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        owed += count * length
        if owed >= min(length, SHORTEST_RUN) * total:
            runs[document] = min(length, owed // total)
            owed -= int(runs[document]) * total
    starts = ranges[:, 0] + generator.integers(0, lengths - runs, endpoint=True)
    return np.stack([starts, starts + runs], axis=1)[runs > 0]


def distinct_sentences(
    keys: NDArray[np.int64], ranges: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct sentences of some ranges of rows, in the order of their keys, which are hashes: a random order.

    So any part of them is a sample of all, with sentences of all lengths.

    Args:
        keys: int64 ``[sentences]``, equal where sentences are copies.
        ranges: int64 ``[n, 2]``, first and one-past-last row of each.

    Returns:
        The first row of each distinct sentence, ``[distinct]``, and of each row of the corpus the number of its
        distinct sentence, ``[sentences]``, -1 outside of the ranges. (int32 and blocks, as a corpus of 74 million
        sentences would otherwise take more than 2 GiB.)
    """
    wanted = np.zeros(len(keys), dtype=bool)
    for start, stop in ranges.tolist():
        wanted[start:stop] = True
    rows = np.flatnonzero(wanted).astype(np.int32)
    chosen = keys[rows]
    order = np.argsort(chosen, kind="stable")
    starts = np.ones(len(order), dtype=bool)  # whether a sentence is the first of its copies, in this order
    for first in range(1, len(order), BLOCK):
        part = chosen[order[first - 1 : first + BLOCK]]
        starts[first : first + BLOCK] = part[1:] != part[:-1]
    del chosen
    numbers = np.full(len(keys), -1, dtype=np.int32)
    before = 0
    for first in range(0, len(order), BLOCK):
        groups = before + np.cumsum(starts[first : first + BLOCK], dtype=np.int32)
        numbers[rows[order[first : first + BLOCK]]] = groups - 1
        before = int(groups[-1])
    return rows[order[starts]], numbers
