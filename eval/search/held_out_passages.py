"""Search without judgements: a sentence finds the passage that it was taken from."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from eval.search.task import SearchTask
from sentemb.corpus import Corpus
from sentemb.errors import InputError
from sentemb.storage import key_of

SENTENCES = 5  # of a passage
MOST_QUERIES = 10_000
SEED = 0  # of which sentences are taken: fixed, so that encoders compare


@dataclass(frozen=True)
class HeldOutPassages:
    """Runs of neighbouring sentences of a corpus, each without the sentence that was taken from it."""

    corpus: Corpus
    ranges: NDArray[np.int64]  # [n, 2] rows of sentences, start and stop
    taken: NDArray[np.int64]  # [n] row of the sentence that is the query

    @property
    def fingerprint(self) -> str:
        """Hex, of all texts in their order."""
        return key_of(self.corpus.fingerprint, *(array.tobytes().hex() for array in (self.ranges, self.taken)))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ranges)

    def texts(self, rows: slice) -> list[str]:
        """Those of a block."""
        ranges, taken = self.ranges[rows].tolist(), self.taken[rows].tolist()
        numbers = [
            row
            for (start, stop), query in zip(ranges, taken, strict=True)
            for row in range(start, stop)
            if row != query
        ]
        sentences = iter(self.corpus.sentences(numbers))
        return [" ".join(islice(sentences, stop - start - 1)) for start, stop in ranges]


def held_out_task(corpus: Corpus, sentences: int = SENTENCES, most: int = MOST_QUERIES) -> SearchTask:
    """Queries and passages of a corpus' held-out documents.

    Each document is cut into passages of ``sentences`` neighbouring sentences (the last one of at least 2). One
    sentence of each, drawn by a fixed seed, is its query and is removed from it. All passages are searched; at most
    ``most`` queries, drawn by the same seed, are asked.

    Raises:
        InputError: the corpus is labelled, or its held-out documents have fewer than two passages.
    """
    if corpus.labelled:
        raise InputError(
            f"{corpus.name} is labelled data, which has no passages; give a folder or table of judged queries instead"
        )
    random = np.random.default_rng(SEED)
    parts = []
    for start, stop in corpus.split()[1].tolist():
        starts = np.arange(start, stop, sentences)
        parts.append(np.stack([starts, np.minimum(starts + sentences, stop)], axis=1))
    ranges = np.concatenate([np.empty((0, 2), dtype=np.int64), *parts])
    ranges = ranges[np.diff(ranges, axis=1)[:, 0] >= 2]
    if len(ranges) < 2:
        raise InputError(f"the held-out documents of {corpus.name} have fewer than two passages; give a larger corpus")
    taken = ranges[:, 0] + random.integers(0, np.diff(ranges, axis=1)[:, 0])
    asked = np.sort(random.permutation(len(ranges))[:most])
    documents = np.searchsorted(corpus.documents, ranges[asked, 0], side="right") - 1
    many = len(np.unique(np.searchsorted(corpus.documents, ranges[:, 0], side="right")))
    return SearchTask(
        f"a sentence finds its passage, {many:,} held-out document{'s' if many > 1 else ''} of {corpus.name}",
        corpus.sentences(taken[asked]),
        HeldOutPassages(corpus, ranges, taken),
        [{row: 1.0} for row in asked.tolist()],
        documents=documents,
        notes=(f"a passage is {sentences} neighbouring sentences without the query, drawn from it by seed {SEED}",),
    )
