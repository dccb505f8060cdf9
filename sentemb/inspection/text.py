"""What is read, in parts, and a part of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from sentemb.corpus import CleaningResult, Corpus, Tokens
from sentemb.pairs import Numbers, Pairs, Selection, labelled, neighbours

AT_ONCE = 1_000_000  # sentences whose numbers are read together, or that a vocabulary is learned from
SAMPLE, RUN, LONG = 100_000, 500, 10_000  # sentences whose text is read; in runs; tokenized again without a limit


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    facts: list[tuple[str, str]]
    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    texts: int = 1  # how many of a row's last cells are text
    notes: Sequence[str] = ()
    bars: Sequence[tuple[str, float]] = ()  # label and share


@dataclass(frozen=True)
class Text:
    """A corpus as a tokenizer sees it, and what cleaning keeps of it."""

    corpus: Corpus
    tokens: Tokens
    tokenizer: Tokenizer
    max_length: int
    special: int  # tokens of each sentence
    cleaned: CleaningResult | None

    def pairs(self, ranges: NDArray[np.int64] | None = None) -> Pairs:
        """Neighbours, of labelled data anchors and positives, in these documents ``[n, 2]``, by default in all."""
        every = np.stack([self.corpus.documents[:-1], self.corpus.documents[1:]], axis=1)
        return (labelled if self.corpus.labelled else neighbours)(every if ranges is None else ranges)


def texts_of(corpus: Corpus) -> Iterator[str]:
    """Sentences to learn a vocabulary from."""
    return (text for part in runs_of(len(corpus), AT_ONCE, "vocabulary") for text in corpus.sentences(part))


def slices_of(count: int, step: int, what: str) -> Iterator[slice]:
    """All of the sentences, ``step`` at a time; a bar says ``what`` is looked for."""
    for start in tqdm(range(0, count, step), desc=what, delay=1, leave=False):
        yield slice(start, min(start + step, count))


def runs_of(count: int, most: int, what: str) -> Iterator[slice]:
    """At most ``most`` of the sentences, evenly spread in runs."""
    starts = np.arange(0, count, RUN) if count <= most else np.linspace(0, count - RUN, most // RUN).astype(int)
    for start in tqdm(starts.tolist(), desc=what, delay=1, leave=False):
        yield slice(start, min(start + RUN, count))


def spread_over(chosen: Selection, most: int) -> Numbers:
    """At most ``most`` of the chosen ones, evenly spread."""
    return chosen[np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(np.int64)]


def share_of(part: float, total: float) -> str:
    """A count and what share of the total it is, as text."""
    return f"{part:,.0f} ({'under 0.01%' if 0 < part < 5e-5 * total else format(part / max(total, 1), '.2%')})"
