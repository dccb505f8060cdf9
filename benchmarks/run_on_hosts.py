"""A training run whose processes are on hosts of a network of namespaces: started, watched and resumed."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks.namespaces import DEVICE, Network
from sentemb.errors import CorruptFolder
from sentemb.runs import RunFolder
from sentemb.storage import verify

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "recipes" / "train_bookcorpus.py")
HOSTS = ("host-a", "host-b", "host-c")
ENCODER = "static:embeddings=random,dim=8,vocabulary=300"
SAVE_EVERY = 20
BEGIN = 45  # updates before the fault
LONGEST = 300  # seconds to start, prepare and resume, on a busy machine


def write_corpus(path: Path) -> Path:
    """Made-up documents of distinct sentences, one a line."""
    nouns = ("cat", "dog", "king", "queen", "ship", "poet", "child", "judge")
    texts = [
        "\n".join(f"the {a} sees the {b} number {i} of {j}." for i, b in enumerate(nouns))
        for j, a in enumerate(nouns * 4)
    ]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return path


class Job:
    """Processes of one run on some hosts of a network.

    Args:
        network: the hosts.
        folder: run folder, cache and what is printed are in it.
        timeout: seconds that processes wait for each other.
    """

    def __init__(self, network: Network, folder: Path, timeout: float) -> None:
        self.network, self.folder, self.timeout = network, folder, timeout
        self.out = folder / "run"
        self.launchers: dict[str, psutil.Popen] = {}
        self.workers: dict[str, psutil.Process] = {}
        self._port = 29500

    def arguments(self) -> list[str]:
        """Of the recipe: a run without an end."""
        corpus = self.folder / "text.txt"
        if not corpus.exists():
            write_corpus(corpus)
        return [
            *("--corpus", str(corpus), "--encoder", ENCODER, "--batch-size", "8", "--schedule", "constant"),
            *("--max-steps", "1000000", "--save-every", str(SAVE_EVERY), "--log-every", "1", "--eval-every", "0"),
            *("--no-score", "--precision", "no", "--timeout", str(self.timeout / 60), "--out", str(self.out)),
        ]

    def start(self, name: str, arguments: Sequence[str], nodes: str = "2", first: str = "host-a", **more: str) -> None:
        """Start the launcher of a host, and with it, once all hosts are there, its process.

        ``first``: the host of the rendezvous. ``more``: further variables of its environment.
        """
        variables = {
            "SENTEMB_CACHE": f"{self.folder}/cache",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "GLOO_SOCKET_IFNAME": DEVICE,
            **more,
        }
        launcher = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", nodes, "--nproc_per_node", "1"),
            *("--max_restarts", "3" if ":" in nodes else "0"),
            *("--rdzv_backend", "c10d", "--rdzv_endpoint", f"{first}:{self._port}"),
        ]
        with open(self.printed(name), "a") as printed:
            self.launchers[name] = psutil.Popen(
                [*self.network[name].enter, *launcher, RECIPE, *arguments],
                env={k: v for k, v in os.environ.items() if not k.startswith("SENTEMB")} | variables,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        self.workers.pop(name, None)

    def printed(self, name: str) -> Path:
        """The file with what a host's processes print."""
        return self.folder / f"printed-{name}"

    def launcher(self, name: str) -> psutil.Process:
        """The launcher itself, under the process that enters the host."""
        return self.launchers[name].children()[0]

    def worker(self, name: str) -> psutil.Process:
        """The process that trains on a host."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            with contextlib.suppress(IndexError, psutil.Error):
                for child in self.launcher(name).children():
                    if RECIPE in child.cmdline():
                        return child
            self.require(name)
            time.sleep(0.1)
        raise RuntimeError(f"no process on {name} after {LONGEST} s")

    def require(self, name: str) -> None:
        """RuntimeError with what it printed if a launcher has ended."""
        if self.launchers[name].poll() is not None:
            raise RuntimeError(f"{name} has ended: {self.printed(name).read_text(errors='replace')[-3000:]}")

    def processes(self) -> int:
        """How many processes the run has, by its config.json."""
        return int(RunFolder(self.seen()).read_config().get("world_size", 0))

    def step(self) -> int:
        """Updates in the log, as the first host sees it; -1: none."""
        with contextlib.suppress(OSError):
            for line in reversed(RunFolder(self.seen()).log.read_text(encoding="utf-8").splitlines()[-2:]):
                with contextlib.suppress(ValueError):  # (one that a full disk has cut off)
                    return int(json.loads(line)["step"])
        return -1

    def seen(self) -> Path:
        """The run folder as the first host sees it, which may have a disk of its own there."""
        root = self.network["host-a"].root
        path = root / self.out.relative_to("/")
        return path if path.exists() else self.out

    def wait_for(self, condition: Callable[[], bool], names: Sequence[str], seconds: float = LONGEST) -> None:
        """Until something is so; RuntimeError if it takes too long, or a launcher of ``names`` ends before."""
        until = time.monotonic() + seconds
        while not condition():
            for name in names:
                self.require(name)
            if time.monotonic() > until:
                texts = [self.printed(name).read_text(errors="replace")[-1500:] for name in names]
                raise RuntimeError("\n".join([f"not so after {seconds:.0f} s", *texts]))
            time.sleep(0.1)

    def begin(self) -> None:
        """Start both hosts and let them train for some updates."""
        for name in HOSTS[:2]:
            self.start(name, self.arguments())
        self.wait_for(lambda: self.step() >= BEGIN, HOSTS[:2])
        self.workers = {name: self.worker(name) for name in HOSTS[:2]}

    def sentence(self, name: str) -> str:
        """What a process printed last of why it stopped; empty if nothing."""
        lines = self.printed(name).read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith(("stopped: ", "error: "))), "")

    def exit_code(self, name: str) -> str:
        """Of a host's process that has ended, as its launcher tells, which prints those that are not 0.

        Where the launcher has ended without telling, as it lost the others first: its code.
        """
        text = self.printed(name).read_text(errors="replace")
        if "exitcode" in text:
            return text.rpartition("exitcode")[2].split()[1]
        code = self.launchers[name].poll()
        return str(code) if code is not None else "?" if self.sentence(name) else "0"

    def newest_valid(self) -> tuple[int, int]:
        """The step of the newest valid checkpoint, and how many newer ones are damaged."""
        for damaged, checkpoint in enumerate(RunFolder(self.seen()).all_checkpoints()):
            with contextlib.suppress(CorruptFolder):
                verify(checkpoint)
                return int(checkpoint.name.removeprefix("step-")), damaged
        raise RuntimeError("no checkpoint is valid")

    def resume(self, names: Sequence[str], elastic: bool) -> int:
        """Continue for some updates on these hosts; returns the last step."""
        self._port += 1
        last = self.newest_valid()[0] + 10
        more = ["--resume", "--out", str(self.out), "--max-steps", str(last), *(["--elastic"] if elastic else [])]
        for name in names:
            self.start(name, more, str(len(names)), names[0])
        for name in names:
            if code := self.launchers[name].wait(LONGEST):
                raise RuntimeError(
                    f"resume: exit code {code}: {self.printed(name).read_text(errors='replace')[-3000:]}"
                )
        if self.step() != last:
            raise RuntimeError(f"resume: ended at step {self.step()} and not at {last}")
        return last
