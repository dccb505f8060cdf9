"""Positive pairs from a corpus, and the order in which training sees them.

Everything is a pure function of (ranges, lengths, seed, epoch): a run that resumes at step k computes the same order
again and starts at its k-th batch. To add a source of pairs: a function that returns Pairs, and a line in PAIRS.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sentemb.augment import AUGMENTATIONS, Noise
from sentemb.registry import InputError, choose

GAP = 1000  # how much further apart the positions of two documents are, so that no offset leads from one to the other


@dataclass(frozen=True)
class Pairs:
    """What is encoded together: each row an anchor, its positive and, in further columns, its hard negatives.

    Runs of sentences have one column instead, and ``positions``.
    """

    rows: np.ndarray  # int64 [m, k], sentence rows of the corpus
    positions: np.ndarray | None = (
        None  # int64 [m], one apart where sentences are neighbours; None if these are no runs
    )
    views: bool = False  # whether both sides are one sentence, so that some noise must tell them apart
    noise: Noise | None = None  # what is done to the second side
    labels: np.ndarray | None = None  # int64 [m], equal where pairs are of one class

    def __len__(self) -> int:
        """Pairs, or sentences of runs."""
        return len(self.rows)

    @property
    def runs(self) -> bool:
        """Whether a batch is a run of consecutive sentences, whose neighbours are each other's positives."""
        return self.positions is not None

    @property
    def negatives(self) -> int:
        """Hard negatives a pair."""
        return max(0, self.rows.shape[1] - 2)

    def only(self, chosen: np.ndarray | slice) -> "Pairs":
        """Those of these indices (or of a mask ``[m]``)."""
        positions = None if self.positions is None else self.positions[chosen]
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, rows=self.rows[chosen], positions=positions, labels=labels)


def neighbours(ranges: np.ndarray, window: int = 1, both: bool = False) -> Pairs:
    """Pairs of sentences at most ``window`` apart in one document, the earlier first; none crosses a document.

    Args:
        ranges: int64 ``[documents, 2]``, first and one-past-last sentence row of each document.
        window: the greatest distance; 1 pairs each sentence with the next.
        both: each pair also the other way round, the later sentence as the anchor.

    Source: neighbours as positives, Logeswaran & Lee 2018 (arXiv 1803.02893), Wang & Isola 2020, appendix B.3.

    Raises:
        ValueError: window < 1. InputError: no document holds two sentences.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    starts, stops = _bounds(ranges)
    found = []
    for distance in range(1, window + 1):
        counts = np.maximum(stops - starts - distance, 0)
        first = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        found.append(np.stack([first, first + distance], axis=1))
    pairs = np.concatenate(found)
    if not len(pairs):
        raise InputError("no document of the corpus holds two sentences, so there is no pair of neighbours to train on")
    return Pairs(np.concatenate([pairs, pairs[:, ::-1]]) if both else pairs)


def contiguous(ranges: np.ndarray) -> Pairs:
    """Batches that are runs of consecutive sentences, each with its two neighbours as joint targets.

    Runs go on over the end of a document, but sentences of two documents are no neighbours.
    Source: Quick-Thoughts, Logeswaran & Lee 2018 (arXiv 1803.02893); Wang & Isola 2020, appendix B.3.
    """
    starts, stops = _bounds(ranges)
    document = np.repeat(np.arange(len(starts)), stops - starts)
    rows = _every(ranges)
    return Pairs(rows[:, None], positions=rows + GAP * document)


def dropout(ranges: np.ndarray) -> Pairs:
    """Each sentence twice, the encoder's dropout the only noise: unsupervised SimCSE, Gao et al. 2021 (2104.08821)."""
    rows = _every(ranges)
    return Pairs(np.stack([rows, rows], axis=1), views=True)


def augment(ranges: np.ndarray, how: str = "repeat", rate: float = 0.32) -> Pairs:
    """Each sentence twice, the second time changed; the encoder's dropout stays on top of it.

    Args:
        ranges: as for :func:`neighbours`.
        how: repeat (words said twice, ESimCSE), delete (words left out), crop (a run of words kept), shuffle (the
            words of a run in another order).
        rate: share of the sentence's words that are changed, in [0, 1); at least one word is (repeat: none to all of
            the share, at random). delete with rate 0 is SimCSE's "delete one word"; crop with rate 0.1 its "crop 10 %".

    Source: SimCSE, Gao et al. 2021 (arXiv 2104.08821), table 1; word repetition: ESimCSE, Wu et al. 2021 (2109.04380).

    Raises:
        ValueError: rate outside [0, 1). InputError: unknown ``how``.
    """
    change = AUGMENTATIONS[choose("how", how, AUGMENTATIONS)]
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1), got {rate}")
    rows = _every(ranges)
    return Pairs(np.stack([rows, rows], axis=1), views=True, noise=Noise(change, rate))


def labelled(ranges: np.ndarray) -> Pairs:
    """Rows of a labelled data set (corpus ``labelled:path=...``): anchor, positive and any hard negatives.

    Raises:
        InputError: documents of different lengths, so no such data set.
    """
    starts, stops = _bounds(ranges)
    columns = np.unique(stops - starts)
    if len(columns) != 1 or columns[0] < 2:
        raise InputError("labelled pairs need a labelled corpus; write --corpus labelled:path=FILE")
    return Pairs(starts[:, None] + np.arange(columns[0]))


PAIRS = {
    "neighbours": neighbours,
    "contiguous": contiguous,
    "dropout": dropout,
    "augment": augment,
    "labelled": labelled,
}


def _bounds(ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts, stops = np.asarray(ranges, dtype=np.int64).reshape(-1, 2).T
    return starts, stops


def _every(ranges: np.ndarray) -> np.ndarray:
    """Each sentence row of the ranges, ``[sentences]``."""
    return np.concatenate([np.arange(start, stop) for start, stop in zip(*_bounds(ranges), strict=True)])


def usable(pairs: Pairs, lengths: np.ndarray, same: np.ndarray) -> Pairs:
    """The rows worth training on: every side has a token, and a sentence is not paired with a copy of itself.

    (Where both sides are one sentence by intent, ``views``, only empty ones are left out.)

    Args:
        pairs: of sentence rows. lengths: ``[sentences]`` tokens in each.
        same: ``[sentences]``, equal where two sentences are the same tokens (``Tokens.distinct``).
    """
    rows = pairs.rows
    keep = (lengths[rows] > 0).all(axis=1)
    if not (pairs.runs or pairs.views):
        keep &= same[rows[:, 0]] != same[rows[:, 1]]
    return pairs.only(keep)


def sample(pairs: Pairs, count: int | None, seed: int) -> Pairs:
    """``count`` of the pairs drawn with a fixed seed (all, if there are fewer); of runs the first ones."""
    if count is None or count >= len(pairs):
        return pairs
    return pairs.only(slice(count) if pairs.runs else draw(np.arange(len(pairs)), count, seed))


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


def runs(
    lengths: np.ndarray, batch_size: int, processes: int, rank: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """As :func:`batches` where a batch is a run of consecutive rows: each epoch is cut at other places and shuffled.

    Process r takes the r-th part of the global run, so that the joined batch is that run, in order.
    """
    order_rng = np.random.default_rng((seed, epoch))
    sizes = batch_sizes(len(lengths), batch_size, processes)
    spare = len(lengths) - sum(sizes)
    first = int(order_rng.integers(spare + 1))
    tail = sizes[-1] if sizes and sizes[-1] < sizes[0] else 0
    tail_first = bool(tail and order_rng.integers(2))  # the smaller run is the first or the last of the text
    full = len(sizes) - bool(tail)
    begin = first + (tail if tail_first else 0)
    starts = [begin + int(number) * sizes[0] for number in order_rng.permutation(full)] if sizes else []
    if tail:
        starts.append(first if tail_first else first + full * sizes[0])
    for start, size in zip(starts, sizes, strict=True):
        each = size // processes
        yield np.arange(start + rank * each, start + (rank + 1) * each)
