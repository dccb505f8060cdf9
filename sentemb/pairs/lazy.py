"""Orders and selections of hundreds of millions of items, computed on demand instead of stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Lazy:
    """An array of whole numbers that is computed on demand: ``lazy[indices]`` is ``at(indices)``."""

    shape: tuple[int, ...]
    at: Callable[[Numbers], Numbers]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: NDArray[Any] | slice) -> Numbers:
        """The rows of these indices (or of a slice), ``[k, ...]``."""
        return self.at(indices(chosen, len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, in memory."""
        return np.asarray(self[:], dtype=dtype)


def indices(chosen: NDArray[Any] | slice, count: int) -> Numbers:
    """The numbers of a slice or of an array."""
    if isinstance(chosen, slice):
        return np.arange(*chosen.indices(count), dtype=np.int64)
    return np.asarray(chosen, dtype=np.int64)


BLOCK = 64  # of a Selection: numbers counted together


class Selection:
    """The kept ones of n things, by their number among the kept: ``selection[k]`` is the k-th True of a mask.

    A byte for each thing and eight for every 64 of them, where a list of the kept would take eight for each.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        blocks = -(-len(mask) // BLOCK)
        self._mask = np.zeros(blocks * BLOCK, dtype=bool)
        self._mask[: len(mask)] = mask
        counts = self._mask.reshape(blocks, BLOCK).sum(axis=1)
        self._before = np.concatenate([[0], np.cumsum(counts)])  # kept ones before each block

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, numbers: NDArray[Any]) -> Numbers:
        """Where these kept ones stand, ``[k]``."""
        block = np.searchsorted(self._before, numbers, side="right") - 1
        inside = self._mask.reshape(-1, BLOCK)[block].cumsum(axis=1, dtype=np.int8)  # [k, BLOCK]
        place = (inside > (numbers - self._before[block])[:, None]).argmax(axis=1)
        return block * BLOCK + place
