"""Why and how a run ends before its last step: asked to by a signal, or because it cannot go on."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, TextIO

AGAIN = 0.5  # seconds; what comes sooner is the same request, which a launcher has passed on


class StopRequest:
    """SIGTERM and SIGINT are remembered, to end after the step at hand; a second one exits at once, nothing saved.

    So is SIGHUP (the terminal or the launcher is gone), unless it is ignored, but it is never a second one. A thread
    of its own looks at them: the main one may be deep in a library, waiting for another process.
    """

    def __init__(self) -> None:
        self.asked, self._since, self._before = 0, 0.0, dict[int, Any]()
        self._ends: tuple[int, int] | None = None  # of a pipe into which Python writes each signal's number
        self._old = -1

    def __enter__(self) -> "StopRequest":
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


class TolerantStream:
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
    stream = TolerantStream(sys.stdout)
    stream.write(text + "\n")
    stream.flush()
