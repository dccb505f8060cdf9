"""Embeddings in fewer bytes: float16, int8, a bit a number; as sentence-transformers' ``quantize_embeddings`` does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sentence_transformers.util import quantize_embeddings

from sentemb.errors import InputError
from sentemb.registry import choose

DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "binary": "|u1"}
STEPS = 255  # of an int8 dimension's range

Stored = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8] | NDArray[np.uint8]


@dataclass(frozen=True)
class Precision:
    """How embeddings of a dimension are stored.

    Args:
        name: float32, float16, int8 or binary.
        dimension: numbers of an embedding.
        ranges: float32 ``[2, dimension]``, the least and greatest number of each dimension; of int8 only.

    Raises:
        InputError: another name.
    """

    name: str
    dimension: int
    ranges: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        choose("precision", self.name, DTYPES)

    @property
    def dtype(self) -> np.dtype:
        """Of the stored numbers."""
        return np.dtype(DTYPES[self.name])

    @property
    def width(self) -> int:
        """Stored numbers of a row: bytes of eight signs each, of binary ones."""
        return -(-self.dimension // 8) if self.name == "binary" else self.dimension

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * self.dtype.itemsize

    def stored(self, rows: NDArray[np.float32]) -> Stored:
        """Rows float32 ``[n, dimension]`` as they are stored ``[n, width]``.

        int8: floor of (x - least) / step - 128 within -128 to 127, ``step`` being a 255th of the dimension's range.
        binary: bit 7 - i % 8 of byte i // 8 is 1 where x_i > 0.

        Raises:
            InputError: a number is not finite, or float16 cannot hold it.
        """
        if not np.isfinite(rows).all():
            raise InputError("an embedding is not finite; the model is damaged, or its numbers overflow")
        if self.name == "int8":
            return np.asarray(quantize_embeddings(rows, "int8", ranges=self.ranges), dtype=self.dtype)
        if self.name == "binary":
            return np.packbits(rows > 0, axis=1)
        with np.errstate(over="ignore"):
            made = rows.astype(self.dtype)
        if self.name == "float16" and not np.isfinite(made).all():
            raise InputError("an embedding has a number beyond 65,504, which float16 cannot hold; choose float32")
        return made

    def floats(self, stored: Stored) -> NDArray[np.float32]:
        """Stored rows ``[n, width]`` as float32 ``[n, dimension]``: of int8 the middles of the steps, of bits +-1."""
        if self.name == "int8":
            assert self.ranges is not None
            steps = (self.ranges[1] - self.ranges[0]) / STEPS
            return self.ranges[0] + (stored.astype(np.float32) + np.float32(128.5)) * steps
        if self.name == "binary":
            bits = np.unpackbits(stored.astype(np.uint8), axis=1, count=self.dimension)
            return bits.astype(np.float32) * 2 - 1
        return stored.astype(np.float32)


def ranges_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least and the greatest number ``[2, dimension]`` of each dimension of some rows."""
    return np.stack([rows.min(axis=0), rows.max(axis=0)])
