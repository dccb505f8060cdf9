"""Score checkpoints the SentEval way: probes on frozen embeddings, similarity tasks, alignment and uniformity.

    python -m eval.senteval runs/bookcorpus                       # the built-in sample's two tasks
    python -m eval.senteval runs/bookcorpus --data DIR --tasks all --output scores.json
    python -m eval.senteval A B C --tasks transfer --format markdown --cache embeddings

DIR is the folder that holds ``downstream/`` (``python -m eval.download DIR`` fetches it). Several checkpoints give one
table, with McNemar's exact test of each two on each probed task. Nothing is trained but the probes; no random state is
touched. Tasks that cannot be read are told, the others run, the averages say that they are incomplete, and the exit
code is 2.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from eval.compat import SE, SentEvalEvaluator
from eval.encoding import EmbeddingCache, Encoder
from eval.neighbours import HeldOut, held_out
from eval.probe import PROBES
from eval.reading import Data, read
from eval.scoring import Settings, evaluate, measure
from eval.tables import RENDER, as_csv, compare, format_table, tables
from eval.tasks import GROUPS, TASKS, Task, choose_tasks, data_folder
from sentemb.corpus import open_corpus
from sentemb.encoders import load, model_folder
from sentemb.registry import InputError, build, choose

__all__ = ["SE", "Encoder", "SentEvalEvaluator", "evaluate", "format_table", "main", "measure"]

PACKAGES = ("torch", "sentence-transformers", "transformers", "scikit-learn", "numpy")
SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".tex": "latex", ".txt": "text"}
FORMATS = ("text", "markdown", "latex", "csv", "json")


def corpus_of(checkpoint: Path) -> str | None:
    """The corpus a run was trained on, by the config.json of the run folder that ``checkpoint`` is or lies in."""
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        try:
            settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
            return str(settings["corpus"])
        except (OSError, ValueError, KeyError, TypeError):  # no run's: a transformer has a config.json too
            continue
    return None


def _pairs(given: str | None, checkpoint: str, tasks: Sequence[Data]) -> HeldOut | None:
    """Held-out neighbours of the corpus named, else of the run's own, else (where STS-B will not do) of the sample."""
    if given:
        return held_out(open_corpus(given))
    corpus = corpus_of(Path(checkpoint))
    if corpus is None and any("STS-B" in data.task.name for data in tasks):
        return None
    try:
        return held_out(open_corpus(corpus or "sample"))
    except InputError as error:
        print(f"no neighbours' geometry: {error}", file=sys.stderr)
        return None


def read_all(tasks: Sequence[Task], folder: Path | None) -> tuple[list[Data], dict[str, str]]:
    """The tasks that can be read, and for the others why not.

    Raises:
        InputError: none can be read.
    """
    found, failed = [], {}
    for task in tasks:
        try:
            found.append(read(task, folder))
        except InputError as error:
            failed[task.name] = str(error)
    if not found:
        raise InputError("; ".join(dict.fromkeys(failed.values())))
    return found, failed


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m eval.senteval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("checkpoint", nargs="+", help="a run folder, a model folder, a hub name, or minilm; several are compared")
    add(
        "--tasks",
        metavar="A,B",
        help=f"tasks ({', '.join(TASKS)}) or groups ({', '.join(GROUPS)}); default MR,CR, or the sample's two "
        "without a data folder",
    )
    add("--data", type=Path, metavar="DIR", help="holds downstream/; else $SENTEMB_DATA/senteval, else the sample")
    add(
        "--probe",
        default="logistic",
        help="logistic (default; SentEval's scikit-learn mode), mlp:nhid=0,optim=adam,... (its PyTorch mode), knn:k=10",
    )
    add("--folds", type=int, default=10, help="of every cross-validation (default 10; SentEval's fast mode has 5)")
    add("--cache", type=Path, metavar="DIR", help="keep embeddings there; a second run encodes nothing")
    add("--format", choices=FORMATS, default="text", help="of what is printed (default text)")
    add("--output", type=Path, metavar="FILE", help=f"also write there: {', '.join(SUFFIXES)} (else JSON)")
    add("--corpus", help="also measure its held-out neighbours; default: the run's own, or the sample without STS-B")
    add(
        "--positives",
        choices=("gt4", "ge4"),
        default="gt4",
        help="STS-B pairs that alignment is of: scored above 4 (default; SimCSE's words) or at least 4",
    )
    add("--geometry-split", choices=("all", "train", "dev", "test"), default="all", help="of STS-B (default all)")
    add("--batch-size", type=int, default=128, help="sentences a forward pass (default 128)")
    add("--device", help="cpu, cuda, mps, ...; default: the best there is")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    try:
        sys.exit(run(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def refuse_unwritable(output: Path) -> None:
    """InputError if ``output`` cannot become a file."""
    parent = output.resolve().parent
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name a file in it")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"--output {output}: its folder does not exist or cannot be written to; make it first")


def run(options: argparse.Namespace) -> int:
    """Read, encode, score, print, write; returns the exit code. Wrong input is told before encoding."""
    if options.batch_size < 1 or options.folds < 2:
        name, least = ("--batch-size", 1) if options.batch_size < 1 else ("--folds", 2)
        raise InputError(f"{name} must be at least {least}, got {getattr(options, name[2:].replace('-', '_'))}")
    if options.output:
        refuse_unwritable(options.output)
    build(PROBES, options.probe, "probe", device="cpu")  # a wrong one is told now
    folder = data_folder(options.data)
    chosen = choose_tasks(options.tasks, folder)
    for checkpoint in options.checkpoint:
        if Path(checkpoint).exists():
            model_folder(Path(checkpoint))
    tasks, failed = read_all(chosen, folder)
    for name, reason in failed.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    results: dict[str, dict[str, Any]] = {}
    correct: dict[str, dict[str, np.ndarray]] = {}
    lost = bool(failed)
    for checkpoint in dict.fromkeys(options.checkpoint):
        try:
            result, right = _measure(checkpoint, tasks, failed, options)
        except InputError as error:
            if len(options.checkpoint) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)  # what the others scored is kept
            lost = True
            continue
        results[checkpoint], correct[checkpoint] = result, right
        for name in result["failed"].keys() - failed.keys():
            print(f"error: {name}: {result['failed'][name]}", file=sys.stderr)
            lost = True
    if not results:
        return 2
    comparison = compare(correct)
    if options.format == "text":
        _describe(tasks, results, options.probe)
    print(render(options.format, results, comparison))
    if options.output:
        kind = SUFFIXES.get(options.output.suffix.lower(), "json")
        partial = options.output.with_name(f"{options.output.name}.{os.getpid()}.partial")
        partial.write_text(render(kind, results, comparison) + "\n", encoding="utf-8")
        partial.replace(options.output)
    return 2 if lost else 0


def _measure(
    checkpoint: str, tasks: Sequence[Data], failed: dict[str, str], options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model = load(checkpoint, device=options.device)
    device = model.device.type
    settings = Settings(
        probe=build(PROBES, options.probe, "probe", device=device),
        folds=options.folds,
        device=device,
        positives=options.positives,
        geometry_part=options.geometry_split,
    )
    cache = EmbeddingCache(options.cache, model) if options.cache else None
    pairs = _pairs(options.corpus, checkpoint, tasks)
    result, right = measure(model, tasks, pairs, options.batch_size, True, settings, cache, failed)
    if cache:
        print(f"{checkpoint}: {result['encoded']:,} encoded, {result['reused']:,} from the cache", file=sys.stderr)
    return result, right


def _describe(tasks: Sequence[Data], results: dict[str, dict[str, Any]], probe: str) -> None:
    first = next(iter(results.values()))
    for data in tasks:
        row = first["tasks"].get(data.task.name)
        if row:
            print(f"{data.task.name}: {data.task.what}; {row['n']:,} rows; {row['protocol']}")
    shape = first["geometry"]
    if shape and "alignment" in shape:
        what = shape.get("definition", "")
        of = shape["source"] if "retrieval_mrr" in shape else f"{shape['source']}: {what}"
        print(
            f"alignment, uniformity: {shape['pairs']:,} pairs, {shape['sentences']:,} sentences; {of}; "
            f"optimum {shape['uniformity_optimum']:.4f}"
        )


def render(kind: str, results: dict[str, dict[str, Any]], comparison: list[dict[str, Any]]) -> str:
    """Results in one of FORMATS. JSON: an object; of several checkpoints ``{"results": [...], "comparison"}``."""
    choose("format", kind, FORMATS)
    if kind == "csv":
        return as_csv(results, comparison)
    if kind != "json":
        return RENDER[kind](tables(results, comparison))
    versions = {package: version(package) for package in PACKAGES}
    whole = [{"checkpoint": name, **result, "versions": versions} for name, result in results.items()]
    content = whole[0] if len(whole) == 1 else {"results": whole, "comparison": comparison}
    return json.dumps(content, indent=2)


if __name__ == "__main__":
    main()
