"""Mining of hard negatives against ``sentence_transformers.util.mine_hard_negatives``: time and memory.

    python -m benchmarks.mining --corpus BOOKS                            # 500,000 anchors, an hour and more
    python -m benchmarks.mining --anchors 2000 --theirs 2000 --pool 5000  # the built-in sample, to try it

Pairs are neighbouring sentences. Each side embeds anchors, positives and a pool, and finds for each anchor 4 negatives
after the 10 nearest whose score is at most 95 % of the positive's. Each runs in a process of its own, float32, with
its defaults. First ours alone with ``--anchors``, then both in turns with ``--theirs``, a size that the other can bear:
it holds the scores of 16,384 anchors with all candidates at a time. Its candidates are the pool and all positives, and
of these it reads little more than the nearest 50, so that many anchors get fewer negatives; ours reads all of the
pool. Memory is the private memory of the process, sampled each 10 ms, beyond what it held before; the mapped
embeddings do not count. Time is from texts to negatives: the corpus is prepared before. Last lines: ``ratio NAME
VALUE``, theirs over ours. Nothing else should be running.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np

from benchmarks.retrieval import PrivateMemory
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import load, minilm_folder, tokenizer_of
from sentemb.mining import MinedSpec, MiningTask, candidate_pool, finished_miner, mine_negatives, search_by_model
from sentemb.pairs import Pairs, drop_unusable_pairs, neighbours, sample
from sentemb.training import processor, tune_memory, use_threads

PER_ANCHOR, SKIP, MARGIN, LENGTH, ROUNDS = 4, 10, 0.05, 40, 1


def pairs_of(corpus: Corpus, count: int, folder: str) -> tuple[Pairs, Pairs]:
    """All neighbours, and ``count`` of them."""
    tokens = corpus.tokens(tokenizer_of(load(folder, device="cpu")), LENGTH)
    every = drop_unusable_pairs(neighbours(np.stack([corpus.documents[:-1], corpus.documents[1:]], axis=1)), tokens)
    return every, sample(every, count, 0)


def ours(corpus: Corpus, anchors: int, pool: int, folder: str) -> float:
    """The share of negatives that there are."""
    tokens = corpus.tokens(tokenizer_of(load(folder, device="cpu")), LENGTH)
    every, pairs = pairs_of(corpus, anchors, folder)
    spec = MinedSpec(folder, PER_ANCHOR, pool, SKIP, MARGIN)
    task = MiningTask(corpus, tokens, pairs, candidate_pool(every, tokens.distinct(), pool, 0), spec)
    miner = finished_miner(folder)
    mined = mine_negatives(task, miner.fingerprint, lambda: search_by_model(miner, task, LENGTH, "cpu", False))
    return 1 - mined.missing / mined.rows.size


def theirs(corpus: Corpus, anchors: int, pool: int, folder: str) -> float:
    """The same by sentence-transformers."""
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from sentence_transformers.util import mine_hard_negatives

    model = load(folder, device="cpu")
    if not isinstance(model[0], StaticEmbedding):  # (which has no such setting, and reads all tokens)
        model.max_seq_length = LENGTH
    tokens = corpus.tokens(tokenizer_of(model), LENGTH)
    every, pairs = pairs_of(corpus, anchors, folder)
    first, second = (corpus.sentences(column) for column in np.asarray(pairs.rows).T)
    mined = mine_hard_negatives(
        Dataset.from_dict({"anchor": first, "positive": second}),
        model,
        corpus=corpus.sentences(candidate_pool(every, tokens.distinct(), pool, 0)),
        range_min=SKIP,
        relative_margin=MARGIN,
        num_negatives=PER_ANCHOR,
        output_format="triplet",
        verbose=False,
    )
    return len(mined) / (anchors * PER_ANCHOR)


SIDES: dict[str, Callable[[Corpus, int, int, str], float]] = {"ours": ours, "theirs": theirs}


def one_side(who: str, anchors: int, options: argparse.Namespace) -> None:
    """One side in this process: prints seconds, MiB and the share of negatives as JSON."""
    use_threads(None)
    tune_memory()
    corpus = open_corpus(options.corpus, progress=False)
    pairs_of(corpus, 2, options.model)  # tokens, which both read
    with PrivateMemory() as memory, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        start = time.perf_counter()
        share = SIDES[who](corpus, anchors, options.pool, options.model)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mib": memory.mib, "share": share}))


def measured(who: str, anchors: int, options: argparse.Namespace) -> dict[str, float]:
    """Medians of a side, in processes with a cache that has the corpus only."""
    results: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {"SENTEMB_CACHE": cache}
            command = [sys.executable, "-m", "benchmarks.mining", "--corpus", options.corpus, "--model", options.model]
            command += ["--pool", str(options.pool), "--side", who, "--anchors", str(anchors)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        for key, value in json.loads(done.stdout.splitlines()[-1]).items():
            results.setdefault(key, []).append(value)
    middle = {key: statistics.median(values) for key, values in results.items()}
    print(
        f"{who:6} {anchors:9,} anchors, pool {options.pool:,}: {middle['seconds']:8.1f} s, {middle['mib']:8,.0f} MiB, "
        f"{middle['share']:.1%} of the negatives",
        flush=True,
    )
    return middle


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--corpus", default="sample")
    made.add_argument("--model", default=None, help="a folder; default MiniLM")
    made.add_argument("--anchors", type=int, default=500_000)
    made.add_argument("--theirs", type=int, default=20_000, help="anchors that both sides mine for")
    made.add_argument("--pool", type=int, default=50_000)
    made.add_argument("--rounds", type=int, default=ROUNDS)
    made.add_argument("--side", choices=SIDES, help="one side, in this process")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    options.model = options.model or str(minilm_folder())
    if options.side:
        one_side(options.side, options.anchors, options)
        return
    print(processor())
    if options.anchors != options.theirs:
        measured("ours", options.anchors, options)
    mine, other = (measured(who, options.theirs, options) for who in SIDES)
    for what, key, least in (("time", "seconds", 1e-3), ("memory", "mib", 1)):
        print(f"ratio {what}-mining {other[key] / max(mine[key], least):.2f}")


if __name__ == "__main__":
    main()
