"""A corpus to vectors on the disk against ``SentenceTransformer.encode``: sentences per second, memory, differences.

    python -m benchmarks.encode                                  # 1,000,000 sentences; many minutes
    python -m benchmarks.encode --sentences 20000 --transformer-sentences 2000 --peer-sentences 2000     # to try it

Ours is all of ``sentemb.encode`` with a cold cache: reading a text file of a sentence a line, tokenizing, reading the
model, embedding, writing float32 and the manifest. Theirs is ``encode`` with its defaults of a model that is read
beforehand, on sentences in memory, whose rows stay in memory: on fewer of them, evenly spread. Each side runs in a
process of its own, in turns; a figure is the median of its runs. Memory is the most private memory of our process and
its children, sampled each 20 ms, beyond what it held with the model read. The sentences are seeded random words
(benchmarks/corpus.py) unless --text names a file with a sentence a line. Last lines: ``ratio NAME VALUE``, our
sentences per second over theirs. Nothing else should be running.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.corpus import private, write_sentences
from benchmarks.retrieval import PrivateMemory
from sentemb.corpus import open_corpus
from sentemb.encoders import ENCODERS, load
from sentemb.encoding import EncodedCorpus
from sentemb.registry import build
from sentemb.training import processor, use_threads

MODELS = {"static": "static:distill=minilm,dim=256", "lstm": "rnn", "minilm": "transformer:name=minilm"}
BYTES, LENGTH = 100, 64  # of a generated sentence, with room; tokens that are read of one
MIB = 2**20


class PeakMemory(PrivateMemory):
    """The most private memory of this process and its children in a block, in MiB beyond what it held before."""

    @staticmethod
    def now() -> float:
        """MiB."""
        process, total = psutil.Process(), 0
        for each in (process, *process.children(recursive=True)):
            with suppress(OSError, psutil.Error):  # it ended meanwhile
                total += private(each)
        return total / MIB


def write_text(path: Path, sentences: int, source: Path | None) -> None:
    """A sentence a line: the first ones of a file, or generated ones."""
    if source is None:
        write_sentences(path, BYTES * sentences)
    lines = (source or path).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip()][:sentences]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def save_models(folder: Path, text: Path, names: Sequence[str]) -> None:
    """Each model as a folder; what is learned, a vocabulary say, is learned from the text."""
    for name in names:
        torch.manual_seed(0)
        texts = text.read_text(encoding="utf-8").splitlines()[:20_000]
        model = build(ENCODERS, MODELS[name], "encoder", texts=lambda texts=texts: texts, max_length=LENGTH)
        model.save(str(folder / name), create_model_card=False)


def ours(model: Path, text: Path, folder: Path) -> dict[str, float]:
    """Seconds of all that ``sentemb.encode`` does, of reading the text among them, and MiB."""
    import sentemb

    load(model, device="cpu").encode(["What is loaded or compiled at the first call."])
    with tempfile.TemporaryDirectory(dir=folder) as cache, PeakMemory() as memory:
        os.environ["SENTEMB_CACHE"] = cache
        start = time.perf_counter()
        open_corpus(f"lines:path={text}", progress=False)
        read = time.perf_counter() - start
        encoded = sentemb.encode(str(model), f"lines:path={text}", folder / f"out-{model.name}", device="cpu")
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "read": read, "mib": memory.mib, "sentences": len(encoded)}


def theirs(model: Path, text: Path, folder: Path, count: int) -> dict[str, float]:
    """Seconds of ``encode`` of some of the sentences; writes their numbers and rows."""
    texts = [" ".join(line.split()) for line in text.read_text(encoding="utf-8").splitlines()]
    numbers = np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(np.int64)
    encoder = load(model, device="cpu")
    encoder.encode(["What is loaded or compiled at the first call."])
    chosen = [texts[number] for number in numbers]
    start = time.perf_counter()
    rows = encoder.encode(chosen, show_progress_bar=False)
    seconds = time.perf_counter() - start
    np.savez(folder / f"peer-{model.name}.npz", numbers=numbers, rows=rows)
    return {"seconds": seconds, "sentences": len(numbers)}


def in_a_process(*arguments: str) -> dict[str, float]:
    """One side, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.encode", "--side", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(name: str, sentences: int, folder: Path, options: argparse.Namespace) -> str:
    """Both sides of one model; prints figures, returns the line of the ratio."""
    text = folder / f"text-{sentences}.txt"
    if not text.exists():
        write_text(text, sentences, options.text)
    save_models(folder, text, [name])
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for number in range(options.rounds):
        if number:
            for path in (folder / f"out-{name}").iterdir():
                path.unlink()
        for side, each in runs.items():
            each.append(in_a_process(side, str(folder / name), str(text), str(folder), str(options.peer_sentences)))
    rates = {side: statistics.median(run["sentences"] / run["seconds"] for run in each) for side, each in runs.items()}
    encoded, peer = EncodedCorpus(folder / f"out-{name}"), np.load(folder / f"peer-{name}.npz")
    difference = np.abs(encoded.embeddings[peer["numbers"]] - peer["rows"]).max()
    first = runs["ours"][0]
    print(
        f"{name}: ours {rates['ours']:,.0f} sentences/s ({first['sentences']:,.0f} x {encoded.dimension} in "
        f"{first['seconds']:.1f} s, {first['read']:.1f} s of it reading the text), encode {rates['theirs']:,.0f} (of "
        f"{len(peer['numbers']):,}); largest difference {difference:.1e}; "
        f"peak private memory {max(run['mib'] for run in runs['ours']):,.0f} MiB next to the model",
        flush=True,
    )
    return f"ratio {name} {rates['ours'] / rates['theirs']:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sentences", type=int, default=1_000_000, help="by the static student and the LSTM")
    add("--transformer-sentences", type=int, default=50_000, help="by MiniLM")
    add("--peer-sentences", type=int, default=50_000, help="by SentenceTransformer.encode")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--text", type=Path, help="a file with a sentence a line, no blank one, and as many sentences")
    add("--rounds", type=int, default=1)
    add("--side", nargs=5, metavar=("SIDE", "MODEL", "TEXT", "FOLDER", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    use_threads(None)
    if options.side:
        side, model, text, folder = options.side[0], *map(Path, options.side[1:4])
        figures = ours(model, text, folder) if side == "ours" else theirs(model, text, folder, int(options.side[4]))
        print(json.dumps(figures))
        return
    print(processor())
    with tempfile.TemporaryDirectory() as folder_name:
        lines = [
            compare(
                name,
                options.transformer_sentences if name == "minilm" else options.sentences,
                Path(folder_name),
                options,
            )
            for name in options.models
        ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
