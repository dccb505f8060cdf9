"""One self-contained HTML page of a study: what was found, its tables and figures, and every encoder in a table.

``write_study_page(study)`` reads the files of a sweep's folder, draws the figures into STUDY/figures and writes
STUDY/study.html: no network, figures inline, the same bytes for the same inputs; its one script sorts the table. A
missing piece gives a page that says so.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from recipes.study.figures import draw_results
from recipes.study.results import Results, compared, read_results
from sentemb.report import Drawn, Headline, PageTable, html_page
from sentemb.runs import Record, as_dict, as_list, duration, number, plain
from sentemb.storage import write_text

BROAD = ("similarities", "circle", "classes", "sphere")  # figures with panels side by side get a row of their own
BROAD_WIDTH = 45  # rem: so do figures that are wider
FOLDED = ("similarities", "spectrum", "paths")  # figures of single encoders
WHAT = (
    "encoder",
    "dimension",
    "towers",
    "head",
    "pairs",
    "batch_size",
    "lr",
    "seed",
)  # said once where all encoders share it
SETTINGS = ("objective", "temperature", "alpha", "t", "contrastive", "align", "uniform")
MEASURES = {  # column: title, digits, whether more is better
    "alignment": ("align loss", 3, False),
    "uniformity": ("uniform loss", 3, False),
    "potential": ("potential", 4, False),
    "mean_cosine": ("mean cosine", 3, False),
    "effective_rank": ("effective rank", 1, True),
    "retrieval_mrr": ("MRR", 3, True),
    "retrieval_recall_at_1": ("recall at 1", 3, True),
    "mrr_after_head": ("MRR after the head", 3, True),
    "information": ("information, nats", 3, True),
    "nearest_gap": ("gap to the 10 nearest", 3, True),
    "STS-B_spearman": ("STS-B", 2, True),
    "document_acc": ("which held-out document, %", 1, True),
    "class_acc": ("which training document, %", 1, True),
    "search_ndcg_at_10": ("search nDCG@10", 3, True),
    "search_recall_at_100": ("search recall@100", 3, True),
    "loss": ("training loss", 3, False),
    "steps": ("steps", 0, True),
    "sequences_seen": ("sequences", 0, True),
    "seconds": ("seconds", 0, False),
}
MOST_NAMED = 2  # differences that the headline names; more are counted
PARTS = {
    "cv": ("CV, %", 2),
    "test": ("test, %", 2),
    "acc": ("10-fold, %", 2),
    "after_head": ("after the head, %", 2),
    "tolerance": ("tolerance", 3),
}


def write_study_page(study: Path) -> Path:
    """Draw a study's figures and write STUDY/study.html whole or not at all.

    Args:
        study: folder of a sweep: ``results.parquet`` (or ``.csv``), ``study.json``, ``statistics.json`` and
            ``encoders/NAME``; what is missing is left out and said.

    Returns:
        The page's path.

    Raises:
        InputError: ``study`` is not a folder.
    """
    results = read_results(study)
    page = study / "study.html"
    content = _page(results, draw_results(results))
    write_text(page, content)
    return page


@dataclass(frozen=True)
class Column:
    """A column of the table of encoders."""

    key: str
    title: str
    digits: int | None = None  # None: shown as it is
    more_is_better: bool = False
    numeric: bool = False


def _page(results: Results, drawn: list[Drawn]) -> str:
    about, statistics = results.about, results.statistics
    return html_page(
        "study.html",
        "recipes.study",
        ["sort.js"],
        title=about.get("title") or about.get("name") or results.folder.name,
        headline=study_headline(results),
        described=[text for text in plain(about.get("description") or "").split("\n\n") if text.strip()],
        sentences=as_list(statistics.get("said")),
        notes=results.notes,
        facts=_facts(results),
        tables=[_table(as_dict(table)) for table in as_list(statistics.get("tables"))],
        figures=drawn,
        broad=BROAD,
        broad_width=BROAD_WIDTH,
        folded=FOLDED,
        **_encoders(results.table, results.tasks),
        base=_base(about),
    )


def study_headline(results: Results) -> Headline:
    """What the study came to, and whether that is more than chance."""
    tables = [as_dict(table) for table in as_list(results.statistics.get("tables"))]
    parts = [*_over_untrained(tables), *_between_families(tables)]
    if not parts:
        return _best_of(results)
    title = "; ".join(part.title for part in parts)
    return Headline(title[:1].upper() + title[1:], " ".join(part.detail for part in parts))


def _over_untrained(tables: list[Record]) -> list[Headline]:
    verdicts = [row["verdict"] for row in _rows_with(tables, "verdict")]
    if not verdicts:
        return []
    worse = f" and worsened {n}" if (n := verdicts.count("worse")) else ""
    title = f"training improved {verdicts.count('better')} of {len(verdicts)} scores beyond chance{worse}"
    return [Headline(title, "Training: the best of each family against its untrained twin, 95 % paired bootstrap.")]


def _between_families(tables: list[Record]) -> list[Headline]:
    rows = _rows_with(tables, "p (Holm)")
    if not rows:
        return []
    clear = [row for row in rows if pd.to_numeric(row["p (Holm)"], errors="coerce") < 0.05]
    families = list(dict.fromkeys(row[side] for row in rows for side in "ab"))
    title = f"{len(clear) or 'none'} of {len(rows)} differences between families {'is' if len(clear) < 2 else 'are'}"
    title += " more than chance"
    if 0 < len(clear) <= MOST_NAMED:
        title = " and ".join(map(_lead, clear)) + ", beyond chance"
    elif not clear and len(families) == 2:
        title = f"no difference beyond chance between {families[0]} and {families[1]}"
    how = "Families: their best on test rows that chose nothing, McNemar's exact test with Holm's correction, p < 0.05."
    return [Headline(title, how)]


def _lead(row: dict[str, str]) -> str:
    points = row["a - b, points"]
    winner, loser = (row["b"], row["a"]) if points.startswith("-") else (row["a"], row["b"])
    return f"on {row['task']} {winner} beats {loser} by {points.lstrip('+-')} points"


def _best_of(results: Results) -> Headline:
    """Where nothing is tested: the best encoder by cross-validation on the first task that has any."""
    mine = compared(results.table)
    task = next((task for task in results.tasks if mine[f"{task}_cv"].notna().any()), None)
    if task is None:
        return Headline("No encoder is scored yet", "")
    best = mine.loc[mine[f"{task}_cv"].idxmax()]
    test = f", {best[f'{task}_test']:.2f} % on test rows" if pd.notna(best[f"{task}_test"]) else ""
    title = f"Best of {len(mine)} by cross-validation on {task}: {best['name']}{test}"
    return Headline(title, "No test says whether its lead is more than chance: only the best of families are compared.")


def _rows_with(tables: list[Record], title: str) -> list[dict[str, str]]:
    """The rows, by column, of the last table with such a column: in a study of several architectures, that of all."""
    for table in reversed(tables):
        if title in (head := [plain(cell) for cell in as_list(table.get("head"))]):
            rows = [[plain(cell) for cell in as_list(row)] for row in as_list(table.get("rows"))]
            return [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]
    return []


def _facts(results: Results) -> list[tuple[str, str]]:
    counts = results.table["status"].value_counts()
    facts = [
        ("encoders", str(len(results.table))),
        *((status, str(counts[status])) for status in ("diverged", "failed") if counts.get(status)),
        ("corpus", plain(as_dict(results.about.get("corpus")).get("name") or results.about.get("corpus") or "–")),
        ("tasks", ", ".join(results.tasks) or "–"),
        ("time", duration(number(results.about.get("seconds")))),
    ]
    return facts


def _table(table: Record) -> PageTable:
    rows = [["–" if cell is None else cell for cell in as_list(row)] for row in as_list(table.get("rows"))]
    return PageTable(
        plain(table.get("title", "Table")), as_list(table.get("head")), rows, plain(table.get("note") or "")
    )


def _encoders(table: pd.DataFrame, tasks: list[str]) -> dict[str, Any]:
    """All encoders, a row each; a column that says the same of all is said once above."""
    if table.empty:
        return {"encoders": []}
    varying = [column for column in WHAT if table[column].nunique(dropna=False) > 1]
    text_of_column = {column: _text(table[column].iloc[0]) for column in WHAT if column not in varying}
    shared = [f"{column.replace('_', ' ')} {text}" for column, text in text_of_column.items() if text not in ("", "–")]
    columns = _columns(table, varying, tasks)
    encoders = [
        {
            "index": index,
            "failed": row["status"] != "ok",
            "name": row["name"],
            "cells": [_cell(column, row[column.key]) for column in columns],
        }
        for index, row in table.iterrows()
    ]
    same = f"The same for all: {', '.join(shared)}. " if shared else ""
    return {"encoders": encoders, "columns": columns, "same_for_all": same}


def _columns(table: pd.DataFrame, varying: list[str], tasks: list[str]) -> list[Column]:
    columns = [Column("family", "family")]
    columns += [Column(c, c) for c in SETTINGS if c == "objective" or table[c].notna().any()]
    columns += [Column(c, c.replace("_", " ")) for c in [*varying, "status"]]
    measured = [
        Column(f"{task}_{part}", f"{task} {title}", n, True) for task in tasks for part, (title, n) in PARTS.items()
    ]
    measured += [Column(key, *shape) for key, shape in MEASURES.items()]
    columns += [column for column in measured if table[column.key].notna().any()]
    if (table["reason"] != "").any():
        columns.append(Column("reason", "reason"))
    return [replace(column, numeric=pd.api.types.is_numeric_dtype(table[column.key])) for column in columns]


def _cell(column: Column, value: object) -> dict[str, str]:
    if not isinstance(value, float):
        return {"text": plain(value), "kind": "reason" if column.key == "reason" else ""}
    digits = column.digits
    text = _text(value) if digits is None else "–" if math.isnan(value) else f"{value:.{digits}f}"
    return {"text": text, "kind": "number"}


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else "–"
    return plain(value)


def _base(about: Record) -> PageTable:
    settings = as_dict(about.get("base"))
    if reference := about.get("reference_encoder"):
        settings = settings | {"reference encoder": reference}
    return PageTable("Settings that most encoders share", (), list(settings.items()), wide=False)
