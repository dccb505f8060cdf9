"""Speed on a GPU against what a user would pick instead, and where an update's time goes: see benchmarks/gpu.py."""

import argparse
import contextlib
import importlib.util
import io
import json
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.made_up import GRU, LSTM, Case, Text, made_from_text, shaped
from benchmarks.shapes import OLD

STEPS = 60  # updates of a training that is timed, at most
MEMORY = 2**30  # bytes of a GiB
TASKS = {  # the rows of SentEval's tasks: protocol, train, dev, test, classes, and embeddings side by side
    "MR": ("nested", 10_662, 0, 0, 2, 1),
    "CR": ("nested", 3_775, 0, 0, 2, 1),
    "SUBJ": ("nested", 10_000, 0, 0, 2, 1),
    "MPQA": ("nested", 10_606, 0, 0, 2, 1),
    "SST2": ("split", 67_349, 872, 1_821, 2, 1),
    "TREC": ("kfold", 5_452, 0, 500, 6, 1),
    "MRPC": ("kfold", 4_076, 0, 1_725, 2, 2),
}


class OutOfTime(BaseException):
    """A section has used up its seconds. (No Exception: a library may catch all of these.)"""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Let the block take that many seconds; then it ends by OutOfTime."""

    def end(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(name: str, do: Callable[[], str], end: float) -> bool:
    """Print what ``do`` says, or why it does not; False for an error."""
    if time.monotonic() >= end:
        print(f"{name}: left out for want of time", flush=True)
        return True
    try:
        with limited(end - time.monotonic()):
            print(f"{name}: {do()}", flush=True)
    except OutOfTime:
        print(f"{name}: stopped for want of time", flush=True)
    except Exception as error:  # (the others are worth knowing, too)
        traceback.print_exc()
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
        return False
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def bench(options: argparse.Namespace, end: float) -> bool:
    """Each section within its own seconds; the last lines are `ratio NAME VALUE`, ours over theirs."""
    well, ratios = True, dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for name, (section, seconds) in SECTIONS.items():
            if options.only is None or name in options.only:
                well &= section(options, min(end, time.monotonic() + seconds), Path(folder), ratios)
    for name, ratio in ratios.items():
        print(f"ratio {name} {ratio:.2f}")
    return well


# ---- training


def training(options: argparse.Namespace, end: float, folder: Path, ratios: dict[str, float]) -> bool:
    """Pairs a second of our loop and of sentence-transformers' trainer."""
    steps = min(STEPS, options.steps)
    text = Text.of(max(40, (steps + 1) * options.batch_size // 11))
    cases = {"minilm-bf16": (shaped(options, folder / "shape", text), "bf16"), "lstm-bf16": (LSTM, "bf16")}
    cases |= {"gru-bf16": (GRU, "bf16"), "minilm-float32": (cases["minilm-bf16"][0], "no")}
    well = True
    for number, (name, (spec, precision)) in enumerate(cases.items()):
        case, run = Case(spec, precision, options, text), folder / f"run-{number}"
        share = (end - time.monotonic()) / (len(cases) - number)
        well &= attempt(f"train {name}", lambda: _timed(case, run, steps, name, ratios), time.monotonic() + share)  # noqa: B023
    return well


def _timed(case: Case, run: Path, steps: int, name: str, ratios: dict[str, float]) -> str:
    case.fit(run, steps, log_every=10**6)
    memory = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["peak_memory_mib"]
    line = f"ours {case.rate():,.0f} pairs/s, peak {memory:.0f} MiB"
    print(f"train {name}: {line}", flush=True)
    lacks = "datasets" if importlib.util.find_spec("datasets") is None else ""
    if OLD and case.spec.startswith("rnn"):
        lacks = "sentence-transformers 6.2"
    if lacks:
        return f"{line} (sentence-transformers' trainer is left out: it needs {lacks} here)"
    rate = _theirs(case.spec, case.precision, case.text, argparse.Namespace(**vars(case.options) | {"steps": steps}))
    ratios[f"train-{name}"] = case.rate() / rate
    return f"sentence-transformers' trainer {rate:,.0f} pairs/s"


def _theirs(spec: str, precision: str, text: Text, options: argparse.Namespace) -> float:
    from datasets import Dataset, disable_progress_bars

    from benchmarks import train as peer

    disable_progress_bars()
    first = np.concatenate([np.arange(start, stop - 1) for start, stop in text.ranges])
    rows = np.random.default_rng(0).permutation(first)[: options.steps * options.batch_size]
    columns = {"anchor": rows, "positive": rows + 1}
    data = Dataset.from_dict({key: [text.sentences[row] for row in value] for key, value in columns.items()})
    made = peer.made
    peer.made = lambda spec, length: made_from_text(spec, length, text)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return peer.theirs(spec, precision, data, options)
    finally:
        peer.made = made


# ---- the loss


def plain_infonce(x: Tensor, y: Tensor) -> Tensor:
    """Softmax over the whole matrix of scores, as it is written without tiles; temperature 0.05."""
    scores = normalize(x, dim=1) @ normalize(y, dim=1).T / 0.05
    return cross_entropy(scores, torch.arange(len(x), device=x.device))


def losses(options: argparse.Namespace, end: float, folder: Path, ratios: dict[str, float]) -> bool:
    """Seconds and GiB of a forward and backward of a large batch, ours and plain torch, compiled too."""
    from sentemb.objectives import build_objective

    small, large = (32_768, 131_072) if options.device == "cuda" else (128, 256)
    ways = {name: build_objective(name) for name in ("infonce", "align_uniform", "ntxent")}
    cases: list[tuple[str, Callable[..., Tensor], int, str]] = [
        (f"loss infonce {small}", ways["infonce"], small, ""),
        (f"loss plain {small}", plain_infonce, small, f"loss-{small}-plain"),
        (f"loss infonce {large}", ways["infonce"], large, ""),
        (f"loss plain {large}", plain_infonce, large, f"loss-{large}-plain"),
        *[(f"loss {name} {2 * small}", ways[name], 2 * small, "") for name in ways],
    ]
    if options.device == "cuda":  # (its compiler needs longer than all the others)
        compiled = torch.compile(plain_infonce, dynamic=False)
        cases.append((f"loss compiled {small}", compiled, small, f"loss-{small}-compiled"))
    well, seconds = True, dict[str, float]()
    for shorter in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = shorter
        ending = "-tf32" if shorter else ""
        for name, loss, n, ratio in cases:

            def line(name: str = name, loss: Any = loss, n: int = n) -> str:
                seconds[name], memory = _seconds(loss, n, options.device)
                return f"{seconds[name]:.4f} s, {memory:.2f} GiB"

            well &= attempt(name + (" in TF32" if shorter else ""), line, end)
            if ratio and name in seconds and f"loss infonce {n}" in seconds:
                ratios[ratio + ending] = seconds[name] / seconds[f"loss infonce {n}"]
        seconds.clear()
    torch.backends.cuda.matmul.allow_tf32 = False
    return well


def _seconds(loss: Callable[[Tensor, Tensor], Tensor], n: int, device: str) -> tuple[float, float]:
    """Of a forward and backward, the least of three after a first one; and the most memory."""
    x = torch.randn(n, 384, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    y = (x.detach() + 0.5 * x.detach().roll(1, 0)).requires_grad_()
    times = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(4):
        x.grad = y.grad = None
        start = time.perf_counter()
        try:
            loss(x, y).backward()
        except torch.OutOfMemoryError:
            raise RuntimeError("does not fit into the GPU's memory") from None
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:]), torch.cuda.max_memory_allocated() / MEMORY if device == "cuda" else 0.0


# ---- probes and embeddings


def probes(options: argparse.Namespace, end: float, folder: Path, ratios: dict[str, float]) -> bool:
    """Seconds of the seven transfer tasks' probes, of features that are made up, and of some of scikit-learn's fits."""
    from benchmarks import probe as peer
    from eval import Logistic, kfold, nested, split

    well, totals = True, np.zeros(2)
    scale = 1 if options.device == "cuda" else 50
    warnings.filterwarnings("ignore", message=".*failed to converge.*")
    for task, (scheme, train, dev, test, classes, sides) in TASKS.items():

        def line(
            task: str = task, scheme: str = scheme, sizes: tuple[int, ...] = (train, dev, test), k: int = classes,
            width: int = 384 * sides,
        ) -> str:  # fmt: skip
            bounds = np.cumsum([0, *(size // scale for size in sizes)])
            parts = [np.arange(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]
            draw = np.random.default_rng(0)
            y = draw.integers(k, size=bounds[-1])
            x = (draw.normal(size=(len(y), width)) + 0.12 * draw.normal(size=(k, width))[y]).astype(np.float32)
            ways = {"nested": nested, "split": split, "kfold": kfold}
            rows = {"nested": [], "split": parts, "kfold": parts[::2]}[scheme]
            start = time.perf_counter()
            accuracy = ways[scheme](Logistic(options.device), x, y, *rows).acc
            ours = time.perf_counter() - start
            named = dict(zip(("train", "dev", "test"), parts, strict=True))
            theirs, *_, fits = peer.plain(scheme, x, y, named, 10**4)
            totals.__iadd__([ours, theirs])
            return f"{ours:.2f} s (accuracy {accuracy:.1f}), scikit-learn {theirs:.1f} s, from {fits} of its fits"

        well &= attempt(f"probe {task}", line, end)
    if totals[0]:
        ratios["probes"] = totals[1] / totals[0]
    return well


def encoding(options: argparse.Namespace, end: float, folder: Path, ratios: dict[str, float]) -> bool:
    """Sentences a second of a text file to vectors on the disk, and of SentenceTransformer.encode in memory."""
    text = Text.of(2_500 if options.device == "cuda" else 20)
    spec, path = shaped(options, folder / "encoded-shape", text), folder / "sentences.txt"
    path.write_text("\n".join(text.sentences) + "\n")
    model = made_from_text(spec, options.max_length, text).to(options.device).eval()

    def line() -> str:
        import sentemb

        rates = {}
        for size in (32, 512):  # (their default, and a larger one)
            model.encode(text.sentences[:size], batch_size=size)
            start = time.perf_counter()
            rows = model.encode(text.sentences, batch_size=size)
            rates[f"encode, batches of {size}"] = len(rows) / (time.perf_counter() - start)
        sentemb.encode(model, f"lines:path={path}", folder / "first", device=options.device)
        start = time.perf_counter()
        encoded = sentemb.encode(model, f"lines:path={path}", folder / "encoded", device=options.device)
        ours = len(encoded) / (time.perf_counter() - start)
        for name, rate in rates.items():
            ratios[name.replace(", batches of ", "-")] = ours / rate
        peers = ", ".join(f"{name}: {rate:,.0f}" for name, rate in rates.items())
        apart = float(np.abs(encoded.embeddings[: len(rows)] - rows).max())
        return f"ours {ours:,.0f} sentences/s; SentenceTransformer's {peers}; largest difference {apart:.1e}"

    return attempt("encode", line, end)


SECTIONS = {"train": (training, 64), "loss": (losses, 46), "probe": (probes, 22), "encode": (encoding, 14)}


# ---- a profile


def profile(options: argparse.Namespace, end: float) -> bool:
    """What updates ask of the GPU: launches, how long it is busy, and the largest of what it does."""
    from torch.profiler import ProfilerActivity

    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if options.device == "cuda" else [])
    steps = min(16, options.steps)
    text = Text.of(max(40, (steps + 1) * options.batch_size // 11))
    well = True
    with tempfile.TemporaryDirectory() as folder:
        transformer = shaped(options, Path(folder) / "shape", text)
        for number, (name, spec) in enumerate({"minilm": transformer, "lstm": LSTM}.items()):

            def line(spec: str = spec, run: Path = Path(folder) / str(number)) -> str:
                case = Case(spec, "bf16", options, text)
                with torch.profiler.profile(activities=kinds) as seen:
                    case.fit(run, steps, log_every=10**6)
                events = seen.key_averages()
                busy = sum(event.self_device_time_total for event in events) / steps / 1000
                launches = sum(event.count for event in events if "LaunchKernel" in event.key) / steps
                lines = [
                    f"{1000 * case.seconds:.1f} ms an update under the profiler, the device busy for {busy:.1f} ms of "
                    f"it, {launches:.0f} launches; the largest, in ms and calls an update:"
                ]
                for kind in ("device", "cpu"):
                    spent = {event.key: (getattr(event, f"self_{kind}_time_total"), event.count) for event in events}
                    for key, (time_of, count) in sorted(spent.items(), key=lambda each: -each[1][0])[:16]:
                        lines.append(f"  {kind:6} {time_of / steps / 1000:8.3f} {count / steps:7.1f}  {key[:70]}")
                return "\n".join(lines)

            well &= attempt(f"profile {name}", line, end)
    return well
