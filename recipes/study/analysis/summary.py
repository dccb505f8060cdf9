"""Statistics of a study: what training did, the best of each family, correlations with intervals, seeds, curves.

Every table is ``{"title", "note", "head", "rows"}`` with cells as text; ``said`` are plain sentences, made from the
numbers. Encoders of ``reference`` rows, and those that diverged, are left out.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from eval import Table, as_text
from recipes.study.analysis.best import best_of_each_family
from recipes.study.analysis.correlations import correlations
from recipes.study.analysis.curves import on_the_circle, over_seeds, over_temperatures, over_weights
from recipes.study.analysis.equal_data import at_equal_data
from recipes.study.analysis.families import of_families
from recipes.study.analysis.sentences_seen import over_sentences
from recipes.study.analysis.twins import against_twins

PARTS = (
    best_of_each_family,
    at_equal_data,
    correlations,
    over_seeds,
    over_weights,
    over_temperatures,
    over_sentences,
    on_the_circle,
)
SHOWN = 8  # encoders that did not end well and are listed one by one


def statistics(table: pd.DataFrame, tasks: list[str], out: Path) -> dict[str, Any]:
    """All tables and sentences that the study's rows allow.

    Args:
        table: of :func:`recipes.study.conclusion.collect`. tasks: names. out: the study's folder, for which rows of a
            task each encoder got right.
    """
    mine = table[(table["status"] == "ok") & ~table["reference"]]
    parts: list[tuple[list[Table], list[str]]] = [_progress(table)]
    differences: list[dict[str, Any]] = []
    if len(mine):
        tasks = [task for task in tasks if f"{task}_acc" in mine]
        family_tables, family_sentences, differences = of_families(table, tasks, out)
        parts.append((family_tables, family_sentences))
        parts.append(against_twins(table, tasks, out))
        for part in PARTS:
            parts.append(part(mine, tasks, out))
    tables = [t for part_tables, _ in parts for t in part_tables]
    return {
        "tables": [{"title": t.title, "note": " ".join(t.notes), "head": t.head, "rows": t.lines} for t in tables],
        "said": [sentence for _, sentences in parts for sentence in sentences],
        "differences": differences,
    }


def printed(summary: dict[str, Any]) -> str:
    """Statistics as text for a terminal."""
    tables = [Table(t["title"], t["head"], t["rows"], (t["note"],) if t["note"] else ()) for t in summary["tables"]]
    return "\n\n".join([as_text(tables), *summary["said"]])


def _progress(table: pd.DataFrame) -> tuple[list[Table], list[str]]:
    encoders = table[~table["reference"]]
    counts = encoders["status"].value_counts()
    sentences = [f"{len(encoders)} encoders: {', '.join(f'{n} {status}' for status, n in counts.items())}."]
    lost = encoders[encoders["status"] != "ok"]
    sentences += [f"{row['name']} {row['status']}: {row['reason']}." for _, row in lost.head(SHOWN).iterrows()]
    sentences += [f"{len(lost) - SHOWN} more did not end well; the table says why."] if len(lost) > SHOWN else []
    return [], sentences
