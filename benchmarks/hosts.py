"""What a run on two hosts does when one of them fails: a table of faults, as Markdown.

    python -m benchmarks.hosts                                    # each kind once, about half an hour
    python -m benchmarks.hosts --kinds cut,stopped --times 3      # some, several times
    python -m benchmarks.hosts --list

The hosts are namespaces of this machine (benchmarks/namespaces.py: Linux, as root): host-a, which the rendezvous and
rank 0 are on, host-b with rank 1, and host-c for later. torchrun starts one process on each, the recipe trains a small
encoder of words, and a fault follows. Of what ends, the table has the seconds from the fault to the end of the other
host's process, its exit code, the updates lost since the newest valid checkpoint, and what ``--resume --elastic`` did
from that on the hosts that are left. Exit code 1 if a row is not as it must be.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil

from benchmarks.namespaces import Network, refusal
from benchmarks.run_on_hosts import BEGIN, HOSTS, LONGEST, SAVE_EVERY, Job

MARGIN = 15  # seconds beyond the time-out in which a process must have ended: a heartbeat's grace, and to say it


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    outcome: str
    seconds: float  # from the fault to the end of the process on the other host
    code: str = "-"
    lost: str = "-"
    resumed: str = "-"
    says: str = ""
    problems: tuple[str, ...] = ()  # what is not as it must be


@dataclass(frozen=True)
class Ends:
    """A fault that ends the run: what it is, on which host the other process is, and whom that one must name."""

    act: Callable[[Job], None]
    other: str = "host-a"
    names: str = "rank 1 on host-b"
    code: str = "1"  # exit code of the other process
    mirror: str = ""  # whom the process on the failing host must name; empty: it names nobody
    resumes_on: tuple[str, ...] = ()  # default: the other host
    disk: int = 0  # MiB of the run folder's disk; 0: it is the machine's
    relayed: tuple[str, ...] = ()

    def run(self, job: Job) -> Row:
        """Do it; returns what happened."""
        if self.disk:
            job.out.mkdir()
            job.network["host-a"].mount_disk(job.out, self.disk)
        job.begin()
        begun = time.monotonic()
        self.act(job)
        limit, problems = job.timeout + MARGIN, list[str]()
        with contextlib.suppress(psutil.TimeoutExpired):
            job.workers[self.other].wait(limit + 30)
        seconds = time.monotonic() - begun
        if seconds > limit:
            problems.append(f"the process on {self.other} has not ended after {seconds:.0f} s")
        if self.mirror:
            with contextlib.suppress(psutil.TimeoutExpired):
                job.workers["host-b"].wait(MARGIN)
        with contextlib.suppress(psutil.TimeoutExpired):
            job.launchers[self.other].wait(90)
        ended = job.launchers[self.other].poll() is not None
        launcher = f"torchrun after {time.monotonic() - begun:.0f} s" if ended else "torchrun not in 90 s"
        problems += self._problems(job)
        last, (saved, damaged) = job.step(), job.newest_valid()
        if last - saved > SAVE_EVERY:
            problems.append(f"{last - saved} updates are lost")
        says, code = job.sentence(self.other), job.exit_code(self.other)
        after_fault(job)
        names = self.resumes_on or (self.other,)
        end = job.resume(names, elastic=len(names) == 1)
        resumed = f"{saved} to {end} on {' and '.join(names)}"
        lost = f"{last - saved} updates" + (f", {damaged} damaged checkpoint(s) set aside" if damaged else "")
        outcome = f"ends{', saved' if code == '0' else ''} ({launcher})"
        return Row(outcome, seconds, code, lost, resumed, says, tuple(problems))

    def _problems(self, job: Job) -> list[str]:
        """What the processes on both hosts have not said as they must."""
        problems = []
        for name, wanted in ((self.other, self.names), ("host-b", self.mirror)):
            if wanted and wanted not in job.sentence(name):
                problems.append(f"on {name}, {wanted!r} is not named: {job.sentence(name)!r}")
        if (code := job.exit_code(self.other)) != self.code:
            problems.append(f"exit code {code}")
        return problems


@dataclass(frozen=True)
class Continues:
    """A fault that a run survives: what it is, and the hosts whose cable must be able to lose and delay frames."""

    act: Callable[[Job], None]
    relayed: tuple[str, ...] = ()

    def run(self, job: Job) -> Row:
        """Do it; returns the updates a second before and after."""
        job.begin()
        before = speed(job, 4)
        begun = time.monotonic()
        self.act(job)
        step = job.step()
        job.wait_for(lambda: job.step() > step + 2, HOSTS[:2], job.timeout + LONGEST)
        after = speed(job, 8)
        seconds = time.monotonic() - begun
        for name in HOSTS[:2]:
            os.kill(job.workers[name].pid, signal.SIGTERM)
        for name in HOSTS[:2]:
            job.launchers[name].wait(LONGEST)
        codes = {job.exit_code(name) for name in HOSTS[:2]}
        problems = [] if codes == {"0"} else [f"exit codes {sorted(codes)}"]
        lost = job.step() - job.newest_valid()[0]
        if lost:
            problems.append("it was not saved when it was asked to end")
        outcome = f"continues, {before:.1f} updates/s before and {after:.1f} after"
        return Row(outcome, seconds, "0", f"{lost} updates", problems=tuple(problems))


def speed(job: Job, seconds: float) -> float:
    """Updates a second."""
    step, begun = job.step(), time.monotonic()
    time.sleep(seconds)
    return (job.step() - step) / (time.monotonic() - begun)


def after_fault(job: Job) -> None:
    """Clear away what a fault has left, as people would before they resume: stopped processes, a full disk."""
    (job.seen() / "filler").unlink(missing_ok=True)
    for name, launcher in job.launchers.items():
        for process in [*launcher.children(recursive=True), launcher] if launcher.is_running() else []:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(psutil.TimeoutExpired):
            launcher.wait(30)
        if launcher.is_running():
            raise RuntimeError(f"the launcher on {name} cannot be ended")


# ---- the faults


def stop_worker(job: Job) -> None:
    """Stop the process on the second host: its connections stay, and nothing comes."""
    job.workers["host-b"].suspend()


def freeze_host(job: Job) -> None:
    """Stop all that runs on the second host."""
    for process in (job.launcher("host-b"), job.workers["host-b"]):
        process.suspend()


def fill_disk(job: Job) -> None:
    """Write into the run folder until nothing goes in."""
    with contextlib.suppress(OSError), open(job.seen() / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))


def cut_for_a_while(job: Job) -> None:
    """Pull the second host's cable for a third of the time-out."""
    job.network["host-b"].cut()
    time.sleep(job.timeout / 3)
    job.network["host-b"].mend()


class LateHost:
    """The second host comes half a minute after the first."""

    relayed: tuple[str, ...] = ()

    def run(self, job: Job) -> Row:
        """Start them; returns how it went."""
        job.start("host-a", job.arguments())
        time.sleep(30)
        begun = time.monotonic()
        problems = ["it began without the second host"] if job.step() >= 0 else []
        job.start("host-b", job.arguments())
        job.wait_for(lambda: job.step() >= BEGIN, HOSTS[:2])
        return Row(f"waits for it, then trains ({BEGIN} updates)", time.monotonic() - begun, problems=tuple(problems))


class ElasticLauncher:
    """torchrun with one to two hosts and restarts: a host is lost, another one joins, and nobody types anything."""

    relayed: tuple[str, ...] = ()

    def run(self, job: Job) -> Row:
        """Lose host-b, continue alone; let host-c join; returns the seconds of both."""
        arguments = [*job.arguments(), "--resume", "--elastic"]
        # Without it a host that joins waits in vain for the address of the first one (torch 2.13).
        more = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        for name in HOSTS[:2]:
            job.start(name, arguments, "1:2", **more)
        job.wait_for(lambda: job.step() >= BEGIN and job.processes() == 2, HOSTS[:2])
        begun = time.monotonic()
        job.network["host-b"].kill()
        step, lost = job.step(), job.step() - job.newest_valid()[0]
        job.wait_for(lambda: job.processes() == 1 and job.step() > step, HOSTS[:1])
        alone = time.monotonic() - begun
        begun, step = time.monotonic(), job.step()
        job.start("host-c", arguments, "1:2", **more)
        job.wait_for(lambda: job.processes() == 2 and job.step() > step, ("host-a", "host-c"))
        joined = time.monotonic() - begun
        outcome = f"continues alone by itself; with host-c {joined:.0f} s after that was started"
        return Row(outcome, alone, lost=f"{lost} updates", resumed="by torchrun")


class NoWay:
    """Processes that meet and cannot connect: the interface that is named is not the one between them."""

    relayed: tuple[str, ...] = ()

    def run(self, job: Job) -> Row:
        """Start them; returns what they say."""
        for name in HOSTS[:2]:
            job.start(name, job.arguments(), GLOO_SOCKET_IFNAME="lo")
        workers = [job.worker(name) for name in HOSTS[:2]]
        begun = time.monotonic()
        for name, worker in zip(HOSTS, workers, strict=False):
            with contextlib.suppress(psutil.TimeoutExpired):
                worker.wait(LONGEST)
            with contextlib.suppress(psutil.TimeoutExpired):
                job.launchers[name].wait(90)
        seconds, says = time.monotonic() - begun, job.sentence("host-a")
        wanted = "could not connect to all of the 2 processes"
        # (The launcher on the other host may end its process before that says the same.)
        problems = () if wanted in says else (f"{wanted!r} is not said: {says!r}",)
        return Row("ends", seconds, job.exit_code("host-a"), "nothing was begun", says=says, problems=problems)


def on_host_b(act: str, **options: float) -> Callable[[Job], None]:
    """A fault that is a method of the second host."""
    return lambda job: getattr(job.network["host-b"], act)(**options)


KINDS: dict[str, tuple[str, Ends | Continues | LateHost | ElasticLauncher | NoWay]] = {
    "cut": ("host-b is cut off (its link is down)", Ends(on_host_b("cut"), mirror="rank 0 on host-a")),
    "cut-briefly": ("host-b is cut off for a third of the time-out", Continues(cut_for_a_while)),
    "slow": ("1 Mbit/s between them", Continues(lambda job: job.network["host-b"].slow("1mbit"))),
    "lossy": ("1 % of the frames are lost", Continues(on_host_b("disturb", loss=0.01), ("host-b",))),
    "delayed": ("frames take 50 ms", Continues(on_host_b("disturb", delay=0.05), ("host-b",))),
    "stopped": ("the process on host-b is stopped (SIGSTOP)", Ends(stop_worker)),
    "frozen": ("all processes on host-b are stopped", Ends(freeze_host)),
    "killed": ("the process on host-b is killed (SIGKILL)", Ends(lambda job: job.workers["host-b"].kill())),
    "first-killed": (
        "the first process, on host-a, is killed",
        Ends(lambda job: job.workers["host-a"].kill(), other="host-b", names="rank 0 on host-a"),
    ),
    "launcher-killed": (
        "torchrun on host-b is killed",
        Ends(lambda job: job.launcher("host-b").kill(), names="", code="0"),
    ),
    "disk-full": (
        "the disk with the run folder is full",
        Ends(
            fill_disk,
            other="host-b",
            names="rank 0 on host-a ended by itself (the disk is full",
            resumes_on=("host-a",),
            disk=12,
        ),
    ),
    "host-killed": (
        "host-b ends, and host-c takes its place",
        Ends(on_host_b("kill"), resumes_on=("host-a", "host-c")),
    ),
    "rendezvous-killed": (
        "host-a ends, which the rendezvous is on",
        Ends(lambda job: job.network["host-a"].kill(), other="host-b", names="rank 0 on host-a"),
    ),
    "late": ("host-b comes 30 s later", LateHost()),
    "no-way": ("the interface that GLOO_SOCKET_IFNAME names is not the one between them", NoWay()),
    "elastic": ("host-b ends, later host-c comes, under torchrun --nnodes 1:2 --max_restarts 3", ElasticLauncher()),
}


# ---- the command


@contextlib.contextmanager
def job_of(kind: str, timeout: float) -> Iterator[Job]:
    """A job for a fault, on hosts and in a folder that are gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sentemb-hosts-"))
    try:
        with Network(HOSTS, KINDS[kind][1].relayed) as network:
            yield Job(network, folder, timeout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def attempt(kind: str, timeout: float) -> Row:
    """Do one fault; what went wrong with it is in the row."""
    with job_of(kind, timeout) as job:
        try:
            return KINDS[kind][1].run(job)
        except (RuntimeError, psutil.Error) as error:
            return Row("FAILED", 0.0, problems=(str(error),))


def main() -> None:
    """The command line: 0 if each row is as it must be, 1 if not, 2 where there can be no namespaces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of faults, with commas between them (default: all)")
    parser.add_argument("--times", type=int, default=1, help="how often each (default 1)")
    parser.add_argument("--timeout", type=float, default=20, help="seconds that processes wait (default 20)")
    parser.add_argument("--list", action="store_true", help="print the kinds, and end")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{kind:18} {text}" for kind, (text, _) in KINDS.items()))
        return
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; choose of {', '.join(KINDS)}")
    if why := refusal():
        print(f"not run: {why}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # (with everything cleared away)
    print(f"{date.today()}, `python -m benchmarks.hosts {' '.join(sys.argv[1:])}`, time-out {options.timeout:g} s\n")
    print("| fault | outcome | seconds | exit code | lost | resumed | the other process says |")
    print("|---|---|---|---|---|---|---|", flush=True)
    wrong = []
    for kind in kinds:
        for _ in range(options.times):
            row = attempt(kind, options.timeout)
            says = row.says.removeprefix("stopped: ").partition("; the last good checkpoint")[0]
            cells = (KINDS[kind][0], row.outcome, f"{row.seconds:.1f}", row.code, row.lost, row.resumed, says)
            print(f"| {' | '.join(cells)} |", flush=True)
            wrong += [f"{kind}: {problem}" for problem in row.problems]
            for problem in row.problems:
                print(f"{kind}: {problem}", file=sys.stderr, flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
