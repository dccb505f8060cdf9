"""Pseudo-random numbers from numbers: hashes that distinguish sentences, and keys for shuffles."""

import numpy as np
from numpy.typing import NDArray

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def splitmix64(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 64-bit number for each, as good as random: splitmix64's last step (Steele, Lea & Flood 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX[0]
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX[1]
    return numbers ^ (numbers >> np.uint64(31))
