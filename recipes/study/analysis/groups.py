"""Which encoders of a study are compared with each other."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from recipes.study.results import kinds_of

Values = np.ndarray

ARCHITECTURE = ["encoder", "towers", "batch_size", "lr", "steps"]
ONE = "one architecture"


def commonest(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the commonest architecture, batch, learning rate and length."""
    columns = [column for column in ARCHITECTURE if column in rows]
    return max((group for _, group in rows.groupby(columns, dropna=False, sort=False)), key=len)


def architectures(mine: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All encoders; then, of each kind of encoder, those of its commonest architecture, if others are there."""
    yield "all", mine
    kinds = [(str(kind), rows) for kind, rows in mine.groupby(kinds_of(mine), sort=False)]
    for kind, rows in kinds:
        alike = commonest(rows)
        if len(alike) < len(mine) and (len(alike) > 1 or len(kinds) == 1):
            yield (f"{ONE}, {kind}" if len(kinds) > 1 else ONE), alike


def groups(mine: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """As :func:`architectures`, and each family of those of one architecture."""
    yielded = list(architectures(mine))
    yield from yielded
    for name, group in yielded[1:] or yielded:
        if group["family"].nunique() > 1:
            for family, family_rows in group.groupby("family", sort=False):
                yield f"{family} ({name})", family_rows
