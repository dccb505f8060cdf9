"""Encoders by PyTorch and by onnxruntime: differences of their embeddings, quality in int8, sentences a second.

    python -m benchmarks.runtimes                         # four encoders on the built-in sample; minutes
    python -m benchmarks.runtimes --sentences 20000 --data DATA --threads 2 words=runs/words lstm=runs/lstm

Encoders are checkpoints, NAME=PATH each; without any, four are made: averaged word embeddings, an LSTM with the mean of
its states, a GRU with its final states (both with random recurrent weights) and MiniLM. Each is exported in float32 and
in int8 into a temporary folder. Differences are the greatest ones of a number, against SentenceTransformer.encode of
each text alone: of a ragged batch, of single texts, of texts of one token. Quality is Spearman x 100 on the dev part of
STS-B, where DATA (or SENTEMB_DATA) has it. Speeds are of ``encode`` with its default batch size on the same sentences,
medians of rounds that take turns. Last lines: ``ratio NAME VALUE``, onnxruntime in float32 over PyTorch.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from eval import choose_tasks, data_folder, read, stsb_dev
from sentemb.corpus import open_corpus
from sentemb.encoders import ENCODERS, load, tokenizer_of
from sentemb.export import export_onnx
from sentemb.registry import build
from sentemb.training import processor, tune_memory, use_threads

SPECS = {
    "static": "static",
    "lstm mean": "rnn:hidden=256",
    "gru final": "rnn:cell=gru,hidden=256,pooling=final",
    "minilm": "transformer:name=minilm",
}
MAX_LENGTH, RAGGED = 64, 64  # tokens; texts of the ragged batch


def exported(folder: Path, out: Path) -> dict[str, SentenceTransformer]:
    """A checkpoint by PyTorch, and by onnxruntime in both precisions."""
    models = {"torch": load(folder, device="cpu")}
    for precision in ("float32", "int8"):
        export_onnx(str(folder), out / precision, precision)
        models[precision] = load(out / precision)
    return models


def differences(models: dict[str, SentenceTransformer], texts: Sequence[str]) -> list[float]:
    """Greatest differences of a number, of the float32 graph: in a ragged batch, of single texts, of single tokens."""
    tokenizer = tokenizer_of(models["torch"])
    numbers = sorted(tokenizer.get_vocab().values())
    words = tokenizer.decode_batch([[number] for number in numbers[:: len(numbers) // RAGGED]])
    few = [*texts[:RAGGED], ""]
    greatest = []
    for rows, batch in ((few, len(few)), (few, 1), (words, 1)):
        alone = models["torch"].encode(rows, batch_size=1, show_progress_bar=False)
        made = models["float32"].encode(rows, batch_size=batch, show_progress_bar=False)
        greatest.append(float(np.abs(made - alone).max()))
    return greatest


def speeds(models: dict[str, SentenceTransformer], texts: Sequence[str], rounds: int) -> dict[str, float]:
    """Sentences a second of each, the median of its rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model.encode(list(texts), show_progress_bar=False)
            seconds[name].append(time.perf_counter() - start)
    return {name: len(texts) / statistics.median(times) for name, times in seconds.items()}


def made_encoders(folder: Path, texts: Sequence[str]) -> dict[str, Path]:
    """The folders of the four encoders."""
    for name, spec in SPECS.items():
        model = build(ENCODERS, spec, "encoder", texts=lambda: texts, max_length=MAX_LENGTH)
        model.save(str(folder / name), create_model_card=False)
    return {name: folder / name for name in SPECS}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--corpus", default="sample")
    parser.add_argument("--data", type=Path, help="the folder with SentEval's downstream/")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    use_threads(options.threads)
    tune_memory()
    corpus = open_corpus(options.corpus)
    rows = np.random.default_rng(0).permutation(len(corpus))[: options.sentences]
    texts = list(corpus.sentences(np.sort(rows)))
    data = data_folder(options.data)
    dev = read(choose_tasks("STS-B", data)[0], data, "dev") if data else None
    print(f"{processor()}; {len(texts):,} sentences of {corpus.name}")
    print("| encoder | ragged | one text | one token | STS-B dev: torch, onnx, int8 | sentences/s: torch, onnx, int8 |")
    print("|---|---:|---:|---:|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        named = [name.partition("=")[::2] for name in options.encoder]
        encoders = {name: Path(path) for name, path in named} or made_encoders(Path(folder), texts)
        ratios = {}
        for name, path in encoders.items():
            models = exported(path, Path(folder) / "exported" / name)
            greatest = " | ".join(f"{value:.1e}" for value in differences(models, texts))
            scores = [stsb_dev(dev, model.encode)["stsb_dev_spearman"] for model in models.values()] if dev else []
            a_second = speeds(models, texts, options.rounds)
            ratios[name] = a_second["float32"] / a_second["torch"]
            quality = ", ".join(f"{score:.2f}" for score in scores) or "-"
            print(f"| {name} | {greatest} | {quality} | {', '.join(f'{speed:,.0f}' for speed in a_second.values())} |")
    for name, ratio in ratios.items():
        print(f"ratio {name.replace(' ', '-')} {ratio:.2f}")


if __name__ == "__main__":
    main()
