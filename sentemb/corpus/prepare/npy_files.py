"""Flat arrays written into .npy files, a part at a time."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Save an array like np.save, with an error that says when the disk is full."""
    with path.open("wb") as file:
        write_header(file, array.dtype, len(array))
        file.write(array.tobytes())


def write_header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """Write the header at the file's start; numpy leaves room in it for any length, so it can be written again."""
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
