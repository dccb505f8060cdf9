"""A file of rows, written a chunk at a time: finished chunks survive a crash, and the next process continues there."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentemb.storage.atomic import write_text

if TYPE_CHECKING:  # (numpy takes a while, and packages that print their help import this one)
    from numpy.typing import NDArray

DONE = "done"  # the file that says how many rows are on the disk


def rows_done(path: Path, row_bytes: int, header: bytes = b"") -> int:
    """Rows of complete chunks that are on the disk, behind a ``header``."""
    try:
        done = int((path.parent / DONE).read_text(encoding="utf-8"))
        return done if path.stat().st_size >= len(header) + done * row_bytes else 0
    except (OSError, ValueError):
        return 0


def append_chunks(
    path: Path,
    row_bytes: int,
    total: int,
    chunk: int,
    make: "Callable[[int], NDArray[Any]]",
    header: bytes = b"",
) -> None:
    """Append the chunks that are not on the disk yet; after each one the file DONE next to ``path`` counts what is.

    Args:
        path: of rows of ``row_bytes`` each; the only such file of its folder.
        total: rows in all. chunk: rows that are synced together.
        make: the rows of the chunk that begins at a number; all before it are in the file then.
        header: what the file begins with.

    Raises:
        OSError: as that of a full disk, before any work, where the disk has no room for all rows.
    """
    done = rows_done(path, row_bytes, header)
    if shutil.disk_usage(path.parent).free < (total - done) * row_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with path.open("r+b" if done else "wb") as file:
        if not done:
            file.write(header)
        file.truncate(len(header) + done * row_bytes)
        file.seek(0, os.SEEK_END)
        for first in range(done, total, chunk):
            rows = make(first)
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
            write_text(path.parent / DONE, str(first + len(rows)))
