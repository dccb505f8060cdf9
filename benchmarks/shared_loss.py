"""Time and memory of a loss that processes share out, against the same loss that each of them computes.

    python benchmarks/shared_loss.py                        # two processes, n = 16,384, d = 384
    python benchmarks/shared_loss.py --processes 4 --pairs 32768 --cases infonce ntxent

Each process has n / processes of the rows. A round gathers all rows, takes the loss forward and backward, and leaves
each process the gradient at its rows; its time is the slowest process's. Rounds of both forms are taken in turns, after
one of each that is not counted, and the median is shown. Memory is what a round adds to the most that a process has
ever held, of all processes together, in launches of their own. Both forms' losses and gradients are compared. Last
lines: `ratio NAME VALUE`, shared over replicated.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from sentemb.objectives import AnchorRows, Extras, build_objective
from sentemb.training import processor, tune_memory, use_threads
from sentemb.training.distributed import gather

CASES = ("infonce", "infonce:symmetric=yes", "ntxent", "dcl", "align_uniform")
FORMS = ("replicated", "shared")
NEAR = 1e-4  # relative, of losses and gradients in float32


def rows_of(rank: int, counts: Sequence[int], d: int) -> tuple[Tensor, Tensor]:
    """A process's rows and positives of theirs."""
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(counts[rank], d, generator=generator)
    y = x + torch.randn(counts[rank], d, generator=generator)
    return x.requires_grad_(), y.requires_grad_()


def one_round(form: str, spec: str, x: Tensor, y: Tensor, counts: tuple[int, ...]) -> tuple[float, float]:
    """Seconds of this process, and the loss; the gradient is in the rows."""
    x.grad = y.grad = None
    objective = build_objective(spec)
    rows = AnchorRows(counts, dist.get_rank(), gather) if form == "shared" else None
    dist.barrier()
    start = time.perf_counter()
    views = gather(x, counts), gather(y, counts)
    loss = objective(*views, Extras(rows=rows))
    (loss * (len(counts) if rows else 1)).backward()
    taken = time.perf_counter() - start
    return taken, float(loss.detach() if rows is None else rows.total(loss))


def over_processes(number: float, how: dist.ReduceOp.RedOpType) -> float:
    """The sum of the processes' numbers, or their largest."""
    value = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(value, op=how)
    return float(value)


def held() -> float:
    """MiB, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(forms: Sequence[str], spec: str, n: int, d: int, rounds: int) -> dict[str, dict[str, float]]:
    """Of each form: seconds, the loss, the norm of the gradient at all rows; of a form alone its MiB."""
    world = dist.get_world_size()
    counts = tuple(len(range(rank, n, world)) for rank in range(world))
    x, y = rows_of(dist.get_rank(), counts, d)
    before, seconds = held(), {form: [] for form in forms}
    figures: dict[str, dict[str, float]] = {form: {} for form in forms}
    for number in range(rounds + (rounds > 1)):
        for form in forms:
            taken, loss = one_round(form, spec, x, y, counts)
            if number or rounds == 1:
                seconds[form].append(over_processes(taken, dist.ReduceOp.MAX))
            assert x.grad is not None
            norm = over_processes(float(x.grad.double().square().sum()), dist.ReduceOp.SUM) ** 0.5
            figures[form] = {"loss": loss, "gradient": norm}
    for form in forms:
        figures[form] |= {"seconds": statistics.median(seconds[form])}
        if len(forms) == 1:
            figures[form] |= {"mib": over_processes(held() - before, dist.ReduceOp.SUM)}
    return figures


def work(options: argparse.Namespace) -> None:
    """What each of the processes does."""
    tune_memory()
    use_threads(options.threads)
    dist.init_process_group("gloo")
    figures = measure(options.work, options.cases[0], options.pairs, options.dimension, options.rounds)
    if dist.get_rank() == 0:
        print(json.dumps(figures), flush=True)
    dist.destroy_process_group()


def launched(forms: Sequence[str], case: str, options: argparse.Namespace, rounds: int) -> dict[str, dict[str, float]]:
    """:func:`measure` in new processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={options.processes}"]
    command += [
        str(Path(__file__)),
        "--pairs",
        str(options.pairs),
        "--dimension",
        str(options.dimension),
        "--rounds",
        str(rounds),
    ]
    command += ["--cases", case, "--work", *forms]
    command += ["--threads", str(options.threads)] if options.threads else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{case} failed: {done.stderr[-2000:]}")
    figures: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(case: str, options: argparse.Namespace) -> list[tuple[str, float]]:
    """Print both forms' figures; returns their ratios."""
    figures = launched(FORMS, case, options, options.rounds)
    for form in FORMS:
        figures[form]["mib"] = launched([form], case, options, 1)[form]["mib"]
        print(
            f"{case:22} n {options.pairs:,} d {options.dimension}, {options.processes} processes  {form:10} "
            f"{figures[form]['seconds']:8.3f} s  {figures[form]['mib']:7.0f} MiB  loss {figures[form]['loss']:.6f}",
            flush=True,
        )
    replicated, shared = (figures[form] for form in FORMS)
    for what in ("loss", "gradient"):
        if abs(shared[what] - replicated[what]) > NEAR * max(1e-6, abs(replicated[what])):
            sys.exit(f"{case}: the {what} is {shared[what]} where it is shared out, else {replicated[what]}")
    key = f"{case.partition(':')[0]}{'-symmetric' if 'symmetric' in case else ''}-{options.pairs}-{options.processes}"
    return [
        (f"shared-time-{key}", shared["seconds"] / replicated["seconds"]),
        (f"shared-memory-{key}", shared["mib"] / max(1.0, replicated["mib"])),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES, help="which objectives; default: %(default)s")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=16384, help="n, of all processes; default 16384")
    parser.add_argument("--dimension", type=int, default=384, help="d; default 384")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken; default 5")
    parser.add_argument("--threads", type=int, help="of each process; default: its share of the cores")
    parser.add_argument("--work", nargs="*", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(options)
        return
    print(processor())
    ratios = [ratio for case in options.cases for ratio in compare(case, options)]
    for key, value in ratios:
        print(f"ratio {key} {value:.2f}")


if __name__ == "__main__":
    main()
