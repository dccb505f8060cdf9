"""What a user did wrong, and why a run ended: the exceptions that commands turn into one sentence and an exit code."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user gave cannot be used. Its text is one sentence: what is wrong, where, and how to fix it.

    Commands print it and exit with code 2; nothing has been written by then.
    """


class PreparationInterrupted(InputError):
    """Work that stopped on its way: what was done is kept, and the same command continues."""


def in_a_line(error: BaseException) -> str:
    """An error's text in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


class CorruptFolder(InputError):
    """A folder is not what its manifest says. Its text names the file."""


@contextmanager
def exit_codes(interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what a user caused into one line on stderr and an exit code: an InputError into 2, Ctrl-C into 130.

    Args:
        interrupted: the line after Ctrl-C.
    """
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)


class TrainingFailed(RuntimeError):
    """Training cannot continue. Its text says why, what is kept and how to continue; commands exit with 1."""


def disk_full(error: BaseException) -> bool:
    """Whether an error, or a cause of it, says that the disk is full."""
    seen: BaseException | None = error
    while seen is not None:
        full = isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or "No space left on device" in str(seen) or "os error 28" in str(seen):  # (safetensors' own class)
            return True
        seen = seen.__cause__ or seen.__context__
    return False
