"""Curves over a setting that varies: weights of alignment and uniformity, temperature; and accuracy by family."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from recipes.study.figures.planes import COLOURS, MARKERS, are_distinct, family_marks, label
from recipes.study.results import compared, in_common, usable
from sentemb.report import labelled_axes, legend_below

LINES = ("-", "--", ":", "-.")
GOLDEN = 0.6180339887498949  # its multiples modulo 1 fill an interval evenly: jitter without chance


def weight_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Encoders of alignment and uniformity alone that have the most frequent encoder, batch, ... in common."""
    rows = compared(table)
    rows = rows[rows["contrastive"].isna() & rows["align"].notna() & rows["uniform"].notna()]
    rows = in_common(rows[rows["align"] + rows["uniform"] > 0])
    return rows.assign(share=rows["align"] / (rows["align"] + rows["uniform"]))


def weights_figure(table: pd.DataFrame, tasks: list[str]) -> Figure | None:
    """Accuracy, alignment and uniformity against align / (align + uniform), a line for each alpha and t.

    None unless some line has two weights.
    """
    rows = weight_rows(table)
    lines = [(key, group) for key, group in rows.groupby(["alpha", "t"], dropna=False) if group["share"].nunique() > 1]
    if not lines:
        return None
    panels = [(f"{t}_acc", f"{label(t, 12)}\naccuracy (%)") for t in tasks[:3] if rows[f"{t}_acc"].notna().any()]
    panels += [("alignment", "alignment\n(distance²)"), ("uniformity", "uniformity\n(nats)")]
    figure = Figure(figsize=(5.2, 1.0 + 1.55 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (column, title) in zip(grid, panels, strict=True):
        labelled_axes(axes, "weight of alignment / (alignment + uniformity)" if axes is grid[-1] else "", title)
        for i, ((alpha, t), group) in enumerate(lines):
            named = f"alpha {alpha:g}, t {t:g}"
            _line(axes, group, "share", column, (COLOURS[i % 8], MARKERS[i % 10]), named, LINES[i // 8 % 4])
    figure.align_ylabels(list(grid))
    legend_below(figure)
    return figure


def temperature_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Encoders without weights of alignment and uniformity, of each family those that have most in common."""
    rows = compared(table)
    rows = rows[rows["align"].isna() & rows["uniform"].isna()]
    return pd.concat(
        [rows.iloc[:0], *(in_common(family_rows) for _, family_rows in rows.groupby("family", sort=False))]
    )


def temperature_figure(table: pd.DataFrame, tasks: list[str]) -> Figure | None:
    """Uniformity, tolerance and accuracy over the temperature: Wang & Liu 2021, figures 4 and 5, table 1.

    A line is a family, its bars the range over seeds; a family without temperature, and of one setting, is a
    short line at the right. None unless some family has two temperatures.
    """
    rows, marks = temperature_rows(table), family_marks(table)
    hot = rows[rows["temperature"] > 0]
    families = [f for f, family_rows in hot.groupby("family", sort=False) if family_rows["temperature"].nunique() > 1]
    if not families:
        return None
    cold = rows[rows["temperature"].isna() & (rows["setting"] != "")]
    flat = [f for f, family_rows in cold.groupby("family", sort=False) if family_rows["setting"].nunique() == 1]
    shown = tasks[: len(LINES)]
    panels: list[tuple[str, list[str]]] = [("uniformity loss\n(nats)", ["uniformity"])]
    panels += [("tolerance\n(mean cosine in a class)", [f"{t}_tolerance" for t in shown])]
    panels += [("accuracy (%)", [f"{t}_acc" for t in shown])]
    panels = [(title, plotted) for title, cs in panels if (plotted := [c for c in cs if rows[c].notna().any()])]
    if not panels:
        return None
    figure = Figure(figsize=(5.2, 1.2 + 1.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, columns) in zip(grid, panels, strict=True):
        labelled_axes(axes, "temperature" if axes is grid[-1] else "", title)
        for i, column in enumerate(columns):
            task = column.rpartition("_")[0]
            task_suffix = f", {label(task, 12)}" if len(columns) > 1 else ""
            for family in families:
                family_rows = hot[hot["family"] == family]
                _line(
                    axes,
                    family_rows,
                    "temperature",
                    column,
                    marks[family],
                    f"{label(family, 24)}{task_suffix}",
                    LINES[i],
                )
            for family in flat:
                values = cold.loc[cold["family"] == family, column].dropna()
                _level(axes, values, marks[family], f"{label(family, 24)}{task_suffix}", LINES[i])
    _temperature_axis(grid[-1], hot[hot["family"].isin(families)]["temperature"], bool(flat))
    if len(panels) > 1:  # the first panel's labels have no task, so that the others' say all of it
        for artist in [*grid[0].lines, *grid[0].containers]:
            if len(panels[-1][1]) > 1:
                artist.set_label("_")
    figure.align_ylabels(list(grid))
    legend_below(figure)
    return figure


def families_figure(table: pd.DataFrame, tasks: list[str]) -> Figure | None:
    """Accuracy by family: a point an encoder, a bar at the median. None without an accuracy."""
    rows, marks = usable(table), family_marks(table)
    shown = [task for task in tasks if rows[f"{task}_acc"].notna().any()]
    families = [f for f in marks if rows.loc[rows["family"] == f, [f"{t}_acc" for t in shown]].notna().any(axis=None)]
    if not shown or not families:
        return None
    few = are_distinct(families)
    if few:
        figure = Figure(figsize=(5.2, 0.9 + len(shown) * (0.55 + 0.36 * len(families))), layout="constrained")
    else:  # side by side, as one list of many families is high enough
        figure = Figure(figsize=(3.4 + 2.5 * len(shown), 1.1 + 0.24 * len(families)), layout="constrained")
    grid = figure.subplots(*((len(shown), 1) if few else (1, len(shown))), sharey=not few, squeeze=False).flatten()
    for axes, task in zip(grid, shown, strict=True):
        labelled_axes(axes, f"{label(task, 20)} accuracy (%)", "")
        for i, family in enumerate(families):
            values = rows.loc[rows["family"] == family, f"{task}_acc"].dropna().to_numpy()
            if not len(values):
                continue
            colour, marker = marks[family]
            jitter = (np.arange(1, len(values) + 1) * GOLDEN % 1 - 0.5) * (0.5 if len(values) > 1 else 0)
            axes.plot(values, i + jitter, marker, color=colour, ms=5, alpha=0.7, mec="white", mew=0.4)
            if len(values) > 1:
                axes.plot([np.median(values)] * 2, [i - 0.38, i + 0.38], color="black", linewidth=2)
        axes.set_yticks(range(len(families)), [label(f, 24 if few else 48) for f in families])
        axes.set_ylim(len(families) - 0.5, -0.5)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, across: str, up: str, mark: tuple[str, str], named: str, line: str) -> None:
    """The mean at each value of ``across``, joined; bars from the least to the greatest where there are repeats."""
    aggregates = rows.dropna(subset=[across, up]).groupby(across)[up].agg(["mean", "min", "max"])
    if aggregates.empty:
        return
    ends = [aggregates["mean"] - aggregates["min"], aggregates["max"] - aggregates["mean"]]
    ends = [np.maximum(end.to_numpy(), 0) for end in ends]
    look: dict[str, Any] = {
        "color": mark[0],
        "marker": mark[1],
        "ms": 5,
        "linewidth": 1.4,
        "capsize": 2.5,
        "elinewidth": 1,
    }
    axes.errorbar(aggregates.index, aggregates["mean"], yerr=ends, linestyle=line, label=named, **look)


def _level(axes: Axes, values: pd.Series, mark: tuple[str, str], named: str, line: str) -> None:
    """A value that does not depend on what is across: a line at the right edge, with the range over repeats."""
    if values.empty:
        return
    across, (colour, marker) = axes.get_yaxis_transform(), mark
    axes.plot([0.9, 1], [values.mean()] * 2, line, color=colour, linewidth=1.6, transform=across)
    look: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "ms": 5,
        "capsize": 2.5,
        "linestyle": line,
        "transform": across,
    }
    ends = [[values.mean() - values.min()], [values.max() - values.mean()]]
    axes.errorbar([0.95], [values.mean()], yerr=np.maximum(ends, 0), label=named, **look)


def _temperature_axis(axes: Axes, temperatures: pd.Series, room: bool) -> None:
    """Logarithmic, with the temperatures there are as ticks, and room at the right for levels."""
    low, high = temperatures.min(), temperatures.max()
    axes.set_xscale("log")
    wide = np.log(high / low)
    axes.set_xlim(low * np.exp(-0.05 * wide), high * np.exp((0.2 if room else 0.05) * wide))
    ticks: list[float] = []
    for value in sorted(temperatures.unique()):  # not so near each other that they would touch
        if not ticks or np.log(value / ticks[-1]) > 0.11 * wide:
            ticks.append(value)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
