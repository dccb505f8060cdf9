"""Architectures against each other at the same objective, batches and number of sequences."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from eval import Table
from recipes.study.analysis.correlations import LEAST
from recipes.study.analysis.groups import Values
from recipes.study.analysis.rank_correlation import draws

SAME = ["objective", "towers", "head", "pairs", "batch_size", "steps", "seed"]  # what both are trained with
NOTE = (
    "Encoders that were trained with the same objective, batches and number of sequences, each pair's difference, its "
    "mean over seeds first. Intervals: 1,000 bootstrap resamples of the objectives."
)


def at_equal_data(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Mean differences of every two architectures that share at least LEAST objectives."""
    if not {*SAME, "encoder"} <= set(mine):
        return [], []
    measures = [f"{task}_acc" for task in tasks] + [c for c in ("retrieval_mrr",) if c in mine]
    lines, sentences = [], []
    done = mine.dropna(subset=measures)
    rows = done.assign(**{column: done[column].map(repr) for column in SAME})  # (None is a value, too)
    keyed = rows.drop_duplicates([*SAME, "encoder"]).set_index([*SAME, "encoder"])[measures]
    by_encoder = {str(name): part.droplevel("encoder") for name, part in keyed.groupby("encoder", sort=False)}
    for (a, first), (b, second) in combinations(by_encoder.items(), 2):
        shared = first.index.intersection(second.index)
        level = [key for key in SAME if key != "seed"]
        of_a, of_b = (part.loc[shared].groupby(level=level).mean() for part in (first, second))
        difference = of_b - of_a
        if len(difference) < LEAST:
            continue
        texts = []
        for column in measures:
            digits, what = (4, "held-out MRR") if column == "retrieval_mrr" else (2, column.removesuffix("_acc"))
            low, high = _interval(difference[column].to_numpy(float))
            value = f"{difference[column].mean():+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
            means = [f"{part[column].mean():.{digits}f}" for part in (of_a, of_b)]
            lines.append([a, b, what, str(len(difference)), *means, value])
            texts.append(f"{what} {value}")
        sentences.append(
            f"{b} less {a}, at equal data and over {len(difference)} objectives in common: {', '.join(texts)}."
        )
    head = ["a", "b", "measure", "objectives", "mean of a", "mean of b", "b - a [95%]"]
    return ([Table("Architectures at equal data", head, lines, (NOTE,))] if lines else []), sentences


def _interval(values: Values) -> tuple[float, float]:
    times = draws(len(values))
    low, high = np.percentile(times @ values / times.sum(axis=1), [2.5, 97.5])
    return float(low), float(high)
