"""Rank correlations of accuracy with what was measured of the embeddings, over settings, with 95 % intervals."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from eval import Table
from recipes.study.analysis.groups import ONE, Values, groups
from recipes.study.analysis.mixture import cross_fitted
from recipes.study.analysis.rank_correlation import draws, kendall, spearman

LEAST = 8  # settings below which no correlation is computed
MRR = "the MRR of held-out positives"
NOTE = (
    "Of nested accuracy with losses of held-out pairs (negative where a lower one goes with higher accuracy) and with "
    "retrieval. One value a setting: the mean over its seeds. Intervals: 1,000 bootstrap resamples of the settings. "
    "The mixture is w times alignment and 1 - w times uniformity, each over its standard deviation. Its w, the best of "
    "21, is chosen on one half of the settings and correlated on the other, and the reverse, over 20 random splits. "
    "The row has the mean of these correlations. Its interval is from 200 resamples that repeat all of this, and "
    "excludes 0 only where a permutation test does (999 permutations, p < 0.05)."
)


def interval(measure: Callable[..., Values], x: Values, y: Values) -> tuple[float, float, float]:
    """A correlation of ``[n]`` and ``[n]`` with its 95 % bootstrap interval (percentile, 1,000 resamples, seeded)."""
    estimate = float(measure(x, y)[0])
    drawn = measure(x, y, draws(len(x)))
    if not math.isfinite(estimate) or not np.isfinite(drawn).any():
        return estimate, math.nan, math.nan
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return estimate, float(low), float(high)


def by_setting(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Means of ``columns`` over the encoders of each setting, which differ in their seed only."""
    return rows.groupby("setting", sort=False)[columns].mean()


def correlations(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Rank correlation of each task's accuracy with each measure, and with a cross-fitted mixture of two."""
    lines, sentences = [], []
    for (name, group), task in itertools.product(list(groups(mine)), tasks):
        rows = group.dropna(subset=[f"{task}_acc", "alignment", "uniformity"])
        has_mrr = "retrieval_mrr" in rows and rows["retrieval_mrr"].notna().all()
        columns = {"alignment": "alignment", "uniformity": "uniformity"} | ({MRR: "retrieval_mrr"} if has_mrr else {})
        means = by_setting(rows, [f"{task}_acc", *columns.values()])
        if len(means) < LEAST:
            continue
        accuracy, *measures = means.to_numpy(float).T
        measured = {
            what: (interval(spearman, accuracy, values), interval(kendall, accuracy, values))
            for what, values in zip(columns, measures, strict=True)
        }
        mixed = cross_fitted(accuracy, measures[0], measures[1])
        cells = {what: [_with_bounds(*rho), _with_bounds(*tau)] for what, (rho, tau) in measured.items()}
        low, middle, high = np.percentile(mixed.weights, [0, 50, 100])
        label = f"mixture, alignment's weight {middle:.2f} ({low:.2f} to {high:.2f})"
        cells[label] = [_with_bounds(mixed.estimate, mixed.low, mixed.high), ""]
        lines += [[task, name, str(len(means)), str(len(rows)), what, *values] for what, values in cells.items()]
        if name == "all" or name.startswith(ONE):
            bounds = {"the alignment loss": measured["alignment"][0], "the uniformity loss": measured["uniformity"][0]}
            bounds["a mixture of both, its weight chosen on other settings"] = mixed.estimate, mixed.low, mixed.high
            bounds |= {MRR: measured[MRR][0]} if has_mrr else {}
            counted = f"{len(means)} settings of {len(rows)} encoders ({name})"
            sentences += [_sentence(task, what, counted, *rho) for what, rho in bounds.items()]
    head = ["task", "encoders", "settings", "n", "with", "Spearman [95%]", "Kendall [95%]"]
    return ([Table("Rank correlation of accuracy and geometry", head, lines, (NOTE,))] if lines else []), sentences


def _sentence(task: str, what: str, counted: str, rho: float, low: float, high: float) -> str:
    doubt = "" if low > 0 or high < 0 else ", which may be chance"
    sign = "positive: the higher the MRR" if what == MRR else "negative: the lower the loss"
    return (
        f"{task} accuracy and {what}, {counted}: Spearman {_with_bounds(rho, low, high)}{doubt} "
        f"({sign}, the higher the accuracy)."
    )


def _with_bounds(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
