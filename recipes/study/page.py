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
from recipes.study.results import Results, read_results
from sentemb.report import Drawn, PageTable, html_page
from sentemb.runs import Record, as_dict, as_list, duration, number, plain
from sentemb.storage import write_text

BROAD = ("similarities", "circle", "sphere")  # figures with panels side by side get a row of their own
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
    "search_ndcg_at_10": ("search nDCG@10", 3, True),
    "search_recall_at_100": ("search recall@100", 3, True),
    "loss": ("training loss", 3, False),
    "steps": ("steps", 0, True),
    "sequences_seen": ("sequences", 0, True),
    "seconds": ("seconds", 0, False),
}
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
        headline=_headline(as_list(statistics.get("tables"))),
        described=[text for text in plain(about.get("description") or "").split("\n\n") if text.strip()],
        sentences=as_list(statistics.get("said")),
        notes=results.notes,
        facts=_facts(results),
        tables=[_table(as_dict(table)) for table in as_list(statistics.get("tables"))],
        figures=drawn,
        broad=BROAD,
        **_encoders(results.table, results.tasks),
        base=_base(about),
    )


def _headline(tables: list[Any]) -> str:
    """How many of the study's comparisons are more than chance, by the tables with verdicts and corrected p-values."""
    parts = []
    if verdicts := _column(tables, "verdict"):
        worse = f" and worsened {n}" if (n := verdicts.count("worse")) else ""
        parts.append(f"Training improved {verdicts.count('better')} of {len(verdicts)} scores beyond chance{worse}")
    if p_values := _column(tables, "p (Holm)"):
        clear = int((pd.to_numeric(pd.Series(p_values), errors="coerce") < 0.05).sum())
        parts.append(f"{clear} of {len(p_values)} differences between families are more than chance")
    return "; ".join(parts)


def _column(tables: list[Any], title: str) -> list[str]:
    """The cells under a title in the last table that has it: in a study of several architectures, that of all."""
    for table in map(as_dict, reversed(tables)):
        if title in (head := as_list(table.get("head"))):
            rows = map(as_list, as_list(table.get("rows")))
            return [plain(row[head.index(title)]) for row in rows if len(row) == len(head)]
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
