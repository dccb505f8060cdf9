"""Sentences per second of a teacher's pass against ``SentenceTransformer.encode``, on the same sentences.

    python benchmarks/teacher.py                                # the built-in sample; nothing else may run meanwhile
    python benchmarks/teacher.py --corpus BOOKS --sentences 20000 --teacher minilm:layers=3-6

Ours is all of ``embed_corpus``: tokenizing, reading the weights, measuring for the estimate, embedding, writing float16
to the disk. Theirs is ``encode`` of the model read beforehand, with its default batch size and the same longest
sentence, under autocast where ours computes in bf16. Runs take turns; a figure is the median of its runs. The pass's
own estimate is printed next to the time that it took. Last lines: `ratio NAME VALUE`, ours over theirs.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.teacher import TeacherFolder, embed_corpus, parse_teacher
from sentemb.training import bf16_units, processor, tune_memory, use_threads

UNITS = {"second": 1, "seconds": 1, "minutes": 60, "hours": 3600}


@contextmanager
def fresh_cache():
    """A cache with nothing in it, on the disk of temporary files."""
    before = os.environ.get("SENTEMB_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SENTEMB_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["SENTEMB_CACHE"]
            else:
                os.environ["SENTEMB_CACHE"] = before


def ours(spec: str, texts: Sequence[str], max_length: int, bf16: bool) -> tuple[float, float]:
    """Seconds of a pass, and those that it has estimated."""
    with fresh_cache(), redirect_stderr(StringIO()) as printed:
        corpus = open_corpus([list(texts)])
        start = time.perf_counter()
        embed_corpus(TeacherFolder(parse_teacher(spec)), corpus, np.array([[0, len(texts)]]), max_length, "cpu", bf16)
        seconds = time.perf_counter() - start
    about = re.search(r"about ([\d.]+) (\w+)", printed.getvalue())
    return seconds, float(about[1]) * UNITS[about[2]] if about else float("nan")


def theirs(model: SentenceTransformer, texts: Sequence[str], bf16: bool) -> float:
    """Seconds of encode."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model.encode(list(texts), show_progress_bar=False)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="sample")
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--max-length", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    use_threads(None)
    tune_memory()
    print(processor())
    corpus = open_corpus(options.corpus)
    rows = np.random.default_rng(0).permutation(len(corpus))[: 2 * options.sentences]
    texts = list(dict.fromkeys(corpus.sentences(np.sort(rows))))[: options.sentences]
    name = parse_teacher(options.teacher).name
    model = load(name, device="cpu")
    model.max_seq_length = options.max_length
    for bf16 in (False, True) if bf16_units() else (False,):
        seconds: dict[str, list[float]] = {"ours": [], "theirs": [], "estimate": []}
        for _ in range(options.rounds):
            took, estimated = ours(options.teacher, texts, options.max_length, bf16)
            seconds["ours"].append(took)
            seconds["estimate"].append(estimated)
            seconds["theirs"].append(theirs(model, texts, bf16))
        middle = {who: statistics.median(times) for who, times in seconds.items()}
        precision = "bf16" if bf16 else "float32"
        print(
            f"{name} {precision}, {len(texts):,} sentences: ours {len(texts) / middle['ours']:,.0f} sentences/s, "
            f"encode {len(texts) / middle['theirs']:,.0f}; estimated {middle['estimate']:.0f} s, "
            f"took {middle['ours']:.1f} s in all"
        )
        print(f"ratio teacher-{name}{'-bf16' if bf16 else ''} {middle['theirs'] / middle['ours']:.2f}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
