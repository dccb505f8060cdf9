"""Which process of a run is missing: each one tells the others that it is alive, through the store of the processes.

A collective that fails says that somebody is missing, and not who; one that waits says nothing for as long as its
time-out. So each process counts up a value in the store (the TCPStore at MASTER_ADDR:MASTER_PORT, by which the
processes have met), once a second and from a thread, and reads the values of the others. No clocks are compared: a
process is silent since its value was last seen to change, by the reader's clock.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object

BEAT = 1.0  # seconds between two signs of life
SILENCE = 4.0  # seconds without one after which a process is named where a connection broke
WARNING = 30.0  # seconds without one after which the others are warned
GRACE = 5.0  # seconds after the time-out that a collective has to fail by itself
LEFT, ENDED = "left", "ended "  # what a process writes last: it ends with the others, or by a failure of its own


@dataclass(frozen=True)
class Member:
    """A process of a run, and where it is."""

    rank: int
    host: str
    has_store: bool  # whether the store is on its host


class Signs:
    """What was last heard of each member, and when.

    Args:
        members: all processes of the run, by rank.
        rank: the reader's.
        now: seconds on the reader's clock.
    """

    def __init__(self, members: Iterable[Member], rank: int, now: float) -> None:
        self.members = tuple(members)
        self.rank = rank
        self._values = [""] * len(self.members)
        self._heard = [now] * len(self.members)
        self._answered = now  # when the store was last heard of

    def note(self, values: Iterable[str], now: float) -> None:
        """Take what the store holds of all members, by rank."""
        self._answered = now
        for rank, value in enumerate(values):
            if value != self._values[rank]:
                self._values[rank], self._heard[rank] = value, now

    def skip(self, seconds: float) -> None:
        """Leave out a time in which this process itself stood still."""
        self._heard = [heard + seconds for heard in self._heard]
        self._answered += seconds

    def ended(self) -> str | None:
        """A clause that names the first process that has failed, and its reason; None: none has."""
        for member in self._others():
            if self._values[member.rank].startswith(ENDED):
                return f"{_place([member])} ended by itself ({self._values[member.rank].removeprefix(ENDED)})"
        return None

    def silent(self, seconds: float, now: float, left: bool = False) -> str | None:
        """A clause that names the processes that were not heard of for ``seconds``; None: there are none.

        Where the store is silent, those on its host are named: without it nobody is heard of. ``left``: whether those
        count, too, that have ended since for want of another process.
        """
        causes = "host down or cut off, or process stopped or killed"
        if now - self._answered >= seconds:
            silence = f"{now - self._answered:.0f} s"
            members = [member for member in self._others() if member.has_store]
            if not members:
                return f"the run's store, in the launcher of this host, has not answered for {silence}"
            return f"{_place(members)}, where the run's store is, not heard of for {silence} ({causes})"
        members = [
            member
            for member in self._others()
            if now - self._heard[member.rank] >= seconds and (left or self._values[member.rank] != LEFT)
        ]
        if not members:
            return None
        silence = f"{min(now - self._heard[member.rank] for member in members):.0f} s"
        return f"{_place(members)} not heard of for {silence} ({causes})"

    def speaks(self, seconds: float, now: float) -> bool:
        """Whether this process is the first of those that are not silent, and says what concerns all."""
        return all(now - heard >= seconds for heard in self._heard[: self.rank])

    def _others(self) -> list[Member]:
        return [member for member in self.members if member.rank != self.rank]


def _place(members: Sequence[Member]) -> str:
    """``rank 1 on host-b``; several ranks of a host stand together."""
    parts = []
    for host in dict.fromkeys(member.host for member in members):
        ranks = [str(member.rank) for member in members if member.host == host]
        parts.append(f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} on {host}")
    return " and ".join(parts)


class Heartbeat:
    """Signs of life between the processes of a run, as a context; all of them make it together.

    Where others are silent for longer than the time-out and this process still waits for them, in a place that has no
    such time-out (final scores, a GPU's collectives), the process ends with one sentence and exit code 1.

    Args:
        accelerator: the processes. One alone needs no signs, and sends none.
        timeout: seconds that the processes wait for each other.
    """

    def __init__(self, accelerator: Accelerator, timeout: float) -> None:
        self.timeout = timeout
        self.advice: Callable[[], str] = str  # a clause on what is saved, once there is a run folder
        self._last_value: str | None = None  # LEFT or ENDED, once this process ends
        self._wake, self._sent, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()  # of the signs
        self._diagnosis: str | None = None
        self._store: dist.Store | None = None
        self._threads: list[threading.Thread] = []
        address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
        if accelerator.num_processes == 1 or not address or not port:
            return
        about = gather_object([(socket.gethostname(), _is_local(address), os.urandom(8).hex())])
        members = [Member(rank, host, local) for rank, (host, local, _) in enumerate(about)]
        # Another connection than the group's, which may be waiting; its own waits end with the process.
        client = dist.TCPStore(address, int(port), is_master=False, wait_for_workers=False, timeout=timedelta(days=1))
        self._store = dist.PrefixStore(f"sentemb/heartbeat/{about[0][2]}", client)
        self.signs = Signs(members, accelerator.process_index, time.monotonic())

    def __enter__(self) -> "Heartbeat":
        global _current
        _current = self
        for work in (self._exchange, self._watch) if self._store is not None else ():
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no further signs."""
        self.report(None)
        self._stopped.set()
        for thread in self._threads:
            thread.join(BEAT)  # (one may wait for a store that is gone)

    def report(self, reason: str | None) -> None:
        """Tell the others why this process ends; None: for no reason of its own. The first report counts."""
        if self._threads and self._last_value is None:
            self._last_value = LEFT if reason is None else ENDED + reason
            self._wake.set()
            self._sent.wait(2 * BEAT)

    def missing(self) -> str | None:
        """A clause that names who is missing, where a collective has failed; that takes some seconds to show."""
        until = time.monotonic() + SILENCE + 2 * BEAT
        while self._threads and self._diagnosis is None and not self._stopped.is_set() and time.monotonic() < until:
            with self._lock:
                self._diagnosis = self.signs.ended() or self.signs.silent(SILENCE, time.monotonic())
            self._stopped.wait(BEAT / 10)
        return self._diagnosis

    def _exchange(self) -> None:
        """Write this process' sign and read those of all, until the end or until the store is gone."""
        assert self._store is not None
        count, keys = 0, [str(member.rank) for member in self.signs.members]
        while not self._stopped.is_set():
            count, last = count + 1, self._last_value
            try:
                self._store.set(str(self.signs.rank), last or str(count))
                if last is not None:
                    self._sent.set()
                values = [value.decode() for value in self._store.multi_get(keys)]
            except RuntimeError:
                return  # (from here on nobody is heard of)
            with self._lock:
                self.signs.note(values, time.monotonic())
            if not self._wake.wait(BEAT):
                continue
            if last is not None:
                self._stopped.wait(BEAT)

    def _watch(self) -> None:
        """Warn of silent processes, and end this one where it waits for them in vain."""
        patience = min(WARNING, self.timeout / 2)
        warned, before = False, time.monotonic()
        while not self._stopped.wait(BEAT):
            now = time.monotonic()
            with self._lock:
                if now - before > 3 * BEAT:  # this process was stopped: the others have not been silent
                    self.signs.skip(now - before)
                before = now
                late, lost = self.signs.silent(patience, now), self.signs.silent(self.timeout + GRACE, now, left=True)
                speaks = self.signs.speaks(patience, now)
            if lost:
                self._end(lost_process(lost, late=True))
            if late and not warned and speaks:
                print(f"\nwarning: {late}; the run waits for as long as --timeout says", file=sys.stderr, flush=True)
            warned = late is not None

    def _end(self, why: str) -> None:
        why = "; ".join(part for part in (why, self.advice()) if part)
        print(f"\nstopped: {why}", file=sys.stderr, flush=True)
        report_to_launcher(why)
        os._exit(1)


_current: Heartbeat | None = None  # of this process' run


def who_is_missing() -> str | None:
    """:meth:`Heartbeat.missing` of this process' run; None, too, where no run was begun."""
    return None if _current is None else _current.missing()


def report_failure(reason: str) -> None:
    """:meth:`Heartbeat.report` of this process' run, if one was begun."""
    if _current is not None:
        _current.report(reason)


def lost_process(names: str | None, late: bool, message: str = "") -> str:
    """What is said of a run that has lost a process.

    Args:
        names: who is missing; None: all are alive, or nobody knows.
        late: whether they were waited for as long as the time-out says.
        message: of the collective that failed, which is shown where there are no names.
    """
    if late:
        reason = names or (
            f"it hangs, or it scores or saves for longer, which a larger --timeout allows ({message[:200]})"
        )
        return f"another process of this run has not answered for as long as --timeout says: {reason}"
    if names:
        return f"another process of this run has ended: {names}; see what it printed"
    return f"another process of this run has ended, see what it said ({message[:200]})"


def report_to_launcher(why: str) -> None:
    """Tell torchrun, which repeats the first process' reason, why this process ends."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(RuntimeError(why))


def _is_local(address: str) -> bool:
    """Whether an address is one of this machine."""
    with suppress(OSError), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return True
    return False
