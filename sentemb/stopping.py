"""Why and how a run ends before its last step: asked to by a signal, or because it cannot go on."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, TextIO

import torch
import torch.distributed as dist

from sentemb.errors import disk_full

AGAIN = 0.5  # seconds; what comes sooner is the same request, which a launcher has passed on


class Signals:
    """SIGTERM and SIGINT are remembered, to end after the step at hand; a second one exits at once, nothing saved.

    So is SIGHUP (the terminal or the launcher is gone), unless it is ignored, but it is never a second one. A thread
    of its own looks at them: the main one may be deep in a library, waiting for another process.
    """

    def __init__(self) -> None:
        self.asked, self._since, self._before = 0, 0.0, dict[int, Any]()
        self._ends: tuple[int, int] | None = None  # of a pipe into which Python writes each signal's number
        self._old = -1

    def __enter__(self) -> "Signals":
        if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
            return self
        self._ends = os.pipe()
        os.set_blocking(self._ends[1], False)
        self._old = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        threading.Thread(target=self._look, args=(self._ends[0],), daemon=True).start()
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
                self._before[number] = signal.signal(number, _looked_at)
        return self

    def __exit__(self, *error: object) -> None:
        if self._ends is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old)
        os.close(self._ends[1])  # the thread ends

    def _look(self, end: int) -> None:
        while numbers := os.read(end, 64):
            for number in numbers:
                if number in self._before:
                    self._note(number)
        os.close(end)

    def _note(self, number: int) -> None:
        now, name = time.monotonic(), signal.Signals(number).name
        if self.asked and name != "SIGHUP" and now - self._since > AGAIN:
            os._exit(128 + number)
        if not self.asked:
            self.asked, self._since = number, now
            said = f"\n{name}: this step is finished and saved; once more to exit at once, without saving\n"
            with contextlib.suppress(OSError):
                os.write(2, said.encode())


def _looked_at(number: int, frame: FrameType | None) -> None:
    """What a signal does in the main thread: nothing, the other one has read its number."""


def ignore_signals(worker: int = 0) -> None:
    """In a process that makes batches: the one that trains decides when to end."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def explained(error: BaseException, micro_batch: int = 0, batch_size: int = 0) -> str | None:
    """What happened, and what to do, for errors that are none of the code; None for others.

    ``batch_size``: pairs of a process that were being trained on, ``micro_batch`` at a time; 0: none were.
    """
    said = " ".join(str(error).split())
    if disk_full(error):
        return "the disk is full; make room"
    memory = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in said for part in memory):
        lack = f"out of memory ({said[:200] or type(error).__name__})"
        now = min(micro_batch or batch_size, batch_size)
        if now <= 1:
            return f"{lack}; end what else runs here, or use a machine with more"
        return (
            f"{lack}; the same update takes less of it with --micro-batch {max(1, now // 4)}, which --resume takes too "
            f"(now {'' if 0 < micro_batch < batch_size else 'all '}{now} pairs are encoded at once)"
        )
    if "DataLoader worker" in said:
        return f"a process that makes batches has ended ({said[:200]}), for want of memory mostly; give fewer --workers"
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    lost = isinstance(error, dist.DistError) or any(
        part in said.lower() for part in ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    )
    late = any(part in said.lower() for part in ("timed out", "timeout"))
    if several and isinstance(error, RuntimeError) and lost and late:
        return (
            "another process of this run has not answered for as long as --timeout says: it hangs, or it scores or "
            f"saves for longer, which a larger --timeout allows ({said[:200]})"
        )
    if several and isinstance(error, RuntimeError) and lost:
        return f"another process of this run has ended, see what it said ({said[:200]})"
    return None


class Lasting:
    """A stream that is written to as long as it is there: a terminal may close, a pipe's reader may end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's; what cannot be written is lost."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As the stream's. Once that fails, all that is written later, by others too, is lost without an error."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tell(text: str) -> None:
    """Print to stdout, if anybody is still there."""
    stream = Lasting(sys.stdout)
    stream.write(text + "\n")
    stream.flush()
