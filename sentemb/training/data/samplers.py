"""Choose the pairs of each update: an epoch is exactly one pass, and the same seed gives the same order.

All of it is computed from the number of the update: a run that is resumed, or whose batches are made by several
workers, needs no other state.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sentemb.pairs import Numbers, Permutation

WINDOW = 64  # batches whose pairs are sorted by length together


@dataclass(frozen=True)
class EpochLayout:
    """The updates of an epoch: full batches, then what is left.

    A rest of fewer than ``least`` pairs goes into the batch before it, so that no pair is left out.
    """

    pairs: int
    batch_size: int  # pairs per process
    processes: int = 1
    least: int = 0  # 0: two a process
    global_batch: int = 0  # pairs of a full batch on all processes, where they do not divide; 0: as many on each

    @property
    def full(self) -> int:
        """Pairs of a full batch, on all processes."""
        return self.global_batch or self.batch_size * self.processes

    def __len__(self) -> int:
        """How many there are in an epoch; 0 if the pairs are too few for one."""
        full_batches, rest = divmod(self.pairs, self.full)
        return full_batches + (rest >= (self.least or 2 * self.processes))

    def size(self, number: int) -> int:
        """Pairs of the number-th one of an epoch, on all processes."""
        return self.full if number < len(self) - 1 else self.pairs - self.full * (len(self) - 1)

    def seen(self, done: int) -> int:
        """Pairs of the first ``done`` updates of a run."""
        epochs, rest = divmod(done, len(self))
        return epochs * self.pairs + rest * self.full


@dataclass(frozen=True)
class LengthBucketedSampler:
    """The pairs of each update, as indices.

    Pairs are shuffled (:class:`sentemb.pairs.Permutation`), then sorted by length within windows of 64 batches, so that
    a batch pads little, then the batches are shuffled within their window. A smaller or larger last batch of an epoch
    stays last.
    """

    updates: EpochLayout
    lengths: Callable[[Numbers], Numbers]  # of pairs, by their indices: tokens of the longest side
    seed: int
    window: int = WINDOW
    _batches_by_window: dict[tuple[int, int], list[Numbers]] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, step: int) -> Numbers:
        """The pairs of update ``step`` (0, 1, ...) of a run, on all processes."""
        epoch, number = divmod(step, len(self.updates))
        window, inside = divmod(number, self.window)
        if (epoch, window) not in self._batches_by_window:
            self._batches_by_window.clear()
            self._batches_by_window[epoch, window] = self._batches(epoch, window)
        return self._batches_by_window[epoch, window][inside]

    def _batches(self, epoch: int, window: int) -> list[Numbers]:
        first = window * self.window
        sizes = [self.updates.size(number) for number in range(first, min(first + self.window, len(self.updates)))]
        start = first * self.updates.full
        chosen = Permutation(self.updates.pairs, self.seed, epoch)[np.arange(start, start + sum(sizes))]
        full = len(sizes) - (sizes[-1] != self.updates.full)
        # (the last one is cut off before sorting, so that it has random pairs and not the longest)
        head, tail = np.split(chosen, [full * self.updates.full])
        head = head[np.argsort(self.lengths(head), kind="stable")] if len(head) else head
        turn = np.random.default_rng((self.seed, epoch, window)).permutation(full)
        return [*head.reshape(full, self.updates.full)[turn], *([tail] if len(tail) else [])]


@dataclass(frozen=True)
class ContiguousSampler:
    """The sentences of each update, where a batch is a run of consecutive ones; each epoch has another order.

    The one that is smaller or larger than the others stands elsewhere in each epoch, so that the cuts differ.
    """

    updates: EpochLayout
    seed: int

    def __getitem__(self, step: int) -> Numbers:
        """The sentences of update ``step`` of a run, consecutive, on all processes."""
        epoch, number = divmod(step, len(self.updates))
        count, full = len(self.updates), self.updates.full
        odd = self.updates.size(count - 1)  # the one of another size, which stands anywhere in the text
        place = where = int(np.random.default_rng((self.seed, epoch)).integers(count))
        if number < count - 1:
            where = int(Permutation(count - 1, self.seed, epoch)[np.array([number])][0])
            where += where >= place
        start = where * full + (odd - full if where > place else 0)
        return np.arange(start, start + self.updates.size(number))


def rank_share(rows: Numbers, rank: int, processes: int, runs: bool) -> Numbers:
    """The part of an update for process ``rank``: every ``processes``-th pair, or consecutive sentences of a run."""
    return np.array_split(rows, processes)[rank] if runs else rows[rank::processes]


def pairs_per_rank(size: int, processes: int) -> tuple[int, ...]:
    """The number of pairs of each process, by either way of sharing."""
    return tuple(len(range(rank, size, processes)) for rank in range(processes))
