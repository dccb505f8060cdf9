"""The cache folder: what is in it was built under another name and renamed, so it is whole."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sentemb.registry import InputError

FORMAT = "1"  # of all that is prepared here and of how text is read; raise it when either changes


def cache_dir() -> Path:
    """Where everything prepared is kept: ``$SENTEMB_CACHE``, or ``sentemb`` in the user's cache folder."""
    if given := os.environ.get("SENTEMB_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sentemb"


def key_of(*parts: str) -> str:
    """Hex digest of FORMAT and the parts: a name in the cache."""
    return hashlib.blake2b("\0".join((FORMAT, *parts)).encode(), digest_size=16).hexdigest()


def digest(path: Path, algorithm: str = "blake2b") -> str:
    """Hex digest of a file's bytes; InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check that it is yours to read") from None


@contextmanager
def publishing(target: Path, whole: Callable[[Path], bool]) -> Iterator[Path]:
    """An empty folder that becomes ``target`` if the block ends well; if another process was first, its copy stays."""
    temporary = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write to {target.parent} ({error.strerror}); set SENTEMB_CACHE elsewhere") from None
    try:
        yield temporary
        for last in (False, False, True):
            try:
                temporary.rename(target)
                return
            except OSError:
                if whole(target):
                    return
                if last:
                    raise
                damaged = temporary.with_name(temporary.name + "-damaged")
                with suppress(OSError):  # another process may be moving it away, too
                    target.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
