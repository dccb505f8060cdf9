"""Time and peak memory of objectives, forward and backward, against the plain torch form that holds all scores.

    python benchmarks/objectives.py            # n = 2,048, 8,192, 32,768, half an hour; nothing else may run
    python benchmarks/objectives.py --large    # ours at n = 131,072, and uniformity of 100,000 x 768

Memory is the most that a process of its own ever held beyond what it held before (data made, libraries loaded). Time is
the median of nine runs, taken in turns in one process where both fit (up to n = 8,192), else of that process' one run.
Both sides see the same rows, and their losses are compared. Last lines: `ratio NAME VALUE`: time is ours over plain,
memory is plain over ours.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sentemb.geometry import uniformity
from sentemb.objectives import OBJECTIVES
from sentemb.registry import build

SIZES = (2048, 8192, 32768)
TOGETHER = 8192  # both sides' times are taken in turns up to here
LARGE = 131072
CASES = ("infonce", "infonce:symmetric=yes", "dcl", "ntxent", "align_uniform")
# Of the plain forms: 2 n x 2 n scores of 32,768 pairs are 17 GB, and there are several of them.
PLAIN_LIMIT = {"ntxent": 8192, "dcl": 8192, "infonce:symmetric=yes": 16384}
TAU = 0.05
Form = Callable[[str, Tensor, Tensor], Tensor]


def plain(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The loss as one would write it in torch."""
    x, y = normalize(x, dim=1), normalize(y, dim=1)
    order = torch.arange(len(x))
    if name == "infonce":
        return cross_entropy(x @ y.T / TAU, order)
    if name == "infonce:symmetric=yes":
        scores = x @ y.T / TAU
        return (cross_entropy(scores, order) + cross_entropy(scores.T, order)) / 2
    if name == "align_uniform":
        spread = [torch.pdist(side).pow(2).mul(-2).exp().mean().log() for side in (x, y)]
        return (x - y).norm(dim=1).pow(2).mean() + (spread[0] + spread[1]) / 2
    views = torch.cat([x, y])
    positives = torch.cat([order + len(x), order])
    scores = (views @ views.T / TAU).fill_diagonal_(-torch.inf)
    if name == "ntxent":
        return cross_entropy(scores, positives)
    right = scores.gather(1, positives[:, None])
    return (scores.scatter(1, positives[:, None], -torch.inf).logsumexp(dim=1) - right[:, 0]).mean()


def ours(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The same by its name."""
    more = "" if name == "align_uniform" else f"{',' if ':' in name else ':'}temperature={TAU}"
    return build(OBJECTIVES, name + more)(x, y)


FORMS: dict[str, Form] = {"ours": ours, "plain": plain}


def held() -> float:
    """MiB, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def data(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Rows and positives of theirs, ``[n, d]``."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    y = x + torch.randn(n, d, generator=generator)
    return x.requires_grad_(), y.requires_grad_()


def once(form: Form, name: str, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Seconds of a forward and a backward, and the loss."""
    x.grad = y.grad = None
    start = time.perf_counter()
    loss = form(name, x, y)
    loss.backward()
    return time.perf_counter() - start, loss.item()


def measure(side: str, name: str, n: int, d: int) -> dict[str, float]:
    """Seconds, MiB and the loss, of a process that does nothing else; of ``both`` sides their seconds alone."""
    if name == "uniformity metric":
        x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
        x /= x.norm(dim=1, keepdim=True)
        before, start = held(), time.perf_counter()
        loss = uniformity(x).item()
        taken = time.perf_counter() - start
        return {"seconds": taken, "mib": held() - before, "whole_mib": held(), "loss": loss}
    x, y = data(n, d)
    if side == "both":
        seconds: dict[str, list[float]] = {form: [] for form in FORMS}
        for _ in range(10):
            for form in FORMS:
                seconds[form].append(once(FORMS[form], name, x, y)[0])
        return {form: statistics.median(times[1:]) for form, times in seconds.items()}
    before = held()
    taken, loss = once(FORMS[side], name, x, y)
    return {"seconds": taken, "mib": held() - before, "whole_mib": held(), "loss": loss}


def run(side: str, name: str, n: int, d: int) -> dict[str, float]:
    """``measure`` in a new process."""
    command = [sys.executable, str(Path(__file__)), "--one", side, name, str(n), str(d)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} {name} at n = {n}, d = {d} failed: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def show(side: str, name: str, n: int, d: int, measurement: dict[str, float]) -> None:
    """A line of what was measured."""
    print(
        f"{name:22} n {n:7,} d {d}  {side:5} {measurement['seconds']:8.3f} s  {measurement['mib']:8.0f} MiB "
        f"({measurement['whole_mib']:.0f} with libraries and data)  loss {measurement['loss']:.6f}",
        flush=True,
    )


def compare(name: str, n: int, d: int) -> list[tuple[str, float]]:
    """Both sides' figures, and their ratios."""
    sides = ["ours"] if n > PLAIN_LIMIT.get(name, n) else list(FORMS)
    measurements = {side: run(side, name, n, d) for side in sides}
    if n <= TOGETHER:
        for side, seconds in run("both", name, n, d).items():
            measurements[side]["seconds"] = seconds
    for side in sides:
        show(side, name, n, d, measurements[side])
    if len(sides) < 2:
        return []
    mine, theirs = measurements["ours"], measurements["plain"]
    if abs(mine["loss"] - theirs["loss"]) > 1e-4 * max(1, abs(theirs["loss"])):
        sys.exit(f"{name}: ours is {mine['loss']}, plain {theirs['loss']}")
    key = f"{name.partition(':')[0]}{'-symmetric' if 'symmetric' in name else ''}-{n}-{d}"
    return [
        (f"time-{key}", mine["seconds"] / theirs["seconds"]),
        (f"memory-{key}", theirs["mib"] / max(1, mine["mib"])),
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES, help="which objectives")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="pairs n; default 2048 8192 32768")
    parser.add_argument("--dimensions", nargs="*", type=int, default=(384, 768), help="d; default 384 768")
    parser.add_argument("--large", action="store_true", help="ours alone at n = 131,072, and the metric of 100,000")
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "NAME", "N", "D"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        side, name, n, d = options.one
        print(json.dumps(measure(side, name, int(n), int(d))))
        return
    if options.large:
        for name, n, d in (("infonce", LARGE, 384), ("align_uniform", LARGE, 384), ("uniformity metric", 100_000, 768)):
            show("ours", name, n, d, run("ours", name, n, d))
        return
    ratios = [
        ratio
        for d in options.dimensions
        for n in options.sizes
        for name in options.cases
        for ratio in compare(name, n, d)
    ]
    for key, value in ratios:
        print(f"ratio {key} {value:.2f}")


if __name__ == "__main__":
    main()
