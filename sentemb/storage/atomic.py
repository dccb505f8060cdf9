"""The one atomic writer: what it writes gets another name, is synced and renamed, so it is complete or absent.

A folder gets a manifest of its files (:mod:`sentemb.storage.manifest`), by which a reader knows damaged ones.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sentemb.storage.manifest import MANIFEST, PARTIAL, manifest_of, unlisted


def partial_path(path: Path) -> Path:
    """A hidden name next to ``path``, to write to before it gets its own; another one at each call."""
    return path.with_name(f".{path.name}.{uuid4().hex}")


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """A file to write in the block, which then becomes ``path``; after an error it is removed and ``path`` stays.

    Args:
        path: may exist; it is replaced at once.
        sync: wait until the file is on the disk. Leave it out where a lost file is made again.
    """
    partial = partial_path(path)
    try:
        yield partial
        if sync:
            _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Write a text file, complete or not at all; what UTF-8 has no place for (half a surrogate) becomes ``?``."""
    with replacing(path, sync) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def write_bytes(path: Path, content: bytes, sync: bool = True) -> None:
    """Write a file, complete or not at all."""
    with replacing(path, sync) as partial:
        partial.write_bytes(content)


def write_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a folder under another name, add its manifest, sync it, then give it its name.

    One that has the name already is replaced; if it holds files that sentemb did not write (:func:`unlisted`), it is
    kept under the name ``NAME-replaced-N``. Two processes must not write one folder at once.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder.parent, folder.name)
    partial = folder.parent / f".{folder.name}{PARTIAL}{os.getpid()}"
    partial.mkdir()
    try:
        write(partial)
        (partial / MANIFEST).write_text(manifest_of(partial), encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        if folder.exists():
            folder.rename(free_name(folder, "-replaced") if unlisted(folder) else _replaced(partial))
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        if not folder.exists() and _replaced(partial).exists():
            _replaced(partial).rename(folder)
        for leftover in (partial, _replaced(partial)):
            shutil.rmtree(leftover, ignore_errors=True)


def finish_folder(partial: Path, folder: Path, temporary: Collection[str] = ()) -> None:
    """Give a folder that was filled under another name its manifest, sync it, and give it its name.

    A process that is killed meanwhile leaves a folder that the next call finishes.

    Args:
        partial: the folder. folder: its new path; nothing, or an empty folder.
        temporary: names of its files that go at last; the manifest does not list them.
    """
    if not (partial / MANIFEST).is_file():
        write_text(partial / MANIFEST, manifest_of(partial, temporary))
    for name in temporary:
        (partial / name).unlink(missing_ok=True)
    for path in [*partial.rglob("*"), partial]:
        _sync(path)
    partial.rename(folder)
    _sync(folder.parent)


def recover(parent: Path, name: str = "*") -> None:
    """Put in order what killed writers of ``parent/name`` have left: give the one they were replacing its name back."""
    for leftover in parent.glob(f".{name}{PARTIAL}*"):
        folder = parent / leftover.name[1:].rpartition(PARTIAL)[0]
        if leftover.name.endswith("-replaced") and not folder.exists():  # killed between the two renames
            leftover.rename(folder)
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in parent.glob(f".{name}.*"):
        if re.fullmatch(r"[0-9a-f]{32}", leftover.suffix[1:]) and leftover.is_file():  # of partial_path
            leftover.unlink(missing_ok=True)


def free_name(folder: Path, suffix: str) -> Path:
    """A name next to ``folder`` that nothing has: NAME + suffix, then -2, -3, ... after it."""
    number, free = 1, folder.with_name(folder.name + suffix)
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}{suffix}-{number}")
    return free


def remove(folder: Path) -> None:
    """Remove a folder that we wrote; a process that is killed meanwhile leaves no part of it under its name.

    One with files that sentemb did not write (:func:`unlisted`) stays.
    """
    if unlisted(folder):
        return
    gone = folder.parent / f".{folder.name}{PARTIAL}{os.getpid()}"
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _replaced(partial: Path) -> Path:
    return partial.with_name(partial.name + "-replaced")


def _sync(path: Path) -> None:
    if os.name == "nt":  # which opens no folders, and syncs none
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
