"""The results of a study: the table of its encoders, then statistics, figures and page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes.study.analysis import printed, statistics
from recipes.study.columns import with_varied
from recipes.study.page import write_study_page
from recipes.study.plan import ENCODERS, PLANNED, STUDY, read_row
from sentemb.errors import InputError
from sentemb.storage import replacing, write_text

ROWS = "results"


def collect(out: Path) -> pd.DataFrame:
    """One row for each encoder that is done, in the study's order; numbers are NaN where there is none."""
    rows, differing = [], []
    for name in json.loads((out / STUDY).read_text(encoding="utf-8"))["encoders"]:
        if row := read_row(out / ENCODERS / name):
            about = json.loads((out / PLANNED / f"{name}.json").read_text(encoding="utf-8"))
            rows.append(about["described"] | row | _sequences(about["described"], row))
            differing.append(about.get("varied", {}))
    if not rows:
        raise InputError(f"no encoder of {out} is done yet; run the study first")
    table = pd.DataFrame(with_varied(rows, differing))
    for column in table.columns:
        if table[column].map(lambda value: isinstance(value, bool)).all():
            table[column] = table[column].astype(bool)
        elif table[column].map(lambda value: value is None or isinstance(value, int | float)).all():
            table[column] = table[column].astype(np.float64)
    return table


def _sequences(described: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """How many sentences an encoder was trained on: two a pair; of runs, where ``pairs_seen`` counts sentences, one.

    A sentence of a run is counted once, also where each of two towers reads it.
    """
    if "pairs_seen" not in row:
        return {}
    is_run = str(described.get("pairs")).partition(":")[0].strip() == "contiguous"
    return {"sequences_seen": row["pairs_seen"] * (1 if is_run else 2)}


def write_table(out: Path) -> pd.DataFrame:
    """OUT/results.parquet and OUT/results.csv of what is done."""
    table = collect(out)
    for ending, write in ((".parquet", table.to_parquet), (".csv", table.to_csv)):
        with replacing(out / f"{ROWS}{ending}") as partial:
            write(partial, index=False)
    return table


def conclude(out: Path) -> str:
    """Table, statistics, figures and page of what is done; returns what to print."""
    table = write_table(out)
    about: dict[str, Any] = json.loads((out / STUDY).read_text(encoding="utf-8"))
    summary = statistics(table, about["tasks"], out)
    write_text(out / "statistics.json", json.dumps(summary, indent=1) + "\n")
    page = write_study_page(out)
    return f"{printed(summary)}\n\ntable: {out / 'results.csv'}   page: {page}"
