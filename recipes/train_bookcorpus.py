"""Train a sentence encoder on neighbouring sentences of books, score it, and write a page about the run.

    sentemb train                                                         # the built-in sample, in minutes
    sentemb train --corpus BOOKS --out runs/first \\
        --encoder rnn:hidden=256 --objective infonce:temperature=0.05     # a folder of raw books
    sentemb train --corpus BOOKS --init minilm --lr 2e-5 --batch-size 128 # adapt a finished model
    torchrun --nproc_per_node 2 recipes/train_bookcorpus.py               # two processes that share their negatives

`python recipes/train_bookcorpus.py` is the same command. It writes OUT/config.json before step 1 and OUT/log.jsonl from
step 0. During training it writes OUT/best and OUT/last (models), and checkpoints into OUT/checkpoints/. At the end it
writes OUT/model (a SentenceTransformer), OUT/scores.json and OUT/report.html. It never overwrites a run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recipes.runner import RecipeSettings, command

if TYPE_CHECKING:
    from sentemb.pipeline import TrainedRun


def train(settings: RecipeSettings) -> "TrainedRun":
    """Train an encoder on neighbouring sentences, and score it."""
    from recipes.runner import print_scores, read_search, read_tasks, with_available_data  # torch: takes seconds
    from sentemb.pipeline import Experiment, trains_transformer

    transformer = trains_transformer(settings.encoder)
    with Experiment("bookcorpus", settings.run, settings.training, settings.compute, transformer) as experiment:
        # Two views [n, d] of a batch to a loss: which of the n second sentences follows the first?
        objective = experiment.make_objective(settings.objective)
        # Sentences in documents. A tenth of the documents (five of twenty) is held out, and scores the encoder.
        corpus = experiment.open_corpus(settings.data)
        # A SentenceTransformer: word embeddings and an LSTM, a transformer, or a finished model.
        encoder = experiment.make_encoder(settings.encoder, corpus)
        # Each sentence with the one after it in its document, as token ids.
        pairs = experiment.make_pairs(settings.pairs, corpus, encoder)
        # What best/ is chosen by: STS-B dev where its data is, else retrieval of held-out neighbours.
        search = read_search(settings.evaluation, corpus)
        evaluation, dev = with_available_data(settings.evaluation, search.dev)
        tasks = read_tasks(settings.evaluation, default="MR,CR")
        run = experiment.train(corpus, encoder, pairs, objective, evaluation, dev)
        if run.complete:
            print_scores(run, tasks, search.test)
    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    with command("train_bookcorpus", __doc__, {}, arguments) as settings:
        train(settings)


if __name__ == "__main__":
    main()
