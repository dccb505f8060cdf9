"""Positive pairs from a corpus, computed on demand: those of 74 million sentences take no memory.

To add a source of pairs: a function that returns Pairs, and a line in PAIRS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sentemb.corpus import Tokens
from sentemb.errors import InputError
from sentemb.pairs.augmentations import AUGMENTATIONS, Composed, Noise
from sentemb.pairs.lazy import Lazy, Numbers, Selection
from sentemb.pairs.negatives import PairNegatives
from sentemb.pairs.passages import PassagePairs, PassageSettings, PassageText
from sentemb.pairs.permutation import Permutation
from sentemb.registry import choose

AT_ONCE = 1_000_000  # pairs read
GAP = 1000  # how much further apart the positions of two documents are, so that no offset leads from one to the other


@dataclass(frozen=True)
class Pairs:
    """Rows of an anchor, its positive and, in further columns, its hard negatives.

    Runs of sentences have one column instead, and ``positions``. Pairs of passages have the first and the last sentence
    of each passage, and ``passages``, which makes both sides of it.
    """

    rows: np.ndarray | Lazy  # int64 [m, k], sentence rows of the corpus
    positions: np.ndarray | Lazy | None = None  # int64 [m], one apart where sentences are neighbours; None: no runs
    self_pairs: bool = False  # whether both sides are one sentence, so that only noise can make them differ
    noise: Noise | None = None  # what is done to the second side
    labels: np.ndarray | None = None  # int64 [m], equal where pairs belong to one class
    passages: PassagePairs | None = None  # makes both sides, where ``rows`` bound passages; None: rows are sentences
    negatives: PairNegatives | None = None  # further hard negatives, of pairs by number

    def __len__(self) -> int:
        """Pairs, or sentences of runs."""
        return len(self.rows)

    @property
    def are_contiguous(self) -> bool:
        """Whether a batch is a run of consecutive sentences, whose neighbours are each other's positives."""
        return self.positions is not None

    @property
    def num_hard_negatives(self) -> int:
        """Hard negatives a pair."""
        return max(0, self.rows.shape[1] - 2) + (0 if self.negatives is None else self.negatives.per_pair)

    def columns(self, numbers: Numbers) -> Numbers:
        """Sentence rows ``[n, columns]`` of these pairs, the further hard negatives after the others.

        Where one is missing stands the anchor, which objectives do not count among its own negatives as it is a copy.
        Of passages these are the first and the last sentence, without hard negatives.
        """
        rows = self.rows[numbers]
        if self.negatives is None or self.passages is not None:
            return rows
        negatives = self.negatives.of(numbers)
        return np.concatenate([rows, np.where(negatives < 0, rows[:, :1], negatives)], axis=1)

    def refuse_passages(self, what: str) -> None:
        """InputError if these are pairs of passages, for ``what`` knows the sentences of a corpus only."""
        if self.passages is not None:
            raise InputError(
                f"{what} works on single sentences, and --pairs passages gives other texts; leave it out, or "
                "choose other pairs"
            )

    def select(self, count: int, chosen: Callable[[Numbers], Numbers]) -> "Pairs":
        """``count`` of them: the i-th is the one numbered ``chosen(i)``."""
        positions = None if self.positions is None else Lazy((count,), partial(_through, self.positions, chosen))
        labels = None if self.labels is None else self.labels[chosen(np.arange(count))]
        rows = Lazy((count, self.rows.shape[1]), partial(_through, self.rows, chosen))
        return replace(self, rows=rows, positions=positions, labels=labels)


def _through(values: np.ndarray | Lazy, chosen: Callable[[Numbers], Numbers], numbers: Numbers) -> Numbers:
    return values[chosen(numbers)]


def evenly_spread(ranges: np.ndarray, documents: int) -> np.ndarray:
    """This number of documents, evenly spread over the corpus; all of them where there are no more.

    Args:
        ranges: int64 ``[n, 2]``, first and one-past-last sentence row of each document.
    """
    if documents >= len(ranges):
        return ranges
    return np.asarray(ranges)[np.linspace(0, len(ranges) - 1, documents).round().astype(int)]


def neighbours(
    ranges: np.ndarray, window: int = 1, both: bool = False, documents: int = 0, classes: bool = False
) -> Pairs:
    """Pairs of sentences at most ``window`` apart in one document, the earlier first; none crosses a document.

    Args:
        ranges: int64 ``[documents, 2]``, first and one-past-last sentence row of each document.
        window: the greatest distance; 1 pairs each sentence with the next.
        both: each pair also the other way round, the later sentence as the anchor.
        documents: of this number of documents only, evenly spread over the corpus; 0: of all.
        classes: the number of its document (0, 1, ...) is a pair's class, for objectives that learn from classes.

    Source: neighbours as positives, Logeswaran & Lee 2018 (arXiv 1803.02893), Wang & Isola 2020, appendix B.3.

    Raises:
        ValueError: window < 1 or documents < 0. InputError: no document holds two sentences.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if documents < 0:
        raise ValueError(f"documents must be at least 1, or 0 for all, got {documents}")
    if documents:
        ranges = evenly_spread(ranges, documents)
    starts, stops = _bounds(ranges)
    before = [_before(np.maximum(stops - starts - distance, 0)) for distance in range(1, window + 1)]
    sizes = _before(np.array([counts[-1] for counts in before]))
    if not sizes[-1]:
        raise InputError("no document of the corpus holds two sentences, so there is no pair of neighbours to train on")
    count = int(sizes[-1])
    rows = Lazy((count * (1 + both), 2), partial(_neighbours, starts, before, sizes, count))
    if not classes:
        return Pairs(rows)
    labels = np.concatenate([np.repeat(np.arange(len(starts)), np.diff(counts)) for counts in before])
    return Pairs(rows, labels=np.tile(labels, 1 + both))


def _neighbours(starts: Numbers, before: list[Numbers], sizes: Numbers, count: int, numbers: Numbers) -> Numbers:
    """Pairs of these numbers: by distance, then by document; beyond ``count`` the same ones the other way round."""
    turned, numbers = numbers >= count, numbers % count
    distance = np.searchsorted(sizes, numbers, side="right") - 1
    numbers = numbers - sizes[distance]
    first = np.empty_like(numbers)
    for number, counts in enumerate(before):
        at_distance = distance == number
        document = np.searchsorted(counts, numbers[at_distance], side="right") - 1
        first[at_distance] = starts[document] + numbers[at_distance] - counts[document]
    pairs = np.stack([first, first + distance + 1], axis=1)
    pairs[turned] = pairs[turned, ::-1]
    return pairs


def contiguous(ranges: np.ndarray) -> Pairs:
    """Batches that are runs of consecutive sentences, each with its two neighbours as joint targets.

    Runs continue over the end of a document, but sentences of two documents are not neighbours.
    Source: Quick-Thoughts, Logeswaran & Lee 2018 (arXiv 1803.02893); Wang & Isola 2020, appendix B.3.
    """
    rows = _every(ranges, 1)
    starts, before = _within(ranges)
    return Pairs(rows, positions=Lazy((len(rows),), partial(_positions, starts, before)))


def _positions(starts: Numbers, before: Numbers, numbers: Numbers) -> Numbers:
    document = np.searchsorted(before, numbers, side="right") - 1
    return starts[document] + numbers - before[document] + GAP * document


def dropout(ranges: np.ndarray) -> Pairs:
    """Each sentence twice, the encoder's dropout the only noise: unsupervised SimCSE, Gao et al. 2021 (2104.08821)."""
    return Pairs(_every(ranges, 2), self_pairs=True)


def augment(ranges: np.ndarray, how: str = "repeat", rate: float = 0.32) -> Pairs:
    """Each sentence twice, the second time changed; the encoder's dropout stays on top of it.

    Args:
        ranges: as for :func:`neighbours`.
        how: repeat (words said twice, ESimCSE), delete (words left out), crop (a run of words kept), shuffle (the
            words of a run in another order). Several with + between them follow one another, as in delete+crop.
        rate: share of the sentence's words that are changed, in [0, 1); at least one word is (repeat: none to all of
            the share, at random). delete with rate 0 is SimCSE's "delete one word"; crop with rate 0.1 its "crop 10 %".

    Source: SimCSE, Gao et al. 2021 (arXiv 2104.08821), table 1; word repetition: ESimCSE, Wu et al. 2021 (2109.04380).

    Raises:
        ValueError: rate outside [0, 1). InputError: unknown ``how``.
    """
    changes = tuple(AUGMENTATIONS[choose("how", name, AUGMENTATIONS)] for name in how.split("+"))
    change = changes[0] if len(changes) == 1 else Composed(changes)
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1), got {rate}")
    return Pairs(_every(ranges, 2), self_pairs=True, noise=Noise(change, rate))


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


def passages(
    ranges: np.ndarray,
    text: Callable[[], PassageText] | None = None,
    settings: PassageSettings = PassageSettings(),
) -> Pairs:
    """Two texts of one passage: a sentence and the rest, two crops, or its title and the passage.

    Args:
        ranges: as for :func:`neighbours`.
        text: makes the tokens that passages consist of (:func:`sentemb.pairs.passage_text`).
        settings: how passages are cut and made into pairs, as options of the spec.

    Sources: inverse_cloze, Lee et al. 2019 (arXiv 1906.00300), whose passages have at most 288 tokens and lose the
    sentence in 90 % of the pairs; crops, Contriever, Izacard et al. 2021 (arXiv 2112.09118), whose texts have 256
    tokens and crops 5 to 50 % of them.

    Raises:
        InputError: there is no ``text``, no passage, or no title where titles are needed.
    """
    if text is None:
        raise InputError(
            "passages are made of tokens; pass text=lambda: sentemb.pairs.passage_text(corpus, tokenizer, max_length)"
        )
    made = PassagePairs(text(), settings)
    return Pairs(made.bounds(ranges), passages=made)


PAIRS = {
    "neighbours": neighbours,
    "contiguous": contiguous,
    "dropout": dropout,
    "augment": augment,
    "labelled": labelled,
    "passages": passages,
}


def _bounds(ranges: np.ndarray) -> tuple[Numbers, Numbers]:
    starts, stops = np.asarray(ranges, dtype=np.int64).reshape(-1, 2).T
    return starts, stops


def _before(counts: Numbers) -> Numbers:
    """How many there are before each, and in all, ``[n + 1]``."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _within(ranges: np.ndarray) -> tuple[Numbers, Numbers]:
    """First rows of the ranges that hold any, and how many rows there are before each."""
    starts, stops = _bounds(ranges)
    filled = stops > starts
    return starts[filled], _before(stops[filled] - starts[filled])


def _every(ranges: np.ndarray, columns: int) -> Lazy:
    """Each sentence row of the ranges, as often as there are columns."""
    starts, before = _within(ranges)
    return Lazy((int(before[-1]), columns), partial(_row_of, starts, before, columns))


def _row_of(starts: Numbers, before: Numbers, columns: int, numbers: Numbers) -> Numbers:
    document = np.searchsorted(before, numbers, side="right") - 1
    return np.repeat((starts[document] + numbers - before[document])[:, None], columns, axis=1)


def sample(pairs: Pairs, count: int | None, seed: int) -> Pairs:
    """``count`` of the pairs drawn with a fixed seed (all, if there are fewer); of runs the first ones."""
    if count is None or count >= len(pairs):
        return pairs
    if pairs.are_contiguous:
        return pairs.select(count, _same)
    return pairs.select(count, Permutation(len(pairs), seed).__getitem__)


def _same(numbers: Numbers) -> Numbers:
    return numbers


def joined(parts: Sequence[Pairs], weights: Sequence[float], seed: int) -> Pairs:
    """Pairs of several sources, each as often in an epoch as its weight says.

    A weight of 2.5 has each pair twice and a seeded half of them a third time, one of 0.5 a seeded half of them.

    Raises:
        InputError: runs, which have no such order, with weights other than 1.
    """
    if len(parts) == 1 and weights[0] == 1:
        return parts[0]
    if parts[0].labels is not None:
        raise InputError("classes=true needs sources without weights; leave the weights out")
    if parts[0].are_contiguous:
        raise InputError(
            "runs of consecutive sentences cannot be weighted; leave the weights out, or choose neighbours"
        )
    counts = [
        max(1, round(weight * len(pairs))) if len(pairs) else 0 for pairs, weight in zip(parts, weights, strict=True)
    ]
    before = _before(np.array(counts))
    orders = [Permutation(len(pairs), seed, number) for number, pairs in enumerate(parts)]
    shape = (int(before[-1]), parts[0].rows.shape[1])
    return replace(parts[0], rows=Lazy(shape, partial(_of_parts, [pairs.rows for pairs in parts], orders, before)))


def _of_parts(
    rows: Sequence[np.ndarray | Lazy], orders: Sequence[Permutation], before: Numbers, numbers: Numbers
) -> Numbers:
    part = np.searchsorted(before, numbers, side="right") - 1
    out = np.empty((len(numbers), rows[0].shape[1]), dtype=np.int64)
    for number, (source_rows, order) in enumerate(zip(rows, orders, strict=True)):
        from_source = part == number
        if from_source.any():
            out[from_source] = source_rows[order[(numbers[from_source] - before[number]) % len(order)]]
    return out


def draw(pairs: np.ndarray | Lazy, count: int, seed: int) -> np.ndarray:
    """``count`` of the pairs (all, if there are fewer), drawn without replacement with a fixed seed, in order."""
    chosen = np.random.default_rng(seed).choice(len(pairs), size=min(count, len(pairs)), replace=False)
    return pairs[np.sort(chosen)]


def drop_unusable_pairs(pairs: Pairs, tokens: Tokens, sentence_mask: np.ndarray | None = None) -> Pairs:
    """The rows worth training on: every side has a token and is kept, and no sentence is paired with a copy of itself.

    (Where both sides are one sentence by intent, ``self_pairs``, only empty ones are left out.) Passages lose sentences
    that are not worth training on, and are left out where too little of them remains.

    Args:
        pairs: of sentence rows. tokens: of the sentences.
        sentence_mask: bool ``[sentences]``, which are worth training on (:mod:`sentemb.corpus.cleaning`); None: all.
    """
    keep = np.empty(len(pairs), dtype=bool)
    same = tokens.distinct()
    if pairs.passages is not None:
        pairs = replace(pairs, passages=replace(pairs.passages, sentence_mask=sentence_mask))
    for start in range(0, len(pairs), AT_ONCE):
        rows = pairs.rows[start : start + AT_ONCE]
        if pairs.passages is not None:
            keep[start : start + len(rows)] = pairs.passages.usable(rows)
            continue
        usable = (tokens.lengths(rows) > 0).all(axis=1)
        if sentence_mask is not None:
            usable &= sentence_mask[rows].all(axis=1)
        if not (pairs.are_contiguous or pairs.self_pairs):
            usable &= same[rows[:, 0]] != same[rows[:, 1]]
        keep[start : start + len(rows)] = usable
    if keep.all():
        return pairs
    selection = Selection(keep)
    return pairs.select(len(selection), selection.__getitem__)
