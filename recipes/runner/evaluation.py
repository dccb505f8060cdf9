"""What a run is scored by: while it trains, and at its end."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from eval import (
    Data,
    Scored,
    ScoringSettings,
    Table,
    as_text,
    choose_tasks,
    data_folder,
    format_table,
    measure,
    read,
    stsb_dev_score,
)
from sentemb.errors import InputError
from sentemb.pipeline import EvaluationSettings, TrainedRun
from sentemb.report import COSTS, SHARE, TEACHER_SIMILARITY, columns_of, comparison_of, mean_scores, tasks_of
from sentemb.runs import TRAINED, Run, RunFolder, read_run, show
from sentemb.validation import DevScore, HeldOutPairs, ItemScores

NOTE = "better, worse: the interval of the paired bootstrap leaves out 0; cannot tell: it holds 0"


def with_available_data(evaluation: EvaluationSettings) -> tuple[EvaluationSettings, DevScore | None]:
    """The settings with what there is: the data's absolute folder, and a dev score; None: of held-out sentences.

    Raises:
        InputError: STS-B is asked for and is not there.
    """
    folder = data_folder(Path(evaluation.data) if evaluation.data else None)
    dev = None
    if evaluation.dev in ("auto", "stsb"):
        try:
            dev = stsb_dev_score(folder)
        except InputError:
            if evaluation.dev == "stsb":
                raise
    # so that a resumed run is selected by the same score, wherever it is resumed
    data = str(folder.resolve()) if folder else None
    chosen = "teacher" if evaluation.dev == "teacher" else "stsb" if dev else "heldout"
    return replace(evaluation, dev=chosen, data=data), dev


def read_tasks(evaluation: EvaluationSettings, default: str) -> list[Data]:
    """The tasks of the final scores. Data that cannot be had costs the scores, not the run, unless it was asked for.

    Args:
        evaluation: which tasks, and where their data is.
        default: the tasks where none are named and there is a folder of data.
    """
    if not evaluation.score or os.environ.get("RANK", "0") != "0":  # (the main process scores)
        return []
    folder = data_folder(Path(evaluation.data) if evaluation.data else None)
    try:
        names = evaluation.tasks or (default if folder is not None else None)
        return [read(task, folder) for task in choose_tasks(names, folder)]
    except InputError as error:
        if evaluation.data or evaluation.tasks:
            raise
        print(f"no probes at the end: {error}", file=sys.stderr)
        return []


def print_scores(run: TrainedRun, tasks: Sequence[Data]) -> None:
    """Score the encoder before and after training, averaged word embeddings and a teacher; tables, files and a page."""

    # Only test parts are in the tables. (Where STS-B dev chooses best/, log.jsonl has it before and after training.)
    settings = ScoringSettings(geometry_part="none", dev=False)

    def measure_with_items(model: SentenceTransformer, pairs: HeldOutPairs) -> dict[str, Any]:
        model.to("cpu")
        result, scored = measure(model, tasks, pairs, settings=settings, cache=run.encoder(model).cache)
        return result | {"items": items_of(scored)}

    results = run.score(measure_with_items)
    report = run.report()
    if results:
        print(format_table(results))
        print(f"alignment, uniformity, MRR: of {run.pairs.source}")
        files = read_run(run.folder)
        for table in (*cost_tables(files), *comparison_tables(files)):
            print(f"\n{table.title}\n{as_text([table])}\n")
        print(f"model: {RunFolder(run.folder).model}   report: {report}")
        print(f"run folder: {run.folder}")


def items_of(scored: Mapping[str, Scored]) -> dict[str, ItemScores]:
    """What two encoders are compared by: each test row of the classified tasks, each pair of the similarities."""
    items = {}
    for task, outcome in scored.items():
        if outcome.correct is not None:
            items[task] = ItemScores(outcome.correct.astype(float), scale=100, accuracy=True)
        elif isinstance(outcome.predictions, dict):
            similarities, gold = (np.concatenate(parts) for parts in zip(*outcome.predictions.values(), strict=True))
            items[task] = ItemScores(similarities, gold.astype(float), items="pairs", scale=100)
    return items


def comparison_tables(run: Run) -> list[Table]:
    """Each score of the trained encoder against the one that training began with; with a teacher, against all."""
    compared = [(against, comparison_of(run, against)) for against in run.compared()]
    tables: list[Table] = []
    for against, scores in compared:
        if not scores:
            continue
        sides = ["before", "after"] if against == run.initial() else [against, TRAINED]
        head = ["score", *sides, "difference", f"{scores[0].level:.0%} interval", "verdict"]
        lines = [[row.title, row.before, row.after, row.difference, row.interval, row.verdict] for row in scores]
        over = dict.fromkeys(f"{row.title}: {row.over}" for row in scores)
        tables.append(Table(f"trained against {against}", head, lines, () if tables else (NOTE, *over)))
    return tables


def cost_tables(run: Run) -> list[Table]:
    """What each encoder of a run with a teacher keeps of the teacher's scores, and what it costs; else none."""
    rows = run.rows()
    costs = {column.key: column for column in columns_of(rows) if column.key in (SHARE, TEACHER_SIMILARITY, *COSTS)}
    if not costs:
        return []
    lines = [[str(row.get("encoder"))] for row in rows]
    head, notes = ["encoder"], [f"sentences/s: {row['cost']['measured']}" for row in rows if row.get("cost")]
    if SHARE in costs:
        head.append("mean score")
        lines = [[*line, show(mean, 2)] for line, mean in zip(lines, mean_scores(rows), strict=True)]
        notes.insert(0, f"mean score: of {', '.join(tasks_of(rows))}")
    for column in costs.values():
        head.append(column.title)
        lines = [[*line, show(value, column.digits)] for line, value in zip(lines, column.values, strict=True)]
    return [Table("scores and cost", head, lines, tuple(dict.fromkeys(notes)))]
