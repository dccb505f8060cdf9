"""Score how well encoders find the passages that answer queries: nDCG, MRR, MAP and recall, with intervals.

    sentemb evaluate-search runs/first --data DIR                # BEIR's layout: corpus.jsonl, queries.jsonl, qrels/
    sentemb evaluate-search minilm runs/first --data pairs.csv   # columns query and passage, and optionally score
    sentemb evaluate-search minilm runs/first --corpus BOOKS     # no judgements: a sentence must find its passage

`python -m eval.search` is the same command. Several checkpoints give one table, with the paired difference of each from
the first: a bootstrap interval over queries and a randomisation test. The ranking is exact and covers all passages.
Nothing is trained. Exit code 0: done; 2: an invalid argument.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentemb.errors import InputError, exit_codes
from sentemb.program import command_parser

if TYPE_CHECKING:
    from sentemb.search import SearchTask

LEAST_DEPTH = 10  # ranks for nDCG and MRR


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__, "eval.search")
    add = made.add_argument
    add("checkpoint", nargs="+", help="a run folder, a model folder, a hub name, or minilm; several are compared")
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", type=Path, metavar="DIR", help="a folder in BEIR's layout, or a table of queries and passages"
    )
    what.add_argument(
        "--corpus", metavar="SPEC", help="text without judgements, like --corpus of the recipes: held-out passages"
    )
    add("--task", default="", metavar="NAME", help="the folder in DIR, if DIR holds several")
    add("--split", default="test", help="split of the judgements in DIR/qrels (default test)")
    add("--k", type=int, default=100, help="rank at which MAP and recall stop, at least 10 (default 100)")
    add("--recall-at", default="", metavar="K,K", help="more ranks of recall, up to --k: for example 1,5,20")
    add("--sentences", type=int, help="with --corpus: sentences of a passage (default 5)")
    add("--max-queries", type=int, help="with --corpus: queries, drawn by a fixed seed (default 10000)")
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="store the embeddings of passages there, so that a second run encodes none",
    )
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--batch-size", type=int, default=128, help="texts in a forward pass (default 128)")
    add("--device", help="cpu, cuda, mps, ...; default: the fastest of this machine")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    with exit_codes():
        refuse(options)
        sys.exit(score_checkpoints(options, task_of(options)))


def refuse(options: argparse.Namespace) -> None:
    """Check the options before anything is read.

    Raises:
        InputError: an option is out of range or of the other kind of data, or there is no such checkpoint.
    """
    from eval.senteval import refuse_no_checkpoint

    for name, least in (("k", LEAST_DEPTH), ("sentences", 2), ("max_queries", 1), ("batch_size", 1)):
        if (value := getattr(options, name)) is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    ranks_of_recall(options)
    if options.corpus is None and (options.sentences, options.max_queries) != (None, None):
        raise InputError("--sentences and --max-queries apply to --corpus; leave them out with --data")
    if options.corpus is not None and (options.task or options.split != "test"):
        raise InputError("--task and --split apply to judged queries of --data; leave them out with --corpus")
    for checkpoint in options.checkpoint:
        if len(options.checkpoint) == 1 or Path(checkpoint).exists():  # (one of several is left out later)
            refuse_no_checkpoint(checkpoint)


def ranks_of_recall(options: argparse.Namespace) -> list[int]:
    """The ranks of ``--recall-at``, each once, in order, without that of ``--k``, which is scored in any case.

    Raises:
        InputError: they are not whole numbers from 1 to ``--k``.
    """
    texts = [text.strip() for text in options.recall_at.split(",")] if options.recall_at else []
    if not all(text.isdecimal() and 1 <= int(text) <= options.k for text in texts):
        raise InputError(
            f"--recall-at takes ranks from 1 to --k ({options.k}), separated by commas: 1,5,20; got {options.recall_at}"
        )
    return sorted({int(text) for text in texts} - {options.k})


def task_of(options: argparse.Namespace) -> "SearchTask":
    """What is searched, read before torch is imported where that can be.

    Raises:
        InputError: it cannot be read.
    """
    if options.corpus is None:
        from sentemb.search import read_search_task

        return read_search_task(options.data, options.split, options.task)
    from sentemb.corpus import check_corpus

    check_corpus(options.corpus)
    from eval.search.names import passages_of

    return passages_of(options.corpus, options.checkpoint, options.sentences or 5, options.max_queries or 10_000)


def score_checkpoints(options: argparse.Namespace, task: "SearchTask") -> int:
    """Encode, search, print; returns the exit code.

    Raises:
        InputError: the only checkpoint cannot be used. One of several is left out, with its reason on stderr.
    """
    from eval.search.report import search_json, search_text
    from eval.search.scorer import SearchScores, measure_search
    from sentemb.encoders import load

    scores: dict[str, SearchScores] = {}
    lost = False
    for checkpoint in dict.fromkeys(options.checkpoint):
        try:
            model = load(checkpoint, device=options.device)
            settings = (options.k, options.batch_size, True, options.cache, ranks_of_recall(options))
            scores[checkpoint] = measure_search(model, task, *settings)
        except InputError as error:
            if len(options.checkpoint) == 1:
                raise
            print(f"error: {checkpoint}: {error}", file=sys.stderr)
            lost = True
    if scores:
        print((search_json if options.json else search_text)(task, scores))
    return 2 if lost else 0
