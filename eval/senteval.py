"""Score a checkpoint the SentEval way: logistic probes on frozen embeddings, alignment and uniformity.

    python -m eval.senteval runs/bookcorpus                          # the built-in sample's two tasks
    python -m eval.senteval runs/bookcorpus --data DIR --tasks MR,CR --output scores.json

DIR is the folder that holds ``downstream/``. Nothing is trained but the probes; no random state is touched.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from eval.neighbours import HeldOut, held_out, neighbour_geometry
from eval.probe import nested_logistic
from eval.tasks import NESTED, TASKS, Data, choose_tasks, data_folder, read
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.registry import InputError

PACKAGES = ("torch", "sentence-transformers", "transformers", "scikit-learn", "numpy")


class Encoder:
    """A model's ``encode`` that meets each distinct sentence once, whatever the tasks."""

    def __init__(self, model: SentenceTransformer, batch_size: int = 128, progress: bool = False) -> None:
        self.model, self.batch_size, self.progress = model, batch_size, progress
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Embeddings ``[n, d]`` float32.

        Raises:
            InputError: an embedding is not finite; the sentence is named.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            rows = np.asarray(
                self.model.encode(new, batch_size=self.batch_size, show_progress_bar=self.progress), dtype=np.float32
            )
            broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(broken):
                raise InputError(f"the embedding of {new[broken[0]]!r} is not finite; the checkpoint is damaged")
            self.known.update(zip(new, rows, strict=True))
        return np.stack([self.known[text] for text in texts])


def evaluate(
    model: SentenceTransformer,
    tasks: Sequence[Data],
    pairs: HeldOut | None,
    batch_size: int = 128,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores of a model: ``{"dimension", "tasks": {name: row}, "geometry"}``.

    Args:
        model: any SentenceTransformer; tasks: read by :func:`eval.tasks.read`.
        pairs: held-out neighbours for the geometry, or None to leave it out.
        batch_size: sentences a forward pass; progress: show a bar.

    Returns:
        A task's row has ``acc`` and ``devacc`` in percent, ``n``, ``protocol``, ``chosen`` (C of each outer fold) and
        ``seconds`` (of the probe alone).
    """
    encode = Encoder(model, batch_size, progress)
    encode([text for task in tasks for text in task.sentences] + (pairs.first + pairs.second if pairs else []))
    rows = {}
    for task in tqdm(tasks, desc="probing", unit="task", disable=not progress):
        start = time.perf_counter()
        result = nested_logistic(encode(task.sentences), task.labels)
        rows[task.task.name] = {
            "acc": result.acc,
            "devacc": result.devacc,
            "n": len(task.labels),
            "protocol": NESTED,
            "chosen": result.chosen,
            "seconds": round(time.perf_counter() - start, 2),
        }
    geometry = neighbour_geometry(encode, pairs) if pairs else None
    return {"dimension": model.get_embedding_dimension(), "tasks": rows, "geometry": geometry}


def format_table(rows: dict[str, dict[str, Any]]) -> str:
    """A table for the terminal: a line per named result of :func:`evaluate`, a column per score."""
    tasks = list(dict.fromkeys(name for result in rows.values() for name in result["tasks"]))
    head = ["encoder", "dim", *tasks, *(["mean"] if len(tasks) > 1 else []), "alignment", "uniformity", "MRR"]
    lines = [head]
    for name, result in rows.items():
        scores = [result["tasks"][task]["acc"] for task in tasks]
        cells = [name, str(result["dimension"]), *(f"{s:.2f}" for s in scores)]
        cells += [f"{sum(scores) / len(scores):.2f}"] if len(tasks) > 1 else []
        shape = result["geometry"] or {}
        for key in ("alignment", "uniformity", "retrieval_mrr"):
            cells.append(f"{shape[key]:.4f}" if key in shape else "-")
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = "  ".join("-" * width for width in widths)
    text = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([text[0], rule, *text[1:]])


def corpus_of(checkpoint: Path) -> str:
    """The corpus a run was trained on, by the config.json of the run folder that ``checkpoint`` is or lies in."""
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        try:
            settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
            return str(settings["corpus"])
        except (OSError, ValueError, KeyError, TypeError):  # no run's: a transformer has a config.json too
            continue
    return "sample"


def _held_out(corpus: str) -> HeldOut | None:
    try:
        return held_out(open_corpus(corpus))
    except InputError as error:
        print(f"no geometry: {error}", file=sys.stderr)
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.senteval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a run folder, a model folder, or a hub name")
    parser.add_argument("--tasks", metavar="A,B", help=f"some of {', '.join(TASKS)}; default: what the data allows")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="holds downstream/; else $SENTEMB_DATA/senteval, else the sample"
    )
    parser.add_argument("--corpus", help="geometry is of its held-out neighbours; default: the run's own, else sample")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="also write everything there")
    parser.add_argument("--batch-size", type=int, default=128, help="sentences a forward pass (default 128)")
    parser.add_argument("--device", help="cpu, cuda, mps, ...; default: the best there is")
    options = parser.parse_args(arguments)
    try:
        run(options)
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


def run(options: argparse.Namespace) -> None:
    """Read, encode, probe, print, write. Everything that can be wrong with the input is found before encoding."""
    if options.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {options.batch_size}")
    if options.output:
        refuse_unwritable(options.output)
    folder = data_folder(options.data)
    tasks = [read(task, folder) for task in choose_tasks(options.tasks, folder)]
    model = load(options.checkpoint, device=options.device)
    if options.corpus:
        pairs: HeldOut | None = held_out(open_corpus(options.corpus))
    else:
        pairs = _held_out(corpus_of(Path(options.checkpoint)))
    result = evaluate(model, tasks, pairs, options.batch_size, progress=True)
    for task in tasks:
        print(f"{task.task.name}: {task.task.what}; {len(task.labels):,} sentences; {NESTED}")
    if pairs:
        print(f"alignment, uniformity, MRR: {pairs.source}; optimum {result['geometry']['uniformity_optimum']:.4f}")
    print(format_table({options.checkpoint: result}))
    if options.output:
        whole = {"checkpoint": options.checkpoint, **result, "versions": {p: version(p) for p in PACKAGES}}
        partial = options.output.with_name(options.output.name + ".partial")
        partial.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        partial.replace(options.output)


if __name__ == "__main__":
    main()
