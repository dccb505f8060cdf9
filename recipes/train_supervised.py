"""Train on labelled rows (anchor, positive and any hard negatives) of a file or a hub data set.

    accelerate launch recipes/train_supervised.py --corpus nli.csv                   # sent0,sent1,hard_neg
    accelerate launch recipes/train_supervised.py --corpus labelled:path=qa.jsonl,anchor=question,positive=answer
    accelerate launch recipes/train_supervised.py --corpus nli.csv --preset simcse-sup-bert-base
    accelerate launch recipes/train_supervised.py --corpus qa.jsonl --preset dpr-bert-base

A row's hard negatives are negatives of every anchor of the batch. The last tenth of the rows is held out. Writes what
the other recipes write: OUT/config.json, log.jsonl, best/, last/, model/, scores.json, report.html. A run is never
overwritten. Sources: Gao et al. 2021 (arXiv 2104.08821), Karpukhin et al. 2020 (2004.04906).
"""

from collections.abc import Sequence
from typing import Any

from recipes.runner import command
from sentemb.errors import InputError
from sentemb.registry import absolute, quoted
from sentemb.runs import RunFolder

DEFAULTS = {
    "corpus": None,
    "encoder": "transformer:name=minilm,pooling=mean",
    "pairs": "labelled",
    "batch_size": 64,
    "lr": 5e-5,
    "max_length": 32,
    "eval_every": 125,
}


def prepare(options: dict[str, Any]) -> None:
    """A plain file is labelled rows; without any there is nothing to train on."""
    corpus = options.get("corpus")
    begun = options.get("resume") and "out" in options and RunFolder(options["out"]).config.is_file()
    if corpus is None and not begun:
        raise InputError("--corpus is needed: a .jsonl, .csv, .tsv or .parquet file, or labelled:path=HUB_NAME")
    if corpus is not None and not corpus.startswith("labelled:"):
        options["corpus"] = f"labelled:path={quoted(absolute(corpus))}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command("train_supervised", __doc__, DEFAULTS, arguments, prepare)


if __name__ == "__main__":
    main()
