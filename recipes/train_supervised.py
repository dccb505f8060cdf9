"""Train on labelled rows (anchor, positive and any hard negatives) of a file or a data set of the hub.

    sentemb supervised --corpus nli.csv                      # columns sent0, sent1, hard_neg
    sentemb supervised --corpus labelled:path=qa.jsonl,anchor=question,positive=answer
    sentemb supervised --corpus nli.csv --preset simcse-sup-bert-base
    sentemb supervised --corpus qa.jsonl --preset dpr-bert-base

`python recipes/train_supervised.py` is the same command. The hard negatives of a row are negatives of every anchor in
the batch. The last tenth of the rows is held out. It writes the files of every recipe: OUT/config.json, log.jsonl,
best/, last/, model/, scores.json, report.html. It never overwrites a run.
Sources: Gao et al. 2021 (arXiv 2104.08821), Karpukhin et al. 2020 (2004.04906).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recipes.runner import Options, RecipeSettings, command
from sentemb.errors import InputError
from sentemb.registry import absolute, quoted
from sentemb.runs import RunFolder

if TYPE_CHECKING:
    from sentemb.pipeline import TrainedRun

DEFAULTS = {
    "corpus": None,
    "encoder": "transformer:name=minilm,pooling=mean",
    "pairs": "labelled",
    "batch_size": 64,
    "lr": 5e-5,
    "max_length": 32,
    "eval_every": 125,
}


def labelled_corpus(options: Options) -> None:
    """A plain file is labelled rows; without any there is nothing to train on."""
    corpus = options.get("corpus")
    begun = options.get("resume") and "out" in options and RunFolder(options["out"]).config.is_file()
    if corpus is None and not begun:
        raise InputError("--corpus is needed: a .jsonl, .csv, .tsv or .parquet file, or labelled:path=HUB_NAME")
    if corpus is not None and not corpus.startswith("labelled:"):
        options["corpus"] = f"labelled:path={quoted(absolute(corpus))}"


def train(settings: RecipeSettings) -> "TrainedRun":
    """Train an encoder on labelled rows, and score it."""
    from recipes.runner import print_scores, read_search, read_tasks, with_available_data  # torch: takes seconds
    from sentemb.pipeline import Experiment, trains_transformer

    transformer = trains_transformer(settings.encoder)
    with Experiment("supervised", settings.run, settings.training, settings.compute, transformer) as experiment:
        # Two views [n, d] of a batch, and its hard negatives, to a loss: which row is the anchor's positive?
        objective = experiment.make_objective(settings.objective)
        # Rows of an anchor, a positive and any hard negatives. The last tenth is held out.
        corpus = experiment.open_corpus(settings.data)
        # A transformer, or two: one for the anchors, one for the others (--towers 2).
        encoder = experiment.make_encoder(settings.encoder, corpus)
        # Anchor, positive and hard negatives of each row, as token ids.
        pairs = experiment.make_pairs(settings.pairs, corpus, encoder)
        # What best/ is chosen by: STS-B dev where its data is, else retrieval of held-out positives.
        search = read_search(settings.evaluation, corpus)
        evaluation, dev = with_available_data(settings.evaluation, search.dev)
        tasks = read_tasks(settings.evaluation, default="STS-B")
        run = experiment.train(corpus, encoder, pairs, objective, evaluation, dev)
        if run.complete:
            print_scores(run, tasks, search.test)
    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    with command("train_supervised", __doc__, DEFAULTS, arguments, labelled_corpus) as settings:
        train(settings)


if __name__ == "__main__":
    main()
