"""Which encoders of a study are compared with each other."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

Values = np.ndarray

ARCHITECTURE = ["encoder", "towers", "batch_size", "lr", "steps"]


def architectures(mine: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All encoders; then those of the commonest architecture, batch, learning rate and length, if there are others."""
    yield "all", mine
    alike = [group for _, group in mine.groupby([c for c in ARCHITECTURE if c in mine], dropna=False, sort=False)]
    if len(alike) > 1:
        yield "one architecture", max(alike, key=len)


def groups(mine: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """As :func:`architectures`, and each family of the last."""
    name, group = "", mine
    for name, group in architectures(mine):
        yield name, group
    if group["family"].nunique() > 1:
        for family, family_rows in group.groupby("family", sort=False):
            yield f"{family}, {name}", family_rows
