"""The table of a run's scores, and what it says in sentences."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentemb.runs import Record, as_dict, number, plain, safe, show

HIGHER, LOWER = 1, -1  # which end of a measure is better

RANKED = {"sides": "one encoder", "score": "cosine"}  # how held-out pairs are ranked, of most models


@dataclass
class _Column:
    """One measure of the score table. ``values[i]`` belongs to row i, rounded as shown; NaN where not measured."""

    title: str
    prose: str  # its name in a sentence
    better: int
    digits: int
    values: list[float]


def _columns(rows: list[Record]) -> list[_Column]:
    """The measures of the score table; one that no row has is left out."""

    def column(title: str, prose: str, better: int, digits: int, values: list[Any]) -> _Column:
        return _Column(title, prose, better, digits, [round(number(value), digits) for value in values])

    tasks = _tasks(rows)
    scores_by_task = {t: [as_dict(as_dict(r.get("tasks")).get(t)) for r in rows] for t in tasks}
    accuracy = {
        t: [number(r.get("acc")) for r in task_scores]
        for t, task_scores in scores_by_task.items()
        if any("acc" in r for r in task_scores)
    }
    columns = [column(f"{t}, %", f"{t} accuracy", HIGHER, 1, accuracy[t]) for t in accuracy]
    for task in (t for t in tasks if t not in accuracy):
        values = [r.get("spearman") for r in scores_by_task[task]]
        columns.append(column(f"{task}, Spearman x 100", f"{task} Spearman", HIGHER, 1, values))
    if len(accuracy) > 1:  # a row that misses a task gets no mean: it would not compare
        means = np.mean(list(accuracy.values()), axis=0).tolist()
        columns.append(column("mean accuracy, %", "mean accuracy", HIGHER, 1, means))
    for key in ("alignment", "uniformity"):
        values = [as_dict(row.get("geometry")).get(key) for row in rows]
        columns.append(column(f"{key}, lower is better", f"{key} loss", LOWER, 3, values))
    for key, title in (("retrieval_mrr", "MRR"), ("retrieval_recall_at_1", "recall at 1")):
        columns.append(column(title, f"retrieval {title}", HIGHER, 3, [row.get(key) for row in rows]))
    return [c for c in columns if np.isfinite(c.values).any()]


def _tasks(rows: list[Record]) -> list[str]:
    return list(dict.fromkeys(task for row in rows for task in as_dict(row.get("tasks"))))


def score_table(rows: list[Record]) -> str:
    """The scores of a run as an HTML table, with what it is of below."""
    columns = _columns(rows)
    titles = ["encoder", "dimension", *(c.title for c in columns)]
    head = "".join(f"<th scope='col'>{safe(title)}</th>" for title in titles)
    body = ""
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{_cell(c, i, row)}</td>" for c in columns)
        name, dimension = safe(row.get("encoder", "unnamed")), show(number(row.get("dimension")), 0)
        body += f"<tr><th scope='row'>{name}</th><td>{dimension}</td>{cells}</tr>\n"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f"<div class='wide' tabindex='0'>{table}</div>\n<p class='caption'>{safe(_score_caption(rows))}</p>"


def _cell(column: _Column, i: int, row: Record) -> str:
    text = show(column.values[i], column.digits)
    finite = [v for v in column.values if math.isfinite(v)]
    if len(finite) > 1 and column.values[i] == max(finite, key=lambda v: v * column.better):
        text = f"<strong>{text}</strong>"
    optimum = number(as_dict(row.get("geometry")).get("uniformity_optimum"))
    if column.prose == "uniformity loss" and math.isfinite(optimum):
        text += f" <small>of {show(optimum, 3)}</small>"
    return text


def _score_caption(rows: list[Record]) -> str:
    """How each number was made: protocol, n, the sampling error n implies, and the text geometry was measured on."""
    parts = ["The best of each column is bold. Beside uniformity, small: the lowest value the dimension allows."]
    for task in _tasks(rows):
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
    for row in rows:
        geometry = as_dict(row.get("geometry"))
        sides, by = (plain(geometry.get(f"retrieval_{key}", usual)) for key, usual in RANKED.items())
        if (sides, by) != tuple(RANKED.values()):
            by = "inner product" if by == "dot" else by
            parts.append(f"MRR of {plain(row.get('encoder', 'unnamed'))}: {sides}, by {by}.")
    return " ".join(dict.fromkeys(parts))


def verdict(rows: list[Record]) -> list[str]:
    """Trained against every other row in plain sentences; what got worse is said as plainly as what got better."""
    names = [plain(row.get("encoder", "unnamed")) for row in rows]
    if "trained" not in names or len(rows) < 2:
        return ["scores.json has no trained encoder beside another one, so there is nothing to compare."]
    sentences, worse, columns, trained = [], [], _columns(rows), names.index("trained")
    for i in [i for i in range(len(rows)) if i != trained]:
        sentences += [text for c in reversed(columns) if (text := _gain(c, trained, i, names[i]))]
        lost = [c for c in columns if (c.values[trained] - c.values[i]) * c.better < 0]
        pieces = [f"{c.prose} ({show(c.values[trained], c.digits)}, not {show(c.values[i], c.digits)})" for c in lost]
        worse += [f"worse than {names[i]} in {', '.join(pieces)}"] if pieces else []
    if worse:
        sentences.append(f"Training did not pay everywhere: trained is {'; '.join(worse)}.")
    else:
        sentences.append("On no measure in the table is trained worse than another row.")
    if any("alignment loss" in text for text in worse):
        sentences.append(
            "Spreading sentences out also moves positive pairs apart, so read alignment together with uniformity."
        )
    return sentences


def _gain(column: _Column, trained: int, other: int, name: str) -> str:
    """The sentence for a measure the summary opens with (retrieval, mean accuracy); empty for the rest."""
    new, old = column.values[trained], column.values[other]
    if not math.isfinite(new - old):
        return ""
    if column.prose == "retrieval MRR" and old > 0:
        times = f"{show(new / old, 1)} times that of {name}"
        return f"Retrieval of a held-out sentence's positive is {times} (MRR {new:.3f} against {old:.3f})."
    if column.prose == "mean accuracy":
        return f"Mean accuracy over the tasks is {new:.1f}%, {new - old:+.1f} points against {name} ({old:.1f}%)."
    return ""
