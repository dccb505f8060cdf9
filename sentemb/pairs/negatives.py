"""Hard negatives of pairs that no column of the corpus has: mined ones, by the numbers of their pairs."""

from typing import Protocol

from sentemb.pairs.lazy import Numbers


class PairNegatives(Protocol):
    """Hard negatives by pair. They may change while a model trains, and their number a pair does not."""

    @property
    def per_pair(self) -> int:
        """Hard negatives a pair, k."""

    def of(self, numbers: Numbers) -> Numbers:
        """Sentence rows int64 ``[n, k]`` of the hard negatives of these pairs; -1 where a pair has fewer than k.

        Of pairs of passages they are places in ``PassagePairs.candidates``.
        """
