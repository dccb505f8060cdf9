"""Score checkpoints the SentEval way: probes on frozen embeddings, similarity tasks, alignment and uniformity.

    sentemb evaluate runs/bookcorpus                       # the two tasks of the built-in sample
    sentemb evaluate runs/bookcorpus --data DIR --tasks all --output scores.json
    sentemb evaluate A B C --tasks transfer --format markdown --cache embeddings
    sentemb evaluate minilm --layer 3                      # an intermediate layer of a transformer

`python -m eval.senteval` is the same command. DIR is the folder that holds ``downstream/``; `sentemb download DIR`
fetches it. Several checkpoints give one table, with the difference of each from the first, its 95 % interval, and
McNemar's exact test of each two on each probed task. Only the probes are trained, and no random state of yours changes.
For each task that it cannot read, the command prints one line with the reason. It scores the other tasks, marks the
averages as incomplete, and exits with code 2.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval.seeds import labels
from eval.tasks import GROUPS, TASKS, Data, Task, choose_tasks, data_folder, read
from sentemb.errors import InputError, exit_codes
from sentemb.lazy_imports import lazy_exports
from sentemb.program import command_parser
from sentemb.registry import path_suggestion
from sentemb.runs import CONFIG, model_folder

if TYPE_CHECKING:
    from eval.evaluator import SentEvalEvaluator
    from eval.scorer import measure, score_model
    from eval.senteval_api import SE
    from eval.tables import format_table
    from sentemb.validation import CachedEncoder

__all__ = ["SE", "CachedEncoder", "SentEvalEvaluator", "score_model", "format_table", "main", "measure"]


SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".tex": "latex", ".txt": "text"}  # of --output

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "SE": "eval.senteval_api",
        "SentEvalEvaluator": "eval.evaluator",
        "CachedEncoder": "sentemb.validation",
        "score_model": "eval.scorer",
        "measure": "eval.scorer",
        "format_table": "eval.tables",
    },
)


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__, "eval.senteval")
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
    add(
        "--folds", type=int, default=10, help="folds of every cross-validation (default 10; SentEval's fast mode has 5)"
    )
    add("--cache", type=Path, metavar="DIR", help="store embeddings there, so that a second run encodes nothing")
    add(
        "--format",
        choices=("text", "markdown", "latex", "csv", "json"),
        default="text",
        help="format of the output (default text)",
    )
    add(
        "--names",
        metavar="A,B",
        help="names of the checkpoints in tables; checkpoints with the same name are seeds of one model",
    )
    add(
        "--compact",
        action="store_true",
        help="one table for a paper: a row for each model, accuracies and correlations together (text, markdown, "
        "latex)",
    )
    add("--output", type=Path, metavar="FILE", help=f"also write the scores to FILE: {', '.join(SUFFIXES)}")
    add(
        "--corpus",
        help="also score held-out neighbours of this text; default: the run's corpus, or the sample without STS-B",
    )
    add(
        "--positives",
        choices=("gt4", "ge4"),
        default="gt4",
        help="STS-B pairs that count as positives in alignment: scored above 4 (default, as SimCSE writes) or at "
        "least 4",
    )
    add(
        "--geometry-split",
        choices=("all", "train", "dev", "test", "none"),
        help="part of STS-B for alignment and uniformity (default all where they are shown)",
    )
    add(
        "--truncate",
        type=int,
        metavar="N",
        help="score the first N dimensions of each embedding, as SentenceTransformer(truncate_dim=N) gives them",
    )
    add(
        "--layer",
        metavar="N",
        help="score layer N of a transformer, by the mean of its token states (0: the word embeddings), or first_last: "
        "the mean of the first and the last layer; default: the model's embedding",
    )
    add("--batch-size", type=int, default=128, help="sentences in a forward pass (default 128)")
    add("--device", help="cpu, cuda, mps, ...; default: the fastest of this machine")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    with exit_codes():
        tasks, failed = prepare(options)
        from eval.score_checkpoints import score_checkpoints  # torch and the rest, seconds

        sys.exit(score_checkpoints(options, tasks, failed))


def prepare(options: argparse.Namespace) -> tuple[list[Data], dict[str, str]]:
    """Check the options before torch is imported; returns the tasks read, and why others were not.

    Raises:
        InputError: a wrong option, or no task can be read.
    """
    if options.batch_size < 1 or options.folds < 2:
        name, least = ("--batch-size", 1) if options.batch_size < 1 else ("--folds", 2)
        raise InputError(f"{name} must be at least {least}, got {getattr(options, name[2:].replace('-', '_'))}")
    if options.truncate is not None and options.truncate < 1:
        raise InputError(f"--truncate must be at least 1, got {options.truncate}")
    if options.layer not in (None, "first_last") and not options.layer.isdecimal():
        raise InputError(f"--layer is a number, 0 for the word embeddings, or first_last; got {options.layer!r}")
    labels(options.checkpoint, options.names)
    options.output_format = None
    if options.output:
        refuse_unwritable(options.output)
        options.output_format = SUFFIXES[options.output.suffix.lower()]
    if options.compact and {options.format, options.output_format} <= {"csv", "json", None}:
        raise InputError("--compact gives a table; print or write it as text, markdown or latex")
    folder = data_folder(options.data)
    chosen = choose_tasks(options.tasks, folder)
    for checkpoint in options.checkpoint:
        refuse_encoder_spec(checkpoint)
        if len(options.checkpoint) == 1 or Path(checkpoint).exists():  # (one of several is left out later)
            refuse_no_checkpoint(checkpoint)
    tasks, failed = read_all(chosen, folder)
    if not any("STS-B" in data.task.name for data in tasks):
        stsb_flags = [f"--positives {options.positives}"] * (options.positives != "gt4")
        stsb_flags += [f"--geometry-split {options.geometry_split}"] * (options.geometry_split not in (None, "all"))
        if stsb_flags:
            raise InputError(f"{stsb_flags[0]} is about STS-B, which is not among the tasks; add it to --tasks")
    for task, reason in failed.items():
        print(f"error: {task}: {reason}", file=sys.stderr)
    return tasks, failed


def refuse_encoder_spec(name: str) -> None:
    """InputError for what --encoder of the recipes takes, such as static:embeddings=minilm."""
    if re.fullmatch(r"(static|rnn|transformer)(:.*)?", name) and not Path(name).exists():
        raise InputError(
            f"{name!r} describes an encoder to train, and what is scored is a run, a folder, a hub name or minilm; for "
            "averaged word embeddings of a transformer give --layer 0"
        )


def refuse_no_checkpoint(name: str) -> None:
    """InputError for a folder without a model, and for a path that is not there and is not a name of the hub either."""
    path = Path(name)
    if name == "minilm":
        return
    if path.exists():
        model_folder(path)
        return
    # The hub's names have at most one slash; runs/typo is not a name of the hub where runs/ holds runs.
    siblings = path.parent.glob(f"*/{CONFIG}") if path.parent != Path() else iter(())
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", name, re.ASCII) or next(siblings, None):
        near = path_suggestion(name)
        raise InputError(f"no model {name!r} here{near}, and no model of the hub has such a name; check the path")


def read_all(tasks: Sequence[Task], folder: Path | None) -> tuple[list[Data], dict[str, str]]:
    """The tasks that can be read, and for the others why not.

    Raises:
        InputError: none can be read.
    """
    readable_tasks, failed = [], {}
    for task in tasks:
        try:
            readable_tasks.append(read(task, folder))
        except InputError as error:
            failed[task.name] = str(error)
    if not readable_tasks:
        raise InputError("; ".join(dict.fromkeys(failed.values())))
    return readable_tasks, failed


def refuse_unwritable(output: Path) -> None:
    """InputError if ``output`` cannot become a file, or its suffix is none of SUFFIXES."""
    parent = output.resolve().parent
    if output.suffix.lower() not in SUFFIXES:
        suffixes = ", ".join(SUFFIXES)
        raise InputError(f"--output {output} has no suffix of a known format; use one of {suffixes}")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name a file in it")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"--output {output}: its folder does not exist or cannot be written to; make it first")


if __name__ == "__main__":
    main()
