"""Exact search against ``sentence_transformers.util.semantic_search``: time and memory, on the same memory-mapped rows.

    python benchmarks/retrieval.py                                   # 10,000 queries over 1,000,000 x 384, minutes
    python benchmarks/retrieval.py --queries 500 --passages 50000    # to try it

Rows are seeded, float32, of unit length, in a file of the temporary folder. Each side runs in a process of its own, in
turns, with its defaults and the k best of all passages; a figure is the median of its runs. By cosine, semantic_search
gives rows their unit length itself, and again for each 100 queries; by dot it need not. Memory is the private memory of
the process, sampled each 10 ms, beyond what it held before the search: the mapped rows do not count. The speed of
matrix products is that of float32 products of one tile, measured in the same process. Last lines: ``ratio NAME VALUE``,
theirs over ours. Nothing else should be running.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sentemb.retrieval import top_k
from sentemb.training import processor

DIMENSION, K, ROUNDS = 384, 100, 1
SCORES = ("cosine", "dot")
BLOCK = 50_000  # rows that are drawn at a time
TILE = (512, 4096)
MIB = 2**20


def write_rows(path: Path, count: int, seed: int) -> None:
    """``count`` rows of unit length, float32."""
    generator = np.random.default_rng(seed)
    with path.open("wb") as file:
        for start in range(0, count, BLOCK):
            rows = generator.standard_normal((min(BLOCK, count - start), DIMENSION), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            file.write(rows.tobytes())


def ours(queries: NDArray[np.float32], passages: NDArray[np.float32], score: str) -> NDArray[np.int64]:
    """Numbers of the nearest, ``[q, k]``."""
    return top_k(queries, passages, K, score)[0]


def theirs(queries: NDArray[np.float32], passages: NDArray[np.float32], score: str) -> NDArray[np.int64]:
    """The same by sentence-transformers."""
    from sentence_transformers.util import cos_sim, dot_score, semantic_search

    x, y = torch.from_numpy(queries), torch.from_numpy(passages)
    hits = semantic_search(x, y, top_k=K, score_function=cos_sim if score == "cosine" else dot_score)
    return np.array([[hit["corpus_id"] for hit in row] for row in hits])


SIDES: dict[str, Callable[..., NDArray[np.int64]]] = {"ours": ours, "theirs": theirs}


class PrivateMemory:
    """The most private memory of this process in a block, in MiB beyond what it held before."""

    def __enter__(self) -> "PrivateMemory":
        self.before = self.most = self.now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @staticmethod
    def now() -> float:
        """MiB."""
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024

    def _sample(self) -> None:
        while not self._stop.wait(0.01):
            self.most = max(self.most, self.now())

    @property
    def mib(self) -> float:
        """Beyond what there was before."""
        return self.most - self.before


def product_speed() -> float:
    """Operations a second of float32 products of one tile."""
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((n, DIMENSION), dtype=np.float32) for n in TILE)
    out, best = np.empty(TILE, dtype=np.float32), 0.0
    for _ in range(30):
        start = time.perf_counter()
        np.matmul(a, b.T, out=out)
        best = max(best, 2 * TILE[0] * TILE[1] * DIMENSION / (time.perf_counter() - start))
    return best


def search(who: str, score: str, folder: Path) -> None:
    """One side in this process: writes its result, prints seconds, MiB and the speed of products as JSON."""
    queries = np.fromfile(folder / "queries", dtype=np.float32).reshape(-1, DIMENSION)
    # (copy-on-write, as torch warns of arrays that cannot be written to)
    passages = np.memmap(folder / "passages", dtype=np.float32, mode="c").reshape(-1, DIMENSION)
    SIDES[who](queries[:10], passages[:1000], score)  # what is loaded or compiled at the first call
    speed = product_speed()
    with PrivateMemory() as memory:
        start = time.perf_counter()
        ids = SIDES[who](queries, passages, score)
        seconds = time.perf_counter() - start
    np.save(folder / f"{who}-{score}.npy", ids)
    print(json.dumps({"seconds": seconds, "mib": memory.mib, "speed": speed}))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "SCORE", "FOLDER"), help="one side, in this process")
    options = parser.parse_args(arguments)
    if options.side:
        search(options.side[0], options.side[1], Path(options.side[2]))
        return
    print(processor())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "passages", options.passages, 0)
        write_rows(folder / "queries", options.queries, 1)
        print(
            f"{options.queries:,} queries over {options.passages:,} x {DIMENSION} float32 "
            f"({(folder / 'passages').stat().st_size / MIB:,.0f} MiB mapped), k = {K}"
        )
        ratios = [line for score in SCORES for line in compare(score, folder, options)]
    print("\n".join(ratios))


def compare(score: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """Both sides by one score; prints figures, returns the lines of ratios."""
    results: dict[str, dict[str, list[float]]] = {who: {} for who in SIDES}
    for _ in range(options.rounds):
        for who in SIDES:
            command = [sys.executable, __file__, "--side", who, score, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            for key, value in json.loads(done.stdout.splitlines()[-1]).items():
                results[who].setdefault(key, []).append(value)
    middle = {who: {key: statistics.median(values) for key, values in each.items()} for who, each in results.items()}
    operations = 2 * options.queries * options.passages * DIMENSION
    for who, each in middle.items():
        share = operations / each["seconds"] / each["speed"]
        print(
            f"{score:6} {who:6} {each['seconds']:8.1f} s, {each['mib']:8,.0f} MiB, "
            f"{operations / each['seconds'] / 1e9:.0f} of {each['speed'] / 1e9:.0f} GFLOP/s of a product ({share:.0%})",
            flush=True,
        )
    mine, other = (np.load(folder / f"{who}-{score}.npy") for who in SIDES)
    shared = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(mine, other, strict=True)])
    print(f"{score:6} {shared:.4%} of their passages are ours", flush=True)
    return [  # (a search so small that nothing is allocated for it counts as one MiB)
        f"ratio {what}-search-{score} {middle['theirs'][key] / max(middle['ours'][key], least):.2f}"
        for what, key, least in (("time", "seconds", 1e-3), ("memory", "mib", 1))
    ]


if __name__ == "__main__":
    main()
