"""Download SentEval's data from public copies, and verify each file by its sha256.

    sentemb download DIR                    # everything, 17 MB
    sentemb download DIR --tasks MR,CR      # then: sentemb evaluate CHECKPOINT --data DIR
    sentemb download DIR --tasks sts --list # list the files and their addresses, and fetch nothing

`python -m eval.download` is the same command. It writes files to DIR/downstream/. It skips files that are there and
correct, and never overwrites a different file. After a broken connection the first part stays in NAME.partial: run the
same command again to continue. If no copy is reachable, it prints which file to put where by hand. Exit code 0: all
files are in place; 2: at least one is missing.
"""

import argparse
import functools
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from eval.tasks import GROUPS, DataFile, files_of
from sentemb.errors import InputError
from sentemb.program import command_parser
from sentemb.storage import digest

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT = 30  # seconds without an answer
PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt at a place
PASSING = (408, 416, 425, 429)  # faults of the moment, as all from 500 on; 416: the partial was longer than the file
TERMS = "The data sets are their authors' and each has its own terms: use them to evaluate, never to train."
Progress = Callable[[int], None]  # receives the bytes of the current file that are there


class Fault(Exception):
    """Why a place did not give the right file, in a few words."""

    def __init__(self, reason: str, passing: bool = False, unreachable: bool = False) -> None:
        super().__init__(" ".join(reason.split())[:300])  # a server may say anything, over many lines
        self.passing, self.unreachable = passing, unreachable


def download(folder: Path, files: Sequence[DataFile], mirror: str | None = None, progress: bool = False) -> list[str]:
    """Bring ``files`` into ``folder``; a failing one does not stop the others.

    Args:
        folder: gets downstream/...; files: see :func:`eval.tasks.checksums.files_of`.
        mirror: address of a copy of ``folder``, asked first.
        progress: show a bar, on a terminal.

    Returns:
        A sentence for each file that is not in place: why, and how to fix it.

    Raises:
        InputError: ``folder`` cannot be one; nothing has been written.
    """
    if not all(os.path.exists(folder / file.path) for file in files):
        _refuse_unwritable(folder)
    failed, fetched = [], 0
    unreachable = dict[str, str]()  # host -> why; asked no more
    total = sum(file.size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="fetching", disable=None if progress else True) as bar:
        end = 0
        for done, file in enumerate(files):
            start, end = end, end + file.size
            bar.set_postfix_str(f"file {done + 1} of {len(files)}, {file.path.rpartition('/')[2]}", refresh=False)
            try:
                fetched += _fetch(
                    file,
                    folder / file.path,
                    _places(file, mirror),
                    unreachable,
                    functools.partial(_move, bar, start),
                )
            except InputError as error:
                failed.append(str(error))
            except OSError as error:
                failed.append(
                    f"{folder / file.path} cannot be written ({error.strerror or error}); make room or get the "
                    "right to write there, then run the same command again"
                )
            bar.update(end - bar.n)
    present = len(files) - fetched - len(failed)
    print(f"{folder}: {fetched} fetched, {present} already there, {len(failed)} not in place", file=sys.stderr)
    return failed


def _move(bar: tqdm, start: int, fetched_bytes: int) -> None:
    bar.update(start + fetched_bytes - bar.n)  # back, too, where a file is begun again


def _places(file: DataFile, mirror: str | None) -> tuple[str, ...]:
    return (f"{mirror.rstrip('/')}/{file.path}", *file.urls) if mirror else file.urls


def _fetch(file: DataFile, target: Path, urls: Sequence[str], unreachable: dict[str, str], progress: Progress) -> bool:
    """Bring one file: True if it was fetched, False if it is there already.

    Raises:
        InputError: it cannot be downloaded, or another file is in its place.
    """
    if _in_place(file, target):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with _partial(target) as partial:
        if _in_place(file, target):  # brought by another process while this one waited for it
            return False
        for url in urls:
            host = urlsplit(url).netloc
            try:
                if host in unreachable:
                    raise Fault(unreachable[host])
                _attempts(url, file, partial, progress)
            except Fault as fault:
                reasons.append(f"{url}: {fault}")
                if fault.unreachable:  # the other files need not wait for it again
                    unreachable[host] = str(fault)
                continue
            os.fsync(partial.fileno())
            if fcntl is None:  # Windows moves no open file
                partial.close()
            os.replace(partial.name, target)
            return True
    raise InputError(
        f"{target} could not be fetched ({'; '.join(reasons) or 'no public copy is known'}); run the same command "
        f"again later, or put the file with sha256 {file.sha256} ({file.lines} lines, {file.size} bytes) at {target}"
    )


def _in_place(file: DataFile, target: Path) -> bool:
    if not target.exists():
        return False
    if not target.is_file():
        raise InputError(f"{target} is not a file; move it away and run the same command again")
    sha256 = digest(target, "sha256")
    if sha256 != file.sha256:
        raise InputError(
            f"{target} is another file: sha256 {sha256} where {file.sha256} ({file.lines} lines) is expected; it is "
            "not overwritten, so move it away and run the same command again"
        )
    return True


@contextmanager
def _partial(target: Path) -> Iterator[BinaryIO]:
    """NAME.partial, open to read and append, and locked: two processes never write into one file."""
    path = target.with_name(target.name + ".partial")
    while True:
        with path.open("a+b") as file:
            if not _lock(file, target):
                break
            if not _is(path, file):  # moved to its final name, or deleted, by the process waited for
                continue
            try:
                yield file
            finally:
                if os.fstat(file.fileno()).st_size == 0 and _is(path, file):
                    path.unlink()
            return
    path.unlink(missing_ok=True)
    path = target.with_name(f"{target.name}.{os.getpid()}.partial")  # no locks here: nobody else's, never resumed
    try:
        with path.open("a+b") as file:
            file.truncate(0)
            yield file
    finally:
        path.unlink(missing_ok=True)


def _lock(file: BinaryIO, target: Path) -> bool:
    """Wait for the lock on ``file``; False where the file system or the operating system has none."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tqdm.write(f"waiting for another process that is fetching {target}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _attempts(url: str, file: DataFile, partial: BinaryIO, progress: Progress) -> None:
    """Make ``partial`` the whole right file from ``url``, or raise the last Fault."""
    for pause in (*PAUSES, None):
        resumed = _size(partial) > 0
        try:
            _receive(url, file, partial, progress)
            return _verify(file, partial, resumed)
        except Fault as fault:
            if not fault.passing or pause is None:
                raise
            time.sleep(pause)


def _verify(file: DataFile, partial: BinaryIO, resumed: bool) -> None:
    partial.seek(0)
    content = partial.read()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        partial.truncate(0)
        lines = content.count(b"\n") + (not content.endswith(b"\n"))
        # after a resumption the beginning may be to blame, which came from elsewhere: once more from the first byte
        raise Fault(f"wrong sha256 {sha256} ({lines} lines where {file.lines} are expected)", passing=resumed)


def _receive(url: str, file: DataFile, partial: BinaryIO, progress: Progress) -> None:
    """Append to ``partial`` what it lacks of ``file``."""
    fetched_bytes = _size(partial)
    if fetched_bytes == file.size:
        return
    if fetched_bytes > file.size:
        fetched_bytes = partial.truncate(0)
    with _open(url, partial, fetched_bytes) as response:
        if fetched_bytes and not _continues(response, fetched_bytes):
            fetched_bytes = partial.truncate(0)
            if response.status == 206:
                raise Fault("sends another part than asked for", passing=True)
        _refuse_other_size(response, file, fetched_bytes)
        while fetched_bytes < file.size:
            with _faults():
                block = response.read(min(2**16, file.size - fetched_bytes))
            if not block:
                raise Fault(f"broke off after {fetched_bytes} of {file.size} bytes", passing=True)
            fetched_bytes += partial.write(block)
            partial.flush()
            progress(fetched_bytes)
        if response.length is None:
            with _faults():
                more = response.read(1)
            if more:
                partial.truncate(0)
                raise Fault(f"sends more than {file.size} bytes")


def _open(url: str, partial: BinaryIO, start: int) -> HTTPResponse:
    """The answer of ``url`` from byte ``start`` on; a host that has no such byte empties ``partial``."""
    request = Request(url, headers={"User-Agent": "sentemb", **({"Range": f"bytes={start}-"} if start else {})})
    try:
        with _faults():
            return cast(HTTPResponse, urlopen(request, timeout=TIMEOUT))
    except Fault as fault:
        if isinstance(fault.__cause__, HTTPError) and fault.__cause__.code == 416:
            partial.truncate(0)
        raise


def _refuse_other_size(response: HTTPResponse, file: DataFile, start: int) -> None:
    """A Fault if the answer is none, or does not end where the file does."""
    if response.status not in (200, 206):
        raise Fault(f"HTTP {response.status}")
    if response.length is not None and start + response.length != file.size:
        raise Fault(f"offers {start + response.length} bytes where {file.size} are expected")


def _size(partial: BinaryIO) -> int:
    return os.fstat(partial.fileno()).st_size


def _continues(response: HTTPResponse, fetched_bytes: int) -> bool:
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {fetched_bytes}-")


@contextmanager
def _faults() -> Iterator[None]:
    """What can go wrong on the way, as a Fault."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise Fault(f"HTTP {error.code} {error.reason}", error.code >= 500 or error.code in PASSING) from error
    except URLError as error:  # before any answer: no network, no such host, nobody listens
        raise Fault(f"cannot be reached ({error.reason})", passing=True, unreachable=True) from error
    except (OSError, HTTPException) as error:
        raise Fault(f"connection lost ({str(error) or type(error).__name__})", passing=True) from error


def _refuse_unwritable(folder: Path) -> None:
    """InputError if ``folder`` is not a folder, or cannot be written to or made."""
    nearest = next((path for path in (folder, *folder.absolute().parents) if os.path.lexists(path)), folder)
    if not os.path.isdir(nearest):
        raise InputError(f"{nearest} is not a folder; name one to put downstream/ into")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{nearest} cannot be written to; name another folder to put downstream/ into")


def _refuse_mirror(mirror: str) -> None:
    """InputError if ``mirror`` is not an address of a folder on a web server."""
    try:
        parts = urlsplit(mirror)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        right = right and not (parts.username or parts.query or parts.fragment)
    except ValueError:  # a port that is not a number, a bracket left open
        right = False
    if not right or not mirror.isascii() or not mirror.isprintable() or " " in mirror:
        raise InputError(
            f"--mirror {mirror!r} is not an address; write one like https://host/folder that has downstream/"
        )


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__, "eval.download")
    made.add_argument(
        "folder", type=Path, metavar="DIR", help="folder for downstream/...; the command makes it if it does not exist"
    )
    names = f"some of {', '.join(GROUPS['all'])}, or the groups {', '.join(GROUPS)} (default all)"
    made.add_argument("--tasks", metavar="A,B", default="all", help=names)
    made.add_argument(
        "--mirror",
        metavar="URL",
        help="address of your own copy, which is tried first: URL/downstream/MR/rt-polarity.pos and so on",
    )
    made.add_argument(
        "--list", action="store_true", help="fetch nothing: print path, bytes, sha256 and address of each missing file"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    try:
        code = 0 if run(options) else 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        code = 130
    if code:
        sys.exit(code)


def run(options: argparse.Namespace) -> bool:
    """Do what the command line says; False if a file is not in place afterwards."""
    files = files_of(options.tasks)
    if options.mirror is not None:
        _refuse_mirror(options.mirror)
    if options.list:
        _list([file for file in files if not os.path.exists(options.folder / file.path)], options.mirror)
        return True
    failed = download(options.folder, files, options.mirror, progress=True)
    for sentence in failed:
        print(f"error: {sentence}", file=sys.stderr)
    print(TERMS, file=sys.stderr)
    return not failed


def _list(files: Sequence[DataFile], mirror: str | None) -> None:
    try:
        for file in files:
            print(file.path, file.size, file.sha256, *_places(file, mirror)[:1], sep="\t")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough; nothing is left to write at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"{len(files)} files to fetch, {sum(file.size for file in files):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
