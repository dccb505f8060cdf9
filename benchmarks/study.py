"""Encoders an hour: a study's encoders trained together in one process, against one after another in the same process.

    python benchmarks/study.py --corpus BOOKS     # minutes on two cores; nothing else may run meanwhile

Both train the same encoders on the same pairs as recipes/sweep.py does. Objectives, temperatures and rates differ, all
else is alike. A run counts from the opened corpus to the saved models, without scores on tasks. Both take turns; the
figure of each is the median of its runs. The largest difference between the weights of both is printed, too. Last
lines: `ratio NAME VALUE`, encoders an hour together over those one by one.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from recipes.study.plan import DEFAULTS, EncoderSpec
from recipes.study.run.training import Job, train_jobs
from sentemb.corpus import Corpus, absolute_corpus, open_corpus
from sentemb.encoders import load
from sentemb.training import processor, tune_memory, use_threads

CASES = {
    "stacked-static": {"encoder": "static:embeddings=random,dim=128", "batch_size": 512, "lr": 1e-2},
    "stacked-gru": {"encoder": "rnn:cell=gru,hidden=64,gain=15", "batch_size": 128, "lr": 3e-3},
}
OBJECTIVES = [  # taken in turn
    "infonce:temperature=0.05",
    "align_uniform:align=0.7,weight=0.3",
    "infonce:temperature=0.2",
    "mix:contrastive=0.5,align=0.5,uniform=0.5,temperature=0.2",
]


def encoders(case: str, options: argparse.Namespace) -> list[EncoderSpec]:
    """The encoders of a case: in turn of other objectives, and each of another learning rate."""
    shared = DEFAULTS | CASES[case] | {"corpus": options.corpus, "max_length": 32, "threads": options.threads}
    shared |= {"max_steps": options.steps, "warmup": 10, "eval_every": 0, "save_every": 0, "dev": "heldout"}
    made = []
    for number in range(options.encoders):
        differing = {"objective": OBJECTIVES[number % len(OBJECTIVES)], "lr": shared["lr"] * 0.9 ** (number // 4)}
        made.append(EncoderSpec(f"encoder-{number}", "encoder", shared | differing))
    return made


def trained(specs: list[EncoderSpec], corpus: Corpus, out: Path, together: bool) -> float:
    """Seconds in which the models of all encoders are made, in folders of ``out``."""
    out.mkdir()
    with (out / "log.txt").open("w") as log:
        jobs = [Job(spec, out / spec.name, log) for spec in specs]
        start = time.perf_counter()
        for part in [jobs] if together else [[job] for job in jobs]:
            train_jobs(part, corpus, 1)
        seconds = time.perf_counter() - start
    for job in jobs:
        if job.row is not None:
            sys.exit(f"error: {job.row['reason']}")
    return seconds


def difference(specs: list[EncoderSpec], one: Path, other: Path) -> float:
    """The largest difference between weights of the same encoder in both folders."""
    largest = 0.0
    for spec in specs:
        ours, theirs = (load(out / spec.name / "model", device="cpu").state_dict() for out in (one, other))
        largest = max(largest, *(float((ours[name] - theirs[name]).abs().max()) for name in theirs))
    return largest


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="sample", help="as for the recipes (default sample)")
    parser.add_argument("--encoders", type=int, default=8, help="of a case (default 8)")
    parser.add_argument("--steps", type=int, default=100, help="updates of each encoder (default 100)")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="of the process (default 1, as in a study)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    options.corpus = absolute_corpus(options.corpus)
    use_threads(options.threads)
    tune_memory()
    print(f"processor: {processor()}; torch {torch.__version__}")
    corpus = open_corpus(options.corpus, progress=True)
    ratios = {}
    for case in options.cases:
        specs = encoders(case, options)
        rates: dict[bool, list[float]] = {True: [], False: []}
        with tempfile.TemporaryDirectory() as folder:
            trained(specs[:1], corpus, Path(folder) / "first", True)  # tokens and vocabulary are in the cache then
            for number in range(options.runs):
                for together in (True, False):
                    seconds = trained(specs, corpus, Path(folder) / f"{number}-{together}", together)
                    rates[together].append(3600 * len(specs) / seconds)
                now = f"together {rates[True][-1]:,.0f}, one by one {rates[False][-1]:,.0f} encoders/hour"
                print(f"{case} run {number + 1}: {now}", file=sys.stderr, flush=True)
            apart = difference(specs, Path(folder) / "0-True", Path(folder) / "0-False")
        middle = {together: statistics.median(values) for together, values in rates.items()}
        print(
            f"{case}: {len(specs)} encoders of {options.steps} updates: together {middle[True]:,.0f}, one by one "
            f"{middle[False]:,.0f} encoders/hour; weights at most {apart:.1g} apart"
        )
        ratios[case] = middle[True] / middle[False]
    for case, value in ratios.items():
        print(f"ratio {case} {value:.2f}")


if __name__ == "__main__":
    main()
