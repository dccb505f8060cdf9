"""Positive pairs from a corpus, and the order in which training sees them.

Everything is a pure function of (ranges, lengths, seed, epoch): a run that resumes at step k computes the same order
again and starts at its k-th batch. To add a source of pairs: a function and a line in PAIRS.
"""

from collections.abc import Iterator

import numpy as np

from sentemb.registry import InputError


def neighbours(ranges: np.ndarray, window: int = 1) -> np.ndarray:
    """Pairs of sentences at most ``window`` apart in one document, the earlier first; none crosses a document.

    Args:
        ranges: int64 ``[documents, 2]``, first and one-past-last sentence row of each document.
        window: the greatest distance; 1 pairs each sentence with the next.

    Returns:
        int64 ``[pairs, 2]`` of sentence rows, by distance and then in order.
        Source: neighbours as positives, Logeswaran & Lee 2018 (arXiv 1803.02893), Wang & Isola 2020, appendix B.3.

    Raises:
        ValueError: window < 1. InputError: no document holds two sentences.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    starts, stops = np.asarray(ranges, dtype=np.int64).reshape(-1, 2).T
    found = []
    for distance in range(1, window + 1):
        counts = np.maximum(stops - starts - distance, 0)
        first = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        found.append(np.stack([first, first + distance], axis=1))
    pairs = np.concatenate(found)
    if not len(pairs):
        raise InputError("no document of the corpus holds two sentences, so there is no pair of neighbours to train on")
    return pairs


PAIRS = {"neighbours": neighbours}


def usable(pairs: np.ndarray, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The pairs worth training on: both sides have a token, and they are not the same sentence.

    Args:
        pairs: int64 ``[n, 2]`` sentence rows; ids, offsets: the flat tokens of all sentences (``corpus.Tokens``).
    """
    lengths = np.diff(offsets)
    first, second = lengths[pairs[:, 0]], lengths[pairs[:, 1]]
    keep = (first > 0) & (second > 0)
    for i in np.flatnonzero(keep & (first == second)):
        a, b = offsets[pairs[i]]
        keep[i] = not np.array_equal(ids[a : a + first[i]], ids[b : b + first[i]])
    return pairs[keep]


def draw(pairs: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of the pairs (all, if there are fewer), drawn without replacement with a fixed seed, in order."""
    chosen = np.random.default_rng(seed).choice(len(pairs), size=min(count, len(pairs)), replace=False)
    return pairs[np.sort(chosen)]


def batch_sizes(pairs: int, batch_size: int, processes: int) -> list[int]:
    """Global sizes of an epoch's batches: full ones, then what is left, a multiple of ``processes``, two pairs each.

    At most ``2 * processes - 1`` pairs of an epoch are left out, others in each epoch.
    """
    full = batch_size * processes
    rest = pairs % full // processes * processes
    return [full] * (pairs // full) + ([rest] if rest >= 2 * processes else [])


def batches(
    lengths: np.ndarray, batch_size: int, processes: int, rank: int, seed: int, epoch: int, window: int = 64
) -> Iterator[np.ndarray]:
    """One epoch's batches of this process, as indices of pairs.

    Pairs are shuffled, then sorted by length within windows of ``window`` batches, so that a batch pads little, then
    the batches are shuffled within their window. Process r takes every ``processes``-th pair of the global batch.

    Args:
        lengths: ``[pairs]`` tokens of the longer side of each pair.
        batch_size: pairs per process; processes, rank: how many processes there are and which this is.
        seed, epoch: they decide the order; the same on every process.
    """
    order_rng = np.random.default_rng((seed, epoch))
    order = order_rng.permutation(len(lengths))
    sizes = batch_sizes(len(lengths), batch_size, processes)
    for start in range(0, len(sizes), window):
        here = sizes[start : start + window]
        begin = sum(sizes[:start])
        chunk = order[begin : begin + sum(here)]
        if here[-1] == here[0]:  # (the smaller one is cut off before sorting: a random one, not the longest)
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        else:
            head = chunk[: -here[-1]]
            chunk = np.concatenate([head[np.argsort(lengths[head], kind="stable")], chunk[-here[-1] :]])
        parts = np.split(chunk, np.cumsum(here)[:-1])
        # A last, smaller batch stays last: the number of pairs seen then follows from the step alone.
        full = len(parts) - (here[-1] < here[0])
        for number in [*order_rng.permutation(full), *range(full, len(parts))]:
            yield parts[number][rank::processes]
