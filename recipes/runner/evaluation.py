"""What a run is scored by: while it trains, and at its end."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from eval import (
    VERDICTS,
    Data,
    ScoringSettings,
    SearchTask,
    Table,
    as_text,
    choose_tasks,
    data_folder,
    describe_search,
    format_table,
    held_out_task,
    items_of,
    measure,
    measure_search,
    read,
    read_dev_and_test,
    read_search_task,
    search_dev_score,
    search_halves,
    search_sample,
    stsb_dev_score,
)
from sentemb.corpus import Corpus
from sentemb.encoders import is_truncated
from sentemb.errors import InputError
from sentemb.pipeline import PASSAGES, EvaluationSettings, TrainedRun
from sentemb.report import COSTS, SHARE, TEACHER_SIMILARITY, columns_of, comparison_of, mean_scores, tasks_of
from sentemb.runs import TRAINED, Run, RunFolder, read_run, show
from sentemb.validation import DevScore, HeldOutPairs, ItemScores

MOST_QUERIES, MOST_PASSAGES = 10_000, 50_000  # of the final scores of search; eval.search takes all


@dataclass(frozen=True)
class RunSearch:
    """The search tasks of a run."""

    dev: SearchTask | None = None  # chooses best/
    test: SearchTask | None = None  # scores the model at the end, on other queries


def read_search(evaluation: EvaluationSettings, corpus: Corpus) -> RunSearch:
    """The search tasks that the settings ask for; of ``--dev search`` alone those of held-out passages.

    Judged queries of a folder choose the best model by its split ``dev`` and score it by ``test``. Where there is no
    such split, and of a table and of held-out passages, one half of the queries chooses and the other scores.

    Args:
        evaluation: whether and where to search. corpus: that is trained on.

    Raises:
        InputError: the queries and judgements cannot be read.
    """
    chooses, spec = evaluation.dev == "search", evaluation.search
    if spec is None and not chooses:
        return RunSearch()
    if spec is None or spec == PASSAGES:
        all_queries = held_out_task(corpus)
        dev, test = search_halves(all_queries) if chooses else (None, all_queries)
    else:
        dev, test = read_dev_and_test(Path(spec)) if chooses else (None, read_search_task(Path(spec)))
    return RunSearch(dev, search_sample(test, MOST_QUERIES, MOST_PASSAGES) if evaluation.score else None)


def with_available_data(
    evaluation: EvaluationSettings, search: SearchTask | None = None
) -> tuple[EvaluationSettings, DevScore | None]:
    """The settings with what there is: the data's absolute folder, and a dev score; None: of held-out sentences.

    Args:
        evaluation: as asked for. search: the queries of ``--dev search``.

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
    if search is not None:
        dev = search_dev_score(search)
    chosen = evaluation.dev if evaluation.dev in ("teacher", "search") else "stsb" if dev else "heldout"
    return replace(evaluation, dev=chosen, data=data), dev


def read_tasks(evaluation: EvaluationSettings, default: str) -> list[Data]:
    """The tasks of the final scores. Data that is missing costs the scores, not the run, unless it was asked for.

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


def print_scores(run: TrainedRun, tasks: Sequence[Data], search: SearchTask | None = None) -> None:
    """Score the encoder before and after training, averaged word embeddings and a teacher; tables, files and a page.

    Args:
        run: that ended. tasks: SentEval's, as read. search: one more task, with its own queries; None: none.
    """

    # Only test parts are in the tables. (Where STS-B dev chooses best/, log.jsonl has it before and after training.)
    settings = ScoringSettings(geometry_part="none", dev=False)

    def measure_with_items(model: SentenceTransformer, pairs: HeldOutPairs) -> dict[str, Any]:
        model.to("cpu")
        result, scored = measure(model, tasks, pairs, settings=settings, cache=run.encoder(model).cache)
        items = items_of(scored)
        if search is not None and not is_truncated(model):  # (each would encode all passages once more)
            result["search"], searched = search_scores(model, search)
            items |= searched
        return result | {"items": items}

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


def search_scores(model: SentenceTransformer, task: SearchTask) -> tuple[dict[str, Any], dict[str, ItemScores]]:
    """Scores of search: as scores.json has them, and each query's by ``search METRIC``."""
    scores = measure_search(model, task, progress=True)
    values = {metric: float(each.values.mean()) for metric, each in scores.items.items()}
    about = {"task": describe_search(task), "notes": list(task.notes), "ranked_by": scores.score, "sides": scores.sides}
    return about | {"scores": values}, {f"search {metric}": each for metric, each in scores.items.items()}


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
        tables.append(Table(f"trained against {against}", head, lines, () if tables else (VERDICTS, *over)))
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
