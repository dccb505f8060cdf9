"""Our probe against the plain loop over scikit-learn, on the same arrays and the same fits, in one run.

    python benchmarks/probe.py                        # 384 dimensions: every fit; 2,400: each 33rd of scikit-learn's
    python benchmarks/probe.py --share 1 1            # every fit of both (hours)
    python benchmarks/probe.py --agree                # no times: the same fits by scikit-learn, run to convergence

The arrays are embeddings of all-MiniLM-L6-v2 (384) and seeded random features of them, tanh(XW) (2,400), of the seven
transfer tasks in $SENTEMB_DATA/senteval. The peer is ``LogisticRegression(C=C)`` as SentEval's scikit-learn mode calls
it, fit after fit, in float32, with as many threads as torch has. With a share below 1 only each so-manieth of its fits
is run, spread over folds and C, and its time is scaled up. The last lines read ``ratio NAME VALUE``: how many times
faster ours is, summed over the tasks. Nothing else should be running.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from eval import GROUPS, Data, Fold, Logistic, Result, choose_tasks, data_folder, kfold, nested, read, split, stratified
from sentemb.encoders import load, minilm_folder
from sentemb.errors import InputError
from sentemb.storage import cache_dir
from sentemb.validation import CachedEncoder, EmbeddingCache


def random_features(x: np.ndarray, width: int) -> np.ndarray:
    """``x`` ``[n, d]`` itself, or tanh(xW) ``[n, width]`` float32 with W drawn from the normal distribution, seeded."""
    if width == x.shape[1]:
        return x
    weights = np.random.default_rng(0).normal(size=(x.shape[1], width)).astype(np.float32)
    return np.tanh(x @ weights)


def arrays(data: Data, encode: CachedEncoder, width: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Features, labels, and the row numbers of each part."""
    x, y, rows, start = [], [], {}, 0
    for name, part in data.parts.items():
        u = random_features(encode(part.first), width)
        if part.second:
            v = random_features(encode(part.second), width)
            u = np.concatenate([np.abs(u - v), u * v], axis=1)
        x.append(u)
        y.append(part.gold)
        rows[name] = np.arange(start, start := start + len(part))
    return np.concatenate(x), np.concatenate(y), rows


def ours(scheme: str, x: np.ndarray, y: np.ndarray, rows: dict[str, np.ndarray]) -> Result:
    """The task by our probe."""
    if scheme == "nested":
        return nested(Logistic(), x, y)
    if scheme == "kfold":
        return kfold(Logistic(), x, y, rows["train"], rows["test"])
    return split(Logistic(), x, y, rows["train"], rows["dev"], rows["test"])


def searches(scheme: str, y: np.ndarray, rows: dict[str, np.ndarray]) -> list[tuple[list[Fold], Fold]]:
    """The folds to search over and the final fit, of each outer fold."""
    if scheme == "nested":
        outer = stratified(y, np.arange(len(y)), 10)
        return [(stratified(y, fold.train, 10), fold) for fold in outer]
    if scheme == "kfold":
        return [(stratified(y, rows["train"], 10), Fold(rows["train"], rows["test"]))]
    return [([Fold(rows["train"], rows["dev"])], Fold(rows["train"], rows["test"]))]


def plain(
    scheme: str, x: np.ndarray, y: np.ndarray, rows: dict[str, np.ndarray], each: int = 1
) -> tuple[float, float, list[float], int]:
    """The same fits by scikit-learn one after another, or each ``each``-th of them.

    Returns:
        (seconds, scaled up where fits were left out; accuracy, 0 then; C chosen; fits run).
    """
    grid = Logistic().grid(scheme)

    def fit(fold: Fold, c: float) -> float:
        model = LogisticRegression(C=c).fit(x[fold.train], y[fold.train])
        return float(model.score(x[fold.test], y[fold.test]))

    plans = searches(scheme, y, rows)
    start = time.perf_counter()
    if each > 1:
        fits = [(fold, c) for inner, _ in plans for fold in inner for c in grid] + [
            (last, grid[2]) for _, last in plans
        ]
        # A step that shares no factor with the grid's length meets every C.
        while np.gcd(each, len(grid)) > 1:
            each += 1
        chosen = fits[each // 2 :: each]
        chosen = chosen if len(chosen) >= 3 else [fits[0], fits[len(fits) // 2], fits[-1]]
        for fold, c in chosen:
            fit(fold, c)
        return (time.perf_counter() - start) * len(fits) / len(chosen), 0.0, [], len(chosen)
    scores, values, count = [], [], 0
    for inner, last in plans:
        means = [round(100 * float(np.mean([fit(fold, c) for fold in inner])), 2) for c in grid]
        values.append(grid[int(np.argmax(means))])
        scores.append(round(100 * fit(last, values[-1]), 2))
        count += len(inner) * len(grid) + 1
    return time.perf_counter() - start, round(float(np.mean(scores)), 2), values, count


def race(data: Sequence[Data], encode: CachedEncoder, width: int, share: float) -> float:
    """Print both times of each task; returns how many times faster ours is in all."""
    print(f"{width} dimensions\n{'task':6} {'ours, s':>9} {'scikit-learn, s':>16} {'ratio':>7}   accuracies")
    total = np.zeros(2)
    for task in data:
        x, y, rows = arrays(task, encode, width)
        start = time.perf_counter()
        probe_scores = ours(task.task.scheme, x, y, rows)
        mine = time.perf_counter() - start
        theirs, accuracy, _, count = plain(task.task.scheme, x, y, rows, max(1, round(1 / share)))
        total += mine, theirs
        peer = f"{accuracy:.2f}" if accuracy else f"({count} fits run)"
        print(
            f"{task.task.name:6} {mine:9.2f} {theirs:16.2f} {theirs / mine:7.1f}   {probe_scores.acc:.2f} {peer}",
            flush=True,
        )
    print(f"{'sum':6} {total[0]:9.2f} {total[1]:16.2f} {total[1] / total[0]:7.1f}\n")
    return float(total[1] / total[0])


def path(x: np.ndarray, y: np.ndarray, fold: Fold, grid: Sequence[float]) -> list[float]:
    """Accuracies of a fold along ``grid``, by scikit-learn in float64; a solution is the start of the next."""
    model = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=1000, warm_start=True)
    train, test = x[fold.train].astype(np.float64), x[fold.test].astype(np.float64)
    return [model.set_params(C=c).fit(train, y[fold.train]).score(test, y[fold.test]) for c in grid]


def agree(data: Sequence[Data], encode: CachedEncoder) -> None:
    """Print where our probe and scikit-learn, in float64 and converged, differ."""
    same = folds = 0
    for task in data:
        x, y, rows = arrays(task, encode, 384)
        probe_scores = ours(task.task.scheme, x, y, rows)
        grid, values, scores = Logistic().grid(task.task.scheme), [], []
        with parallel_config("loky", n_jobs=torch.get_num_threads(), inner_max_num_threads=1):
            for inner, last in searches(task.task.scheme, y, rows):
                means = np.mean(Parallel()(delayed(path)(x, y, fold, grid) for fold in inner), axis=0)
                values.append(grid[int((100 * means).round(2).argmax())])
                scores.append(round(100 * path(x, y, last, [values[-1]])[0], 2))
        accuracy, equal = np.mean(scores), sum(a == b for a, b in zip(probe_scores.chosen, values, strict=True))
        print(
            f"{task.task.name:6} ours {probe_scores.acc:.2f} scikit-learn {accuracy:.2f} same C {equal}/{len(values)}"
        )
        if task.task.scheme == "nested":
            same, folds = same + equal, folds + len(values)
    print(f"same C in {same} of {folds} outer folds")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[384, 2400])
    parser.add_argument(
        "--share", type=float, nargs="+", default=[1, 0.03], help="of scikit-learn's fits, a dimension each"
    )
    parser.add_argument("--tasks", default=",".join(GROUPS["transfer"]))
    parser.add_argument("--data", type=Path, help="holds downstream/; else $SENTEMB_DATA/senteval")
    parser.add_argument("--agree", action="store_true", help="compare results, not times")
    options = parser.parse_args()
    if len(options.share) != len(options.dims) or not all(0 < share <= 1 for share in options.share):
        parser.error("--share takes a number in (0, 1] for each of --dims")
    torch.set_num_threads(os.cpu_count() or 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        folder = data_folder(options.data)
        data = [read(task, folder) for task in choose_tasks(options.tasks, folder)]
        if not all(task.task.probed for task in data):
            raise InputError(f"--tasks has a task without a probe; take some of {', '.join(GROUPS['transfer'])}")
        model = load(minilm_folder(), device="cpu")
        encode = CachedEncoder(model, progress=True, cache=EmbeddingCache(cache_dir() / "benchmarks", model))
        encode.prepare([text for task in data for text in task.texts])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
        warnings.simplefilter("ignore", ConvergenceWarning)  # its default 100 rounds often do not do
        if options.agree:
            agree(data, encode)
            return
        ratios = [race(data, encode, width, share) for width, share in zip(options.dims, options.share, strict=True)]
    for width, ratio in zip(options.dims, ratios, strict=True):
        print(f"ratio probe-{width} {ratio:.1f}")


if __name__ == "__main__":
    main()
