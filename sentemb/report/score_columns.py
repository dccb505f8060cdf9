"""The measures of a run's scores, and what the paired bootstrap says of two encoders on each."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentemb.runs import TEACHER, Record, Run, as_dict, as_list, number, plain

SEARCH = ("nDCG@10", "MRR@10", "recall@100")  # of the scores of search
RETRIEVAL = {"retrieval_mrr": "MRR", "retrieval_recall_at_1": "recall at 1"}  # held-out scores, and their titles
MEAN = "mean accuracy"
TEACHER_SIMILARITY = "teacher_similarity"
SHARE = "teacher_share"  # of a row's scores in the teacher's
COSTS = {"sentences_per_second": ("sentences/s", 0), "megabytes": ("MB on disk", 1)}
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
REVERSED = {BETTER: WORSE, WORSE: BETTER}


@dataclass(frozen=True)
class Column:
    """One measure of the score table. ``values[i]`` belongs to row i, rounded as shown; NaN where not measured."""

    key: str  # its name in scores.json
    title: str
    prose: str  # its name in a sentence
    digits: int
    values: list[float]


@dataclass(frozen=True)
class Difference:
    """The difference of an encoder's score from another one's, with its interval."""

    value: float
    low: float
    high: float
    level: float
    verdict: str
    over: str  # how many items it is of, and what was drawn


def columns_of(rows: list[Record]) -> list[Column]:
    """The measures that a row of the scores has; one that no row has is left out."""

    def column(key: str, title: str, prose: str, digits: int, values: list[Any]) -> Column:
        return Column(key, title, prose, digits, [round(number(value), digits) for value in values])

    tasks = tasks_of(rows)
    scores_by_task = {t: [as_dict(as_dict(r.get("tasks")).get(t)) for r in rows] for t in tasks}
    accuracy = {
        t: [number(r.get("acc")) for r in task_scores]
        for t, task_scores in scores_by_task.items()
        if any("acc" in r for r in task_scores)
    }
    columns = [column(t, f"{t}, %", f"{t} accuracy", 1, accuracy[t]) for t in accuracy]
    for task in (t for t in tasks if t not in accuracy):
        values = [r.get("spearman") for r in scores_by_task[task]]
        columns.append(column(task, f"{task}, Spearman x 100", f"{task} Spearman", 1, values))
    if len(accuracy) > 1:  # a row that misses a task gets no mean: it would not compare
        means = np.mean(list(accuracy.values()), axis=0).tolist()
        columns.append(column(MEAN, "mean accuracy, %", MEAN, 1, means))
    for key in ("alignment", "uniformity"):
        values = [as_dict(row.get("geometry")).get(key) for row in rows]
        columns.append(column(key, f"{key} loss", f"{key} loss", 3, values))
    for key, title in RETRIEVAL.items():
        columns.append(column(key, title, title, 3, [row.get(key) for row in rows]))
    for metric in SEARCH:
        values = [as_dict(as_dict(row.get("search")).get("scores")).get(metric) for row in rows]
        columns.append(column(f"search {metric}", f"search {metric}", f"search {metric}", 3, values))
    columns.append(column(SHARE, "% of the teacher", "share of the teacher's scores", 1, shares_of_teacher(rows)))
    alike = [row.get(TEACHER_SIMILARITY) for row in rows]
    columns.append(column(TEACHER_SIMILARITY, "similarity to the teacher", "similarity to the teacher", 3, alike))
    for key, (title, digits) in COSTS.items():
        columns.append(column(key, title, title, digits, [as_dict(row.get("cost")).get(key) for row in rows]))
    return [c for c in columns if np.isfinite(c.values).any()]


def mean_scores(rows: list[Record]) -> list[float]:
    """The mean over all tasks (accuracy, Spearman, x 100) of each row; NaN of a row that misses one, or without any."""
    tasks = tasks_of(rows)
    scores = [[as_dict(as_dict(row.get("tasks")).get(task)) for task in tasks] for row in rows]
    values = [[number(score.get("acc", score.get("spearman"))) for score in of_row] for of_row in scores]
    return [float(np.mean(of_row)) if of_row else math.nan for of_row in values]


def shares_of_teacher(rows: list[Record]) -> list[float]:
    """Each row's mean score in per cent of the teacher's; NaN where there is no teacher, or no such mean."""
    means = mean_scores(rows)
    teacher = next((mean for row, mean in zip(rows, means, strict=True) if row.get("role") == TEACHER), math.nan)
    return [100 * mean / teacher if teacher else math.nan for mean in means]


def tasks_of(rows: list[Record]) -> list[str]:
    """The tasks that any row has."""
    return list(dict.fromkeys(task for row in rows for task in as_dict(row.get("tasks"))))


def difference_of(run: Run, measure: str, encoder: object, against: object) -> Difference | None:
    """How ``encoder`` differs from ``against``; None where scores.json has no interval for it, as of 0.1.0."""
    for entry in map(as_dict, as_list(run.scores.get("differences"))):
        if entry.get("measure") != measure or {entry.get("encoder"), entry.get("against")} != {encoder, against}:
            continue
        value, low, high, level, n, units = (
            number(entry.get(key)) for key in ("difference", "low", "high", "level", "n", "units")
        )
        verdict = plain(entry.get("verdict", CANNOT_TELL))
        if not math.isfinite(value + low + high + level):
            continue
        if entry.get("encoder") != encoder:
            value, low, high, verdict = -value, -high, -low, REVERSED.get(verdict, verdict)
        over = f"{n:,.0f} {plain(entry.get('items', 'items'))}"
        if entry.get("drawn") != entry.get("items"):
            over += f" of {units:,.0f} {plain(entry.get('drawn'))}, which were drawn whole"
        elif isinstance(documents := entry.get("documents"), int):  # too few to be drawn
            over += f" of {documents} document{'s' if documents > 1 else ''}, each drawn by itself"
        return Difference(value, low, high, level, verdict, over)
    return None
