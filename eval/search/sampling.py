"""Fixed parts of a search task: fewer queries and passages, and two halves of the queries."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.search.task import ListedPassages, SearchTask
from sentemb.errors import InputError

Item = TypeVar("Item")
SEED = 0  # fixed, so that encoders and steps of training compare


def search_sample(task: SearchTask, queries: int, passages: int) -> SearchTask:
    """The task with at most ``queries`` queries and about ``passages`` passages, always the same ones.

    All passages that were judged for these queries stay, also where they are more than ``passages``. The others are
    drawn from all. Fewer passages are easier to search: scores of two samples do not compare.
    """
    if len(task.queries) <= queries and len(task.passages) <= passages:
        return task
    random = np.random.default_rng(SEED)
    asked = _with_queries(task, np.sort(random.permutation(len(task.queries))[:queries]))
    judged = np.unique([number for grades in asked.judgements for number in grades])
    others = np.setdiff1d(random.permutation(len(task.passages))[: passages + len(judged)], judged)
    drawn = random.permutation(others)[: max(0, passages - len(judged))]
    chosen = np.sort(np.concatenate([judged, drawn]))
    new_number = {number: i for i, number in enumerate(chosen.tolist())}
    note = (
        f"a fixed sample: {len(asked.queries):,} of {len(task.queries):,} queries, {len(chosen):,} of "
        f"{len(task.passages):,} passages, those judged for the queries among them"
    )
    return replace(
        asked,
        passages=ListedPassages(_texts(task, chosen)),
        judgements=[{new_number[n]: grade for n, grade in grades.items()} for grades in asked.judgements],
        leave_out=[[new_number[n] for n in numbers if n in new_number] for numbers in asked.leave_out],
        notes=(*task.notes, note),
    )


def search_halves(task: SearchTask) -> tuple[SearchTask, SearchTask]:
    """The task with one half of its queries, and with the other, drawn by a fixed seed. Both have all passages.

    Raises:
        InputError: it has a single query.
    """
    if len(task.queries) < 2:
        raise InputError(f"{task.name} has one query, and half of the queries are to choose the best model; give more")
    order = np.random.default_rng(SEED).permutation(len(task.queries))
    middle = len(order) // 2
    note = "one half of the queries, drawn by a fixed seed, chooses the best model, and the other half scores it"
    noted = replace(task, notes=(*task.notes, note))
    return _with_queries(noted, np.sort(order[:middle])), _with_queries(noted, np.sort(order[middle:]))


def _with_queries(task: SearchTask, rows: NDArray[np.int64]) -> SearchTask:
    return replace(
        task,
        queries=_rows(task.queries, rows),
        judgements=_rows(task.judgements, rows),
        leave_out=_rows(task.leave_out, rows) if task.leave_out else [],
        documents=None if task.documents is None else task.documents[rows],
    )


def _rows(values: Sequence[Item], rows: NDArray[np.int64]) -> list[Item]:
    return [values[row] for row in rows.tolist()]


def _texts(task: SearchTask, numbers: NDArray[np.int64]) -> list[str]:
    """Texts of passages, ascending: neighbours are read together."""
    texts = []
    for _, run in groupby(enumerate(numbers.tolist()), key=lambda entry: entry[1] - entry[0]):
        rows = [number for _, number in run]
        texts += task.passages.texts(slice(rows[0], rows[-1] + 1))
    return texts
