"""Train a transformer on single sentences, each encoded twice with different dropout masks (unsupervised SimCSE).

    sentemb simcse --max-steps 100                           # MiniLM, the built-in sample
    sentemb simcse --corpus BOOKS --init minilm              # a finished model, your text
    sentemb simcse --corpus FILE --preset simcse-bert-base   # the paper's settings
    sentemb simcse --corpus BOOKS --pairs augment:how=delete,rate=0

`python recipes/train_simcse.py` is the same command. It writes OUT/config.json before step 1 and OUT/log.jsonl from
step 0. Where the data of STS-B is present, the log has the STS-B dev score, alignment and uniformity. It also writes
OUT/best and OUT/last (models), then OUT/model, OUT/scores.json and OUT/report.html. It never overwrites a run.
Source: Gao et al. 2021, arXiv 2104.08821.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recipes.runner import RecipeSettings, command

if TYPE_CHECKING:
    from sentemb.pipeline import TrainedRun

DEFAULTS = {
    "encoder": "transformer:name=minilm,pooling=mean",
    "pairs": "dropout",
    "batch_size": 64,
    "lr": 3e-5,
    "warmup": 0,
    "max_length": 32,
    "eval_every": 125,
}


def train(settings: RecipeSettings) -> "TrainedRun":
    """Train an encoder on each sentence twice, and score it."""
    from recipes.runner import print_scores, read_search, read_tasks, with_available_data  # torch: takes seconds
    from sentemb.pipeline import Experiment, trains_transformer

    transformer = trains_transformer(settings.encoder)
    with Experiment("simcse", settings.run, settings.training, settings.compute, transformer) as experiment:
        # Two views [n, d] of a batch to a loss: which of the n second views is of the same sentence?
        objective = experiment.make_objective(settings.objective)
        # Sentences. A tenth of the documents is held out, and scores the encoder.
        corpus = experiment.open_corpus(settings.data)
        # A transformer with dropout, which is the only difference between both views of a sentence.
        encoder = experiment.make_encoder(settings.encoder, corpus)
        # Each sentence with itself, as token ids; refused where the encoder has no dropout.
        pairs = experiment.make_pairs(settings.pairs, corpus, encoder)
        # What best/ is chosen by, as in the paper: STS-B dev, where its data is.
        search = read_search(settings.evaluation, corpus)
        evaluation, dev = with_available_data(settings.evaluation, search.dev)
        tasks = read_tasks(settings.evaluation, default="STS-B")
        run = experiment.train(corpus, encoder, pairs, objective, evaluation, dev)
        if run.complete:
            print_scores(run, tasks, search.test)
    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    with command("train_simcse", __doc__, DEFAULTS, arguments) as settings:
        train(settings)


if __name__ == "__main__":
    main()
