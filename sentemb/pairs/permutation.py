"""Shuffles of hundreds of millions of items, computed on demand instead of stored."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentemb.corpus import splitmix64
from sentemb.pairs.lazy import Numbers

ROUNDS = 8  # of the Feistel network
SMALL = 1 << 16  # below it a table costs nothing, and a network of so few bits mixes less well


class Permutation:
    """A shuffle of 0 ... n - 1 that is decided by a key and takes no memory: ``permutation[i]`` for an array of i.

    Up to 65,536 it is numpy's shuffle. Beyond, each number's two halves of bits go through a Feistel network of eight
    rounds (each a bijection, whatever its round function), again and again until the result is below n (cycle walking;
    less than twice on average). It is a bijection exactly; as a shuffle it is one of 2^64 and not of all n!, with no
    statistical difference that the tests here can see (places of neighbours, runs, collisions of places).

    Source: Luby & Rackoff 1988; Black & Rogaway 2002 (ciphers with arbitrary finite domains).

    Args:
        n: how many. key: numbers that decide the order, seed and epoch say.
    """

    def __init__(self, n: int, *key: int) -> None:
        self.n = n
        self._table: Numbers | None = None
        if n <= SMALL:
            self._table = np.random.default_rng(key).permutation(n)
            return
        bits = (n - 1).bit_length()
        self._low = np.uint64(bits // 2)  # bits of the right half
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)
        self._masks = (np.uint64((1 << (bits - bits // 2)) - 1), np.uint64((1 << (bits // 2)) - 1))  # left, right

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, places: NDArray[Any] | slice) -> Numbers:
        """The values at these places, ``[k]``."""
        if isinstance(places, slice):
            places = np.arange(*places.indices(self.n))
        if self._table is not None:
            return self._table[places]
        out = self._network(np.asarray(places, dtype=np.uint64))
        while len(outside := np.flatnonzero(out >= self.n)):
            out[outside] = self._network(out[outside])
        return out.astype(np.int64)

    def _network(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers >> self._low, numbers & self._masks[1]
        for number, key in enumerate(self._keys):  # (halves may differ by a bit, so they do not change places)
            if number % 2:
                right = right ^ (splitmix64(left + key) & self._masks[1])
            else:
                left = left ^ (splitmix64(right + key) & self._masks[0])
        return (left << self._low) | right
