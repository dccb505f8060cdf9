"""The table of a run's scores, an encoder a row."""

import math

from markupsafe import Markup

from sentemb.report.score_columns import BETTER, TEACHER_SIMILARITY, Column, columns_of, difference_of, tasks_of
from sentemb.report.template import PageTable
from sentemb.runs import TEACHER, Record, Run, as_dict, as_list, number, plain, show

RANKED = {"sides": "one encoder", "score": "cosine"}  # how held-out pairs are ranked, of most models


def score_table(run: Run) -> PageTable:
    """The scores of a run, with what they are of below."""
    rows = run.rows()
    columns = columns_of(rows)
    cells = [
        [
            row.get("encoder", "unnamed"),
            show(number(row.get("dimension")), 0),
            *(_cell(run, column, i, row) for column in columns),
        ]
        for i, row in enumerate(rows)
    ]
    head = ["encoder", "dimension", *(column.title for column in columns)]
    return PageTable("All encoders", head, cells, _score_caption(rows))


def _cell(run: Run, column: Column, i: int, row: Record) -> str:
    text = show(column.values[i], column.digits)
    others = [other for j, other in enumerate(run.rows()) if j != i and math.isfinite(column.values[j])]
    compared = [difference_of(run, column.key, row.get("encoder"), other.get("encoder")) for other in others]
    if compared and all(d is not None and d.verdict == BETTER for d in compared):
        text = Markup("<strong>{}</strong>").format(text)
    optimum = number(as_dict(row.get("geometry")).get("uniformity_optimum"))
    if column.key == "uniformity" and math.isfinite(optimum):
        text += Markup(" <small>of {}</small>").format(show(optimum, 3))
    return text


def _score_caption(rows: list[Record]) -> str:
    """How each number was made: protocol, n, the sampling error n implies, and the text geometry was measured on."""
    parts = [
        "Bold: better than each other row, beyond chance. Alignment and uniformity, lower is better, belong together "
        "and are in no such comparison: spreading sentences out also moves positive pairs apart. Next to uniformity, "
        "small: the lowest value the dimension allows."
    ]
    for task in tasks_of(rows):
        task_scores = [as_dict(as_dict(row.get("tasks")).get(task)) for row in rows]
        protocol = " / ".join(dict.fromkeys(plain(t["protocol"]) for t in task_scores if t.get("protocol")))
        n = max((v for t in task_scores if (v := number(t.get("n"))) > 0), default=math.nan)
        share = next((v / 100 for t in task_scores if 0 <= (v := number(t.get("acc"))) <= 100), math.nan)
        error = show(196 * math.sqrt(share * (1 - share) / n), 1)
        likely = f", each ± {error} points (95%)" if math.isfinite(share) else ""
        parts.append(f"{task}: {protocol or 'protocol not given'}, n = {show(n, 0)}{likely}.")
    for geometry in filter(None, (as_dict(row.get("geometry")) for row in rows)):
        counts = "".join(f", {show(number(geometry[k]), 0)} {k}" for k in ("pairs", "sentences") if k in geometry)
        parts.append(f"Alignment and uniformity on {plain(geometry.get('source', 'a source not given'))}{counts}.")
    if any("retrieval_mrr" in row for row in rows):
        parts.append("MRR: mean of 1 / rank of a held-out sentence's positive; recall at 1: how often it ranks first.")
    for search in filter(None, (as_dict(row.get("search")) for row in rows)):
        notes = [plain(note) for note in as_list(search.get("notes"))]
        parts.append(f"Search: {'; '.join([plain(search.get('task', 'a task not given')), *notes])}.")
    for row in rows:
        if measured := as_dict(row.get("cost")).get("measured"):
            parts.append(f"sentences/s: {plain(measured)}.")
    if any(TEACHER_SIMILARITY in row for row in rows):
        parts.append(
            "Similarity to the teacher: Spearman's correlation of the cosines of random pairs of held-out sentences, "
            "by an encoder and by the teacher."
        )
    if any(row.get("role") == TEACHER for row in rows) and tasks_of(rows):
        parts.append(f"% of the teacher: the mean of {', '.join(tasks_of(rows))} over the teacher's.")
    for row in rows:
        geometry = as_dict(row.get("geometry"))
        sides, by = (plain(geometry.get(f"retrieval_{key}", usual)) for key, usual in RANKED.items())
        if (sides, by) != tuple(RANKED.values()):
            by = "inner product" if by == "dot" else by
            parts.append(f"MRR of {plain(row.get('encoder', 'unnamed'))}: {sides}, by {by}.")
    return " ".join(dict.fromkeys(parts))
