"""Signals that end a run after the current step, and output that outlives its terminal."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, TextIO

REPEAT_SECONDS = 0.5  # what comes sooner is the same request, which a launcher has passed on


class StopRequest:
    """SIGTERM and SIGINT ask the run to end after the current step, saved; SIGHUP too, unless it is ignored.

    A second SIGINT or SIGTERM ends the process at once, nothing saved: in a library by KeyboardInterrupt (SIGINT), in a
    command by its exit code. A thread handles the signals: the main one may be deep in a library, waiting for
    another process. Outside of the main thread, where Python takes no handlers, nothing is changed.

    Args:
        exits: whether a second signal exits the process, as a command does.
        deadline: by ``time.monotonic()``, after which the run must end, too; None: there is none.
    """

    def __init__(self, exits: bool = True, deadline: float | None = None) -> None:
        self.exits, self.deadline = exits, deadline
        self.signal = 0  # number of the first signal; 0: none has come
        self._time, self._handlers_before = 0.0, dict[int, Any]()
        self._pipe: tuple[int, int] | None = None  # Python writes each signal's number into it
        self._wakeup_before = -1

    @property
    def requested(self) -> bool:
        """Whether the run must end after the current step."""
        return self.signal > 0 or (self.deadline is not None and time.monotonic() >= self.deadline)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._read_signals, args=(self._pipe[0],), daemon=True).start()
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
                self._handlers_before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._pipe is None:
            return
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._pipe[1])  # the thread ends

    def _read_signals(self, pipe: int) -> None:
        while numbers := os.read(pipe, 64):
            for number in numbers:
                if number in self._handlers_before:
                    self._note(number)
        os.close(pipe)

    def _note(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._is_second(number) and (self.exits or name != "SIGINT"):
            os._exit(128 + number)
        if not self.signal:
            self._time, self.signal = time.monotonic(), number
            text = f"\n{name}: this step is finished and saved; once more to exit at once, without saving\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())

    def _is_second(self, number: int) -> bool:
        hangup = number == getattr(signal, "SIGHUP", None)
        return self.signal > 0 and not hangup and time.monotonic() - self._time > REPEAT_SECONDS

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal in the main thread; the other thread has read its number."""
        if not self.exits and number == signal.SIGINT and self._is_second(number):
            raise KeyboardInterrupt


def ignore_signals(worker: int = 0) -> None:
    """In a process that makes batches: the one that trains decides when to end."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class TolerantStream:
    """A stream that ignores writes once it is closed: a terminal may close, the reader of a pipe may end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.at_line_start = True  # as far as what was written here says

    def write(self, text: str) -> int:
        """As the stream's; what cannot be written is lost."""
        self.at_line_start = text.endswith("\n") if text else self.at_line_start
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
    """Print to stdout, if it is still open."""
    stream = TolerantStream(sys.stdout)
    stream.write(text + "\n")
    stream.flush()
