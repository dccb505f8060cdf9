"""Which sentences a teacher embeds: all of the training documents, or a run of each; copies once."""

import numpy as np
from numpy.typing import NDArray

SHORTEST_RUN = 16  # sentences of a run at least, unless its document is shorter, so that few neighbours are parted
BLOCK = 1_000_000  # sentences read together
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
        distinct sentence, ``[sentences]``, -1 outside of the ranges. (int32 and an eighth of the keys at a time, as a
        corpus of 74 million sentences would take more than 2 GiB.)
    """
    wanted = np.zeros(len(keys), dtype=bool)
    for start, stop in ranges.tolist():
        wanted[start:stop] = True
    numbers = np.full(len(keys), -1, dtype=np.int32)
    first_rows, before = [np.zeros(0, dtype=np.int32)], 0
    for part in range(-4, 4):
        blocks = [slice(start, start + BLOCK) for start in range(0, len(keys), BLOCK)]
        of_part = [np.flatnonzero(wanted[block] & (keys[block] >> 61 == part)) + block.start for block in blocks]
        rows = np.concatenate(of_part)
        rows = rows[np.argsort(keys[rows], kind="stable")]
        sorted_keys = keys[rows]
        is_first = np.ones(len(rows), dtype=bool)
        is_first[1:] = sorted_keys[1:] != sorted_keys[:-1]
        numbers[rows] = before + np.cumsum(is_first) - 1
        first_rows.append(rows[is_first].astype(np.int32))
        before += len(first_rows[-1])
    return np.concatenate(first_rows), numbers
