"""Figures in the plane of alignment and uniformity: a study's encoders as points, their trainings as paths."""

import re
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recipes.study.results import compared, usable
from sentemb.report import BLUE, GREEN, GREY, ORANGE, VERMILLION, labelled_axes, legend_below
from sentemb.runs import Series, show

MARKERS = "osD^vPX*<>hd"
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, "#CC79A7", "#56B4E9", "#000000", GREY)  # Okabe & Ito 2008
ACROSS, UP = "← better · uniformity loss (nats)", "← better · alignment loss (distance²)"
# viridis without its palest end, which is lost on white
VIRIDIS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.94, 256)))


def label(text: object, longest: int = 34) -> str:
    """Any text as it can stand in a figure: in one line, both ends if too long, no mathematics, no label that hides."""
    line = "".join(c for c in " ".join(str(text).split()) if c.isprintable()) or "unnamed"
    half = longest // 2  # (names often differ at their end)
    line = line if len(line) <= longest else f"{line[: longest - half - 1]}…{line[-half:]}"
    return f"{' ' if line.startswith('_') else ''}{line}".replace("$", r"\$")


def are_distinct(families: Sized) -> bool:
    """Whether there are few enough families for markers of their own and a legend of them."""
    return len(families) <= len(MARKERS)


def family_marks(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Each family's colour and marker, the same in all figures of a study; of too many families all have one marker."""
    families = dict.fromkeys(table["family"])
    markers = MARKERS if are_distinct(families) else MARKERS[:1]
    return {name: (COLOURS[i % len(COLOURS)], markers[i % len(markers)]) for i, name in enumerate(families)}


def colour_range(accuracy: Series) -> tuple[float, float]:
    """Ends of the colour scale: with ten encoders or more the 5th and 95th percentile, so that a few collapsed
    ones do not take all the colours."""
    finite = accuracy[np.isfinite(accuracy)]
    low, high = np.quantile(finite, (0.05, 0.95)) if len(finite) >= 10 else (finite.min(), finite.max())
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def plane_figure(table: pd.DataFrame, task: str | None) -> Figure | None:
    """Uniformity across, alignment up, a point an encoder, coloured by accuracy: Wang & Isola 2020, figure 9(b).

    Args:
        table: rows of a study. task: whose accuracy; None draws the points in one colour.

    Returns:
        The figure, where a point has ``point-INDEX`` as id; None without a point (or without an accuracy).
    """
    marks = family_marks(table)
    rows = usable(table).dropna(subset=["alignment", "uniformity"])
    accuracy = rows[f"{task}_acc"] if task else pd.Series(np.nan, rows.index)
    if rows.empty or (task and accuracy.isna().all()):
        return None
    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    axes = labelled_axes(figure.subplots(), ACROSS, UP)
    scale = None
    if task:
        scale = ScalarMappable(Normalize(*colour_range(accuracy.to_numpy()), clip=True), VIRIDIS)
        below, above = (accuracy < scale.norm.vmin).any(), (accuracy > scale.norm.vmax).any()
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(below), int(above)]
        figure.colorbar(scale, ax=axes, label=f"{label(task)} accuracy (%)", pad=0.02, extend=extend)
    for index in accuracy.sort_values(kind="stable", na_position="first").index:  # the best on top
        row, has_accuracy = rows.loc[index], np.isfinite(accuracy[index])
        colour = scale.to_rgba(accuracy[index]) if scale and has_accuracy else "white" if scale else BLUE
        look: dict[str, Any] = {
            "mfc": colour,
            "mec": "white" if has_accuracy or not scale else GREY,
            "alpha": 0.9,
            "mew": 0.6,
        }
        axes.plot(row.uniformity, row.alignment, marks[row.family][1], ms=8, gid=f"point-{index}", **look)
    chosen_by = compared(rows)[f"{task}_cv"] if task else pd.Series(dtype=float)
    if chosen_by.notna().any():
        best = rows.loc[chosen_by.idxmax()]
        ring: dict[str, Any] = {"ms": 15, "mfc": "none", "mec": VERMILLION, "mew": 1.6, "linestyle": "none"}
        axes.plot(best.uniformity, best.alignment, "o", label="best by cross-validation", **ring)
    common = rows["dimension"].mode()
    same_dimension = rows[rows["dimension"].isin(common[:1])]
    if 2 * len(same_dimension) > len(rows) and same_dimension["uniformity_optimum"].notna().any():  # of most encoders
        where = f"lowest uniformity (d = {common[0]:.0f})"
        axes.axvline(same_dimension["uniformity_optimum"].median(), linestyle="--", color=VERMILLION, label=where)
    for family, family_rows in rows.groupby("family", sort=False) if are_distinct(marks) else ():
        grey: dict[str, Any] = {"color": GREY, "linestyle": "none", "ms": 7}
        axes.add_line(
            Line2D([], [], marker=marks[family][1], label=f"{label(family, 24)} ({len(family_rows)})", **grey)
        )
    axes.margins(0.07)
    legend_below(figure)
    return figure


def with_tooltips(svg: str, name: str, table: pd.DataFrame, task: str | None) -> str:
    """Give each point of an inlined :func:`plane_figure` a tooltip and a link to its row ``#encoder-INDEX``."""

    def opened(match: re.Match[str]) -> str:
        row = table.loc[int(match[1])]
        tooltip_lines = [row["name"], f"family {row['family']}", row["objective"]]
        tooltip_lines += [f"{task}: {show(row[f'{task}_acc'], 1)}%"] if task else []
        tooltip_lines += [f"alignment {show(row['alignment'], 3)}, uniformity {show(row['uniformity'], 3)}"]
        return f"<a href='#encoder-{match[1]}'><title>{escape(chr(10).join(tooltip_lines))}</title>{match[0]}"

    # matplotlib closes a marker's group, in which one group holds the marker, with two </g>.
    pattern = rf'<g id="{re.escape(name)}-point-(\d+)">.*?</g>\s*</g>'
    return re.sub(pattern, lambda match: f"{opened(match)}</a>", svg, flags=re.DOTALL)


def paths_figure(paths: Sequence[tuple[str, Series, Series]], marks: dict[str, tuple[str, str]]) -> Figure | None:
    """Trainings in the plane: each a line from a hollow point to a filled one.

    Args:
        paths: family, uniformity ``[k]`` and alignment ``[k]`` over a training; those with fewer than two are left out.
        marks: :func:`family_marks`.
    """
    drawn = []
    for family, x, y in paths:
        finite = np.isfinite(x) & np.isfinite(y)
        drawn += [(family, x[finite], y[finite])] if finite.sum() > 1 else []
    if not drawn:
        return None
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = labelled_axes(figure.subplots(), ACROSS, UP)
    for family, x, y in drawn:
        colour, marker = marks[family]
        axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.7)
        axes.plot(x[1:-1], y[1:-1], ".", color=colour, ms=3, alpha=0.7)
        axes.plot(x[0], y[0], marker, mfc="white", mec=colour, ms=7)
        axes.plot(x[-1], y[-1], marker, mfc=colour, mec="white", mew=0.6, ms=9)
    for family in dict.fromkeys(family for family, _, _ in drawn) if are_distinct(marks) else ():
        colour, marker = marks[family]
        axes.add_line(Line2D([], [], color=colour, marker=marker, label=label(family, 26)))
    for face, when in (("white", "start"), (GREY, "end")):
        axes.add_line(Line2D([], [], linestyle="none", marker="o", mfc=face, mec=GREY, label=when))
    axes.margins(0.07)
    legend_below(figure)
    return figure
