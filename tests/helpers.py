"""What several tests share and is not a fixture: runs started and read, small encoders, a model that counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SMALL = "rnn:hidden=6,embeddings=random,dim=5,vocabulary=270"  # (MiniLM's embeddings are 47 MB a file)
TINY = [
    "--encoder",
    "rnn:hidden=6,embeddings=random,dim=8,vocabulary=300",
    "--batch-size",
    "16",
    "--max-steps",
    "5",
    "--warmup",
    "1",
    "--no-score",
]  # of a recipe's run
VARIES = {"seconds", "pairs_per_second", "peak_memory_mib"}  # of the log, from run to run
STATIC = "static:embeddings=random,dim=5,vocabulary=270"

# Documents of ten sentences each, and settings of a run over them that takes a second.
NOUNS = ("cat", "dog", "king", "queen", "ship", "poet", "child", "judge", "miller", "nurse")
DOCUMENTS = [[f"the {a} sees the {b} number {i}" for i, b in enumerate(NOUNS)] for a in NOUNS]
LITTLE = {"batch_size": 8, "max_steps": 4, "warmup": 1, "lr": 1e-2, "eval_every": 0, "log_every": 1, "save_every": 2}


def torchrun(
    *command: str, cwd: Path, timeout: int = 300, environment: dict[str, str] | None = None, processes: int = 2
) -> subprocess.CompletedProcess:
    # accelerate launch --cpu --num_processes 2 starts one process; this starts two
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    variables = {k: v for k, v in os.environ.items() if k != "ACCELERATE_USE_CPU"} | {"OMP_NUM_THREADS": "1"}
    variables |= environment or {"SENTEMB_TEST_DEVICE": "cpu"}
    return subprocess.run([*runner, *command], cwd=cwd, env=variables, timeout=timeout, capture_output=True, text=True)


def records(run: Path) -> list[dict]:
    """The records of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def steady(run: Path) -> list[dict]:
    """The records without what differs from run to run."""
    return [{k: v for k, v in record.items() if k not in VARIES} for record in records(run)]


class Counting:
    """An encoder whose embedding of a text is its length and its vowels; it counts what it meets."""

    def __init__(self):
        self.met = []

    def encode(self, texts, **_):
        self.met += texts
        return np.array([[len(t), sum(c in "aeiou" for c in t), t.count("good")] for t in texts], dtype=np.float32)
