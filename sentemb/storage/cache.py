"""The cache folder: what is in it was built under another name and renamed, so it is whole."""

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from sentemb.errors import InputError, PreparationInterrupted
from sentemb.storage.atomic import partial_path, write_text
from sentemb.storage.digest import digest

FORMAT = "2"  # of all that is prepared here and of how text is read; raise it when either changes


def cache_dir() -> Path:
    """Where everything prepared is kept: ``$SENTEMB_CACHE``, or ``sentemb`` in the user's cache folder."""
    if path := os.environ.get("SENTEMB_CACHE"):
        return Path(path).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sentemb"


def key_of(*parts: str) -> str:
    """Hex digest of FORMAT and the parts: a name in the cache."""
    return hashlib.blake2b("\0".join((FORMAT, *parts)).encode(), digest_size=16).hexdigest()


@contextmanager
def build_once(
    target: Path, is_complete: Callable[[Path], bool], what: str, progress: bool = True
) -> Iterator[Path | None]:
    """A folder that becomes ``target`` if the block ends well, or None where ``target`` is whole already.

    One process makes it, whichever gets the lock; those that come meanwhile wait for it, as long as it takes. What an
    interrupted block has left in the folder is there again at the next call, so that it can continue; after an
    InputError nothing is left.

    Raises:
        InputError: the cache cannot be written to, or its disk is full.
    """
    work = target.with_name(f".{target.name}.making")
    try:
        held = lock_of(target)
        try:
            held.acquire(timeout=0)
        except Timeout:
            if progress and shows_progress():
                tqdm.write(f"waiting: another process is preparing {what}", file=sys.stderr)
            held.acquire()
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"cannot write to {cache_dir()} ({_why(error)}); set SENTEMB_CACHE to another folder"
        ) from None
    try:
        if is_complete(target):
            yield None
            return
        work.mkdir(parents=True, exist_ok=True)
        for leftover in work.glob(".*"):  # being written when a process was killed
            leftover.unlink(missing_ok=True)
        yield work
        if target.exists():  # damaged
            damaged = partial_path(target)
            target.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        work.rename(target)
    except PreparationInterrupted:
        raise
    except InputError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(
                f"the disk of {cache_dir()} is full, so {what} was not prepared to the end; make room, or set "
                "SENTEMB_CACHE to another disk; then run the same command again to continue"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise InputError(
                f"cannot write to {target.parent} ({_why(error)}); set SENTEMB_CACHE to another folder"
            ) from None
        raise
    finally:
        held.release()


def shows_progress() -> bool:
    """Whether this process is the one of a run on this machine that says what all of them do."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def lock_of(path: Path) -> FileLock:
    """The lock, not yet held, of who writes ``path`` on this machine; OSError if the cache cannot be written to."""
    lock = cache_dir() / "locks" / f"{key_of(str(path.resolve()))}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


@contextmanager
def writes_alone(target: Path, refusal: str) -> Iterator[None]:
    """Hold the lock of who writes ``target``; where the file system has no locks, hold nothing.

    Raises:
        InputError: another process holds it; with the text ``refusal``.
    """
    lock = None
    with suppress(OSError, NotImplementedError):  # (a file system without locks)
        lock = lock_of(target)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(refusal) from None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def digests(paths: Sequence[Path]) -> list[str]:
    """Hex digests of files' bytes, in order, remembered for files that have not been touched since.

    Reading 5 GB at each start would take many seconds; a file's size, inode and times change with its content.

    Raises:
        InputError: a file cannot be read.
    """
    cache_file = cache_dir() / "digests" / f"{key_of(*(str(path.resolve()) for path in paths))}.json"
    now = [_state(path) for path in paths]
    cached: dict[str, list[str]] = {}
    with suppress(OSError, ValueError, TypeError, AttributeError):
        cached = dict(json.loads(cache_file.read_text(encoding="utf-8")).items())
    if cached.get("states") == now and len(cached.get("digests", [])) == len(paths):
        return cached["digests"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # (hashing lets other threads continue)
        hex_digests = list(pool.map(digest, paths))
    with suppress(OSError):  # (a cache that cannot be written to is complained of where it matters)
        # A file changed in this very moment could be changed again without its times telling.
        if all(time.time() - path.stat().st_mtime > 2 for path in paths):
            cache_file.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache_file, json.dumps({"states": now, "digests": hex_digests}), sync=False)
    return hex_digests


def _state(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    return f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"
