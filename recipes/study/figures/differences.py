"""Differences of families with their intervals, and growth with the sentences seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from recipes.study.figures.planes import family_marks, label
from recipes.study.results import compared
from sentemb.report import GREEN, GREY, VERMILLION, labelled_axes, legend_below
from sentemb.runs import Record, as_dict, number, plain

LONGEST, SIZES = 64, 4  # letters of a label; numbers of sentences that make a curve


def differences_figure(differences: Sequence[Any], group: str) -> Figure | None:
    """A point and its interval for each difference of a group, a panel for each measure; None without two labels.

    Args:
        differences: records of ``group``, ``label``, ``measure``, ``estimate``, ``low`` and ``high``.
        group: whose to draw.
    """
    records = [r for r in map(as_dict, differences) if r.get("group") == group and np.isfinite(number(r.get("high")))]
    labels = list(dict.fromkeys(plain(r.get("label")) for r in records))
    measures = list(dict.fromkeys(plain(r.get("measure")) for r in records))
    if len(labels) < 2:
        return None
    height = 1.1 + 0.24 * len(labels)
    figure = Figure(figsize=(3.4 + 1.75 * len(measures), height), layout="constrained")
    grid = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(grid, measures, strict=True):
        unit = "" if "MRR" in measure else "\n(points)"
        labelled_axes(axes, f"{label(measure, 20)}{unit}", "")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.axvline(0, color=GREY, linewidth=1)
        for record in records:
            if plain(record.get("measure")) == measure:
                _interval(axes, labels.index(plain(record.get("label"))), record)
        axes.set_yticks(range(len(labels)), [label(text, LONGEST) for text in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
    return figure


def _interval(axes: Any, height: int, record: Record) -> None:
    """Green above 0, red below, grey where 0 lies inside."""
    value, low, high = (number(record.get(key)) for key in ("estimate", "low", "high"))
    colour = GREEN if low > 0 else VERMILLION if high < 0 else GREY
    axes.plot([low, high], [height, height], color=colour, linewidth=1.6)
    axes.plot([value], [height], "o", color=colour, ms=4.5)


def sentences_figure(table: pd.DataFrame, tasks: list[str]) -> Figure | None:
    """Accuracy and retrieval over the number of sentences seen, a line a family; None without four numbers of one."""
    rows = compared(table)
    counts = rows.groupby("family")["sequences_seen"].nunique()
    families = [name for name in family_marks(table) if counts.get(name, 0) >= SIZES]
    rows = rows[rows["family"].isin(families)]
    rows = rows[rows.groupby("family")["objective"].transform("nunique") == 1]
    columns = [*(f"{task}_acc" for task in tasks), "retrieval_mrr", "STS-B_spearman"]
    panels = [column for column in columns if rows[column].notna().any()]
    if rows.empty or not panels:
        return None
    titles = {"retrieval_mrr": "held-out MRR", "STS-B_spearman": "STS-B"}
    figure = Figure(figsize=(5.2, 1.0 + 1.7 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, column in zip(grid, panels, strict=True):
        title = titles.get(column, f"{label(column.removesuffix('_acc'), 12)}\naccuracy (%)")
        labelled_axes(axes, "sentences seen" if axes is grid[-1] else "", title)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(rows["sequences_seen"].unique())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k"))
        for family, part in rows.groupby("family", sort=False):
            colour, marker = family_marks(table)[str(family)]
            grouped = part.groupby("sequences_seen")[column].agg(["mean", "min", "max"])
            ends = np.maximum([grouped["mean"] - grouped["min"], grouped["max"] - grouped["mean"]], 0)
            look: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "capsize": 2.5, "linewidth": 1.4}
            axes.errorbar(grouped.index, grouped["mean"], yerr=ends, label=label(family, 24), **look)
    legend_below(figure)
    return figure
