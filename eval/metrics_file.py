"""The table of scores that an evaluator adds a line to at each call."""

import csv
from collections.abc import Mapping
from pathlib import Path


def append_metrics(path: Path, row: Mapping[str, object]) -> None:
    """Add a line to a CSV file, which gets a head where it is new; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([[*row]] * is_new + [[*row.values()]])
