"""Pairs of passages: a sentence and the passage around it, two crops of one text, a title and the passage below it.

A passage is a run of consecutive sentences of one document. No title is in it, and it never crosses one. Its token ids
are those of its sentences, one after another, as the tokenizer gives them for the joined text.

``Pairs.rows`` hold the first and the last sentence of each pair. What is drawn (the sentence of a passage, the ends of
crops) follows from the seed, the epoch and the number of the pair alone: it is the same on any number of processes and
in a resumed run, and another in each epoch.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentemb.corpus import Corpus, Tokens, splitmix64
from sentemb.errors import InputError
from sentemb.pairs.lazy import Numbers
from sentemb.registry import choose

PROBE = ("It was a dark, cold night.", "Nobody slept; the wind blew.")
CHANCES = 5  # numbers drawn for a pair, at most
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio: it parts what splitmix64 is to mix
KINDS = {"inverse_cloze": 2, "crops": 1, "title": 1}  # and how many sentences a passage needs, at least
OF_ONE_KIND = {"removal": "inverse_cloze", "shortest": "crops", "longest": "crops", "overlap": "crops"}
Chances = NDArray[np.float64]
TokenIds = NDArray[Any]


@dataclass(frozen=True)
class PassageText:
    """The tokens of passages."""

    tokens: Tokens  # of each sentence as it stands after another one
    before: int  # special tokens before each sentence of ``tokens``
    behind: int  # special tokens after it
    room: int  # tokens that a text may have, without the special ones and the longer of the prompts
    max_length: int  # tokens that a text may have, with them
    titles: Numbers  # int64 [n], rows of the sentences that are titles, in order

    def lengths(self, rows: Numbers | slice) -> Numbers:
        """Tokens of these sentences, without the special ones."""
        return np.maximum(self.tokens.lengths(rows) - self.before - self.behind, 0)


def passage_text(corpus: Corpus, tokenizer: Tokenizer, max_length: int, sides: Sequence[Tokens] = ()) -> PassageText:
    """The tokens of a corpus' sentences as they follow one another in a passage.

    Args:
        corpus: whose. tokenizer: of the encoder.
        max_length: tokens of the longest text, special ones included.
        sides: tokens of both sides' first sentences, which may have prompts.

    Raises:
        InputError: as :meth:`sentemb.corpus.Corpus.tokens`.
    """
    special = tokenizer.encode("a").special_tokens_mask
    before = special.index(0) if 0 in special else len(special)
    behind = special[::-1].index(0) if 0 in special else 0
    tokens = corpus.tokens(tokenizer, max_length, "" if _joins_plainly(tokenizer) else " ")
    prompts = max([before, *(side.prompt_length for side in sides)])
    return PassageText(tokens, before, behind, max_length - behind - prompts, max_length, corpus.titles)


def _joins_plainly(tokenizer: Tokenizer) -> bool:
    """Whether a sentence has the same tokens after another one as alone; else it has those of it after a space."""
    first, second = (tokenizer.encode(text, add_special_tokens=False).ids for text in PROBE)
    return tokenizer.encode(" ".join(PROBE), add_special_tokens=False).ids == first + second


@dataclass(frozen=True)
class PassageSettings:
    """The kind of a pair, and the length of passages.

    Args:
        kind: inverse_cloze (a sentence of the passage, and the passage), crops (two runs of tokens of it) or title (the
            title above the passage, and the passage).
        sentences: of a passage, at most; 0: any number.
        tokens: of a passage, at most, in entire sentences; 0: with ``sentences`` any number, else as many as
            ``--max-length`` leaves room for (crops: for the longest crop).
        removal: share of the pairs in which the sentence is removed from its passage (inverse_cloze). In the others
            the encoder learns to match words, too.
        shortest, longest: shares of a passage's tokens between which the length of a crop is drawn.
        overlap: whether two crops may have tokens in common, as in Contriever.

    Raises:
        ValueError: a number out of range, or an option of another kind. InputError: unknown ``kind``.
    """

    kind: str = "inverse_cloze"
    sentences: int = 0
    tokens: int = 0
    removal: float = 0.9
    shortest: float = 0.05
    longest: float = 0.5
    overlap: bool = True

    def __post_init__(self) -> None:
        choose("kind", self.kind, KINDS)
        least = KINDS[self.kind]
        for name in ("sentences", "tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 1, or 0 for no bound, got {getattr(self, name)}")
        if 0 < self.sentences < least:
            raise ValueError(f"sentences must be at least {least} for kind={self.kind}, got {self.sentences}")
        if not 0 <= self.removal <= 1:
            raise ValueError(f"removal must lie in [0, 1], got {self.removal}")
        if not 0 < self.shortest <= self.longest <= 1:
            raise ValueError(f"0 < shortest <= longest <= 1 must hold, got {self.shortest} and {self.longest}")
        if not self.overlap and self.longest > 0.5:
            raise ValueError(f"crops without overlap have at most half of a passage each, got longest={self.longest}")
        for name, kind in OF_ONE_KIND.items():
            if kind != self.kind and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name} belongs to kind={kind}; leave it out for kind={self.kind}")


@dataclass(frozen=True)
class PassagePairs:
    """Make the two sides of a pair from the passage that a row of ``Pairs.rows`` bounds."""

    text: PassageText
    settings: PassageSettings
    sentence_mask: NDArray[np.bool_] | None = None  # [sentences], those worth training on; None: all
    candidates: Numbers | None = None  # int64 [p, 2], bounds of the passages that mined hard negatives are chosen from

    def bounds(self, ranges: Numbers) -> Numbers:
        """First and last sentence ``[m, 2]`` of each passage in documents ``[documents, 2]``; a title's row is first.

        Raises:
            InputError: the corpus has no titles, where they are needed, or no passage.
        """
        settings, text = self.settings, self.text
        titled = settings.kind == "title"
        if titled and not len(text.titles):
            raise InputError(
                "pairs of titles need a corpus with titles, and this one has none; give a table with a column of them: "
                "--corpus table:path=FILE,title=COLUMN,split_sentences=true"
            )
        limit = settings.tokens or (0 if settings.sentences else text.room)
        if settings.kind == "crops" and not settings.tokens and not settings.sentences:
            limit = int(text.room / settings.longest)
        least, rows = KINDS[settings.kind], array("q")
        for start, stop, below_title in sections(ranges, text.titles):
            if below_title or not titled:
                cuts = cut_section(text.lengths(slice(start, stop)), settings.sentences, limit, least)
                for first, last in [next(cuts, (0, 0))] if titled else cuts:
                    if last:
                        rows.extend((start + first - titled, start + last - 1))
        if not rows:
            what = "title with a sentence below it" if titled else f"passage of {least} sentence{'s' * (least > 1)}"
            raise InputError(f"no training document of the corpus holds a {what}, so there is no pair to train on")
        return np.frombuffer(rows, dtype=np.int64).reshape(-1, 2)

    def lengths(self, rows: Numbers) -> Numbers:
        """Tokens ``[m]`` of the longest text that these passages can give, special ones left out."""
        offsets = np.asarray(self.text.tokens.offsets)
        special = self.text.before + self.text.behind
        total = offsets[rows[:, 1] + 1] - offsets[rows[:, 0]] - special * (rows[:, 1] + 1 - rows[:, 0])
        return np.minimum(total, self.text.room)

    def usable(self, rows: Numbers) -> NDArray[np.bool_]:
        """Which of these passages ``[m, 2]`` make a pair of two different texts.

        That takes two different sentences (a title and one unlike it), or enough tokens that the shortest crop has
        one. Sentences without a token, or outside of the mask, do not count.
        """
        low, high = int(rows[:, 0].min()), int(rows[:, 1].max()) + 1
        good, lengths = self._good(slice(low, high)), self.text.lengths(slice(low, high))
        if self.settings.kind == "crops":
            before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.where(good, lengths, 0))])
            total = before[rows[:, 1] + 1 - low] - before[rows[:, 0] - low]
            return np.asarray(total * self.settings.shortest >= 1)
        keys, limits = self.text.tokens.distinct()[low:high], np.iinfo(np.int64)
        ends = (rows + np.array([-low, 1 - low], dtype=np.int64)).ravel()
        least = np.minimum.reduceat(np.append(np.where(good, keys, limits.max), limits.max), ends)[::2]
        most = np.maximum.reduceat(np.append(np.where(good, keys, limits.min), limits.min), ends)[::2]
        different: NDArray[np.bool_] = least < most
        return different & good[rows[:, 0] - low] if self.settings.kind == "title" else different

    def _good(self, rows: slice | Numbers) -> NDArray[np.bool_]:
        """Which of these sentences have a token and are worth training on."""
        good: NDArray[np.bool_] = self.text.lengths(rows) > 0
        return good if self.sentence_mask is None else good & self.sentence_mask[rows]

    def sentences(self, bounds: Numbers) -> tuple[Numbers, Numbers]:
        """The sentences that are worth training on of passages ``[n, 2]``, a title with its passage.

        Returns:
            Their rows, one passage after another, and how many each passage has, ``[n]``.
        """
        sizes = bounds[:, 1] - bounds[:, 0] + 1
        rows = np.arange(sizes.sum()) + np.repeat(bounds[:, 0] - np.cumsum(sizes) + sizes, sizes)
        good = self._good(rows)
        counts = np.bincount(np.repeat(np.arange(len(bounds)), sizes)[good], minlength=len(bounds))
        return rows[good], counts

    def _each(self, bounds: Numbers) -> list[Numbers]:
        """The sentences of each passage that are worth training on, a title before those of its passage."""
        rows, counts = self.sentences(bounds)
        return np.split(rows, np.cumsum(counts))[:-1]

    @property
    def _titles(self) -> int:
        """Titles before each passage, within its bounds: 1 or 0."""
        return int(self.settings.kind == "title")

    def bodies(self, bounds: Numbers) -> list[Numbers]:
        """The sentences of each passage ``[n, 2]`` that make its text."""
        return [rows[self._titles :] for rows in self._each(bounds)]

    def text_ids(self, bounds: Numbers) -> Numbers:
        """A number for each passage ``[n, 2]``, int64 ``[n]``: equal where their texts are copies."""
        rows, counts = self.sentences(bounds + np.array([self._titles, 0]))
        totals = np.zeros(len(bounds), dtype=np.uint64)
        keys = self.text.tokens.distinct()[rows].view(np.uint64)
        np.add.at(totals, np.repeat(np.arange(len(bounds)), counts), keys)
        return splitmix64(totals ^ GOLDEN).view(np.int64)

    def _ids(self, bounds: Numbers) -> Numbers:
        """A number for each passage ``[n, 2]``, int64 ``[n]``: equal where they are not negatives of each other.

        Passages below equal titles are not.
        """
        if self.settings.kind == "title":
            return self.text.tokens.distinct()[bounds[:, 0]]
        return self.text_ids(bounds)

    def anchors(self, bounds: Numbers, chances: Chances) -> Numbers:
        """Sentence rows ``[n]`` of the first sides of pairs other than crops: the title, or the sentence drawn."""
        if self.settings.kind == "title":
            return bounds[:, 0]
        rows, counts = self.sentences(bounds)
        return rows[np.cumsum(counts) - counts + (chances[:, 0] * counts).astype(np.int64)]

    def positives(self, bounds: Numbers, chances: Chances, anchors: Numbers) -> list[Numbers]:
        """Sentence rows of the second side of each of these pairs, other than crops.

        The passage loses its anchor and copies of it where the second chance says so.
        """
        if self.settings.kind == "title":
            return self.bodies(bounds)
        keys = self.text.tokens.distinct()
        return [
            rows[keys[rows] != keys[anchor]] if chance < self.settings.removal else rows
            for rows, chance, anchor in zip(self._each(bounds), chances[:, 1], anchors, strict=True)
        ]

    def columns(
        self, rows: Numbers, chances: Chances, sides: Sequence[Tokens], negatives: Numbers | None = None
    ) -> tuple[list[list[TokenIds]], Numbers]:
        """Token ids of the texts of pairs, and ids that are equal where texts are not negatives of each other.

        Args:
            rows: int64 ``[n, 2]``, of ``Pairs.rows``.
            chances: ``[n, CHANCES]`` in [0, 1), what is drawn for each (:func:`draw_chances`).
            sides: tokens of the sentences as they begin a text of each side, with its prompt.
            negatives: int64 ``[n, k]``, places of mined hard negatives in ``candidates``, -1 where one is missing; not
                of crops.

        Returns:
            2 + k lists of n arrays (both sides, then the hard negatives), and int64 ``[n, 2 + k]``: a sentence has the
            id of its tokens, a passage that of its sentences, whichever of them was removed, and crops that of their
            passage. A title and its passage have that of the title's tokens, so that passages below equal titles are
            not negatives. In place of a hard negative that is missing, or holds a copy of the anchor, stands the
            anchor: objectives do not count it among the anchor's negatives.
        """
        if self.settings.kind == "crops":
            crops = [self._crops(each, drawn, sides) for each, drawn in zip(self._each(rows), chances, strict=True)]
            return [[pair[side] for pair in crops] for side in (0, 1)], np.repeat(self._ids(rows)[:, None], 2, axis=1)
        anchors = self.anchors(rows, chances)
        columns = [
            [self._joined(sides[0], each) for each in anchors[:, None]],
            [self._joined(sides[1], each) for each in self.positives(rows, chances, anchors)],
        ]
        ids = [self.text.tokens.distinct()[anchors], self._ids(rows)]
        for places in () if negatives is None else negatives.T:
            texts, column_ids = self._negatives(anchors, places, sides[1])
            columns.append(texts)
            ids.append(column_ids)
        return columns, np.stack(ids, axis=1)

    def _negatives(self, anchors: Numbers, places: Numbers, side: Tokens) -> tuple[list[TokenIds], Numbers]:
        """A column of hard negatives, the anchor where there is none, and their ids."""
        assert self.candidates is not None
        keys, bounds = self.text.tokens.distinct(), self.candidates[np.maximum(places, 0)]
        texts, missing = [], places < 0
        for number, (rows, anchor) in enumerate(zip(self._each(bounds), anchors, strict=True)):
            missing[number] |= (keys[rows] == keys[anchor]).any()
            texts.append(self._joined(side, anchors[number : number + 1] if missing[number] else rows[self._titles :]))
        return texts, np.where(missing, keys[anchors], self._ids(bounds))

    def _crops(self, rows: Numbers, drawn: Chances, sides: Sequence[Tokens]) -> list[TokenIds]:
        """Two runs of a passage's tokens."""
        stream = np.concatenate([self._inner(ids, self.text.before) for ids in self.text.tokens.rows(rows)])
        spans = crop_spans(len(stream), drawn, self.settings)
        return [self._framed(side, int(rows[0]), stream[span]) for side, span in zip(sides, spans, strict=True)]

    def _joined(self, side: Tokens, rows: Numbers) -> TokenIds:
        """Token ids of these sentences as one text of a side."""
        first, *others = rows[: self.text.room + 1]  # (each has a token, at least)
        parts = [self._inner(side[first], self._begins(side))]
        parts += [self._inner(ids, self.text.before) for ids in self.text.tokens.rows(np.array(others, dtype=np.int64))]
        return self._framed(side, int(first), np.concatenate(parts))

    def _begins(self, side: Tokens) -> int:
        """Special tokens and those of the prompt, before each text of a side."""
        return max(side.prompt_length, self.text.before)

    def _inner(self, ids: TokenIds, before: int) -> TokenIds:
        return ids[before : len(ids) - self.text.behind]

    def _framed(self, side: Tokens, row: int, body: TokenIds) -> TokenIds:
        """``body`` with what goes before and after each text of a side (it is that of any sentence), cut to length."""
        ids, begins, behind = side[row], self._begins(side), self.text.behind
        body = body[: self.text.max_length - begins - behind]
        return np.concatenate([ids[:begins], body, ids[len(ids) - behind :]])


def sections(ranges: Numbers, titles: Numbers) -> Iterator[tuple[int, int, bool]]:
    """Runs of sentences of documents ``[n, 2]`` between titles: first row, one past the last, whether below a title."""
    starts, stops = np.asarray(ranges, dtype=np.int64).reshape(-1, 2).T
    order = np.argsort(starts)
    starts, stops = starts[order], stops[order]
    document = np.searchsorted(starts, titles, side="right") - 1
    inside = titles[(document >= 0) & (titles < stops[document])]
    below = np.repeat([True, False], [len(inside), len(starts)])
    begins = np.concatenate([inside + 1, starts])
    order = np.argsort(begins, kind="stable")  # (what is below the last row of a document stands before the next one)
    ends = np.sort(np.concatenate([inside, stops]))
    for start, stop, below_title in zip(begins[order].tolist(), ends.tolist(), below[order].tolist(), strict=True):
        if start < stop:
            yield start, stop, below_title


def cut_section(lengths: Numbers, sentences: int, tokens: int, least: int) -> Iterator[tuple[int, int]]:
    """Passages of a section: first sentence and one past the last, each as long as the bounds let it be.

    Args:
        lengths: ``[n]``, tokens of each sentence.
        sentences, tokens: of a passage, at most; 0: no bound. A passage of ``least`` sentences may have more tokens.
        least: sentences of a passage, at least; fewer that are left at the end are in none.
    """
    ends = np.cumsum(lengths)
    start = before = 0
    while len(ends) - start >= least:
        stop = start + sentences if sentences else len(ends)
        if tokens:
            stop = min(stop, int(np.searchsorted(ends, before + tokens, side="right")))
        stop = min(max(stop, start + least), len(ends))
        yield start, stop
        start, before = stop, int(ends[stop - 1])


def draw_chances(seed: int, epoch: int, numbers: Numbers) -> Chances:
    """``[n, CHANCES]`` in [0, 1), as good as random, that follow from the seed, the epoch and each pair's number."""
    key = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    mixed = splitmix64(np.asarray(numbers).astype(np.uint64) + key)[:, None]
    mixed = splitmix64(mixed + np.arange(1, CHANCES + 1, dtype=np.uint64) * GOLDEN)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)


def crop_spans(count: int, drawn: Chances, settings: PassageSettings) -> tuple[slice, slice]:
    """Two runs of ``count`` tokens: lengths and places are drawn evenly; without overlap, which is first is too."""
    shares = settings.shortest + drawn[:2] * (settings.longest - settings.shortest)
    sizes = np.maximum(1, (shares * count).astype(int))
    if settings.overlap:
        starts = (drawn[2:4] * (count - sizes + 1)).astype(int)
    else:
        gaps = np.sort((drawn[2:4] * (count - sizes.sum() + 1)).astype(int))
        earlier = int(drawn[4] < 0.5)
        starts = gaps + [0, sizes[earlier]]
        starts = starts if earlier == 0 else starts[::-1]
    first, second = (slice(int(start), int(start + size)) for start, size in zip(starts, sizes, strict=True))
    return first, second
