"""Distill a teacher into a student that encodes far faster: it learns the teacher's embedding of each sentence.

    sentemb distill                                          # MiniLM, the built-in sample, a word table
    sentemb distill --corpus BOOKS --teacher-sentences 100000 \\
        --encoder rnn:hidden=256 --lr 1e-3                   # your text, an LSTM
    sentemb distill --corpus BOOKS --teacher minilm:layers=3-6,scale=standard \\
        --encoder rnn:distill=minilm,teacher_layers=0-6,dim=1024,weighting=none,gain=0.28,hidden=512,skip=mean \\
        --teacher-sentences 400000 --objective distill:loss=mse --batch-size 128 --lr 3e-3 --epochs 2

`python recipes/train_distill.py` is the same command. The teacher embeds --teacher-sentences of the training sentences
once; the run first prints how long that takes. At the end it prints a table: the teacher, the student before and after
training, and what each costs. It writes the files of every recipe: OUT/config.json, log.jsonl, best/, last/, model/,
scores.json, report.html. It never overwrites a run.
Sources: Reimers & Gurevych 2020 (arXiv 2004.09813), Romero et al. 2015 (1412.6550).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recipes.runner import Options, RecipeSettings, command
from sentemb.registry import quoted
from sentemb.runs import RunFolder
from sentemb.teacher import parse_teacher

if TYPE_CHECKING:
    from sentemb.pipeline import TrainedRun

DEFAULTS = {
    "teacher": "minilm:dim=256",
    "teacher_sentences": 8000,
    "encoder": "static:distill=minilm,dim=256",
    "pairs": "contiguous",
    "objective": "distill",
    "epochs": 10,
    "lr": 1e-2,
    "dev": "teacher",
}


def default_teacher(options: Options) -> None:
    """The recipe's teacher where none is named, and a table of the teacher's words where no student is.

    The table is compared with as many principal components of the teacher, so that the student's cosines learn to be
    the teacher's: through a linear map they follow them far less. Other students may have any dimension.
    """
    if options.get("resume") and "out" in options and RunFolder(options["out"]).config.is_file():
        return
    student = bool({"encoder", "init"} & options.keys())
    teacher = options.setdefault("teacher", "minilm" if student else DEFAULTS["teacher"])
    if not student:
        options["encoder"] = f"static:distill={quoted(parse_teacher(teacher).name)},dim=256"


def train(settings: RecipeSettings) -> "TrainedRun":
    """Train a student on a teacher's embeddings, and score it."""
    from recipes.runner import print_scores, read_search, read_tasks, with_available_data  # torch: takes seconds
    from sentemb.pipeline import Experiment, trains_transformer

    transformer = trains_transformer(settings.encoder)
    with Experiment("distill", settings.run, settings.training, settings.compute, transformer) as experiment:
        # The student's embeddings [n, d] of a batch and the teacher's [n, D] to a loss: how far are they apart?
        objective = experiment.make_objective(settings.objective)
        # Sentences. A tenth of the documents is held out, and scores the student.
        corpus = experiment.open_corpus(settings.data)
        # The student: a word table that begins as what the teacher makes of each word, an LSTM, a smaller transformer.
        encoder = experiment.make_encoder(settings.encoder, corpus)
        # Runs of consecutive sentences, each once, as token ids, and the teacher's embedding of each.
        pairs = experiment.make_pairs(settings.pairs, corpus, encoder)
        # What best/ is chosen by: whether student and teacher find held-out sentences alike.
        search = read_search(settings.evaluation, corpus)
        evaluation, dev = with_available_data(settings.evaluation, search.dev)
        tasks = read_tasks(settings.evaluation, default="MR,CR,STS-B")
        run = experiment.train(corpus, encoder, pairs, objective, evaluation, dev)
        if run.complete:
            print_scores(run, tasks, search.test)
    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    with command("train_distill", __doc__, DEFAULTS, arguments, default_teacher) as settings:
        train(settings)


if __name__ == "__main__":
    main()
