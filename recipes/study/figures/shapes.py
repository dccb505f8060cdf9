"""Small multiples of a few encoders: how alike sentences are, and how many directions embeddings use."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from recipes.study.figures.planes import COLOURS
from sentemb.report import BLUE, ORANGE, VERMILLION, labelled_axes, legend_below
from sentemb.runs import Series, show

Arrays = Mapping[str, Series]
SHARES = (("negatives", ORANGE, "--"), ("hardest_negatives", VERMILLION, ":"), ("positives", BLUE, "-"))
FLOOR = 1e-5  # of the greatest share: below it there is nothing but float32's rounding
NAMES = {"negatives": "random pairs", "hardest_negatives": "hardest negative of each", "positives": "positives"}


def similarities_figure(shown: Sequence[tuple[str, Arrays]]) -> Figure | None:
    """Cosines of positives, of each sentence's hardest negative and of random pairs, a panel an encoder.

    Args:
        shown: titles with ``edges [b + 1]`` and, as shares of pairs ``[b]``, ``positives``, ``hardest_negatives`` and
            ``negatives``. Encoders without them are left out.
    """
    panels = [(title, arrays) for title, arrays in shown if _has_histograms(arrays)]
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.1 * columns, 0.8 + 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    least, most = 1.0, -1.0
    width = float(np.median(np.diff(panels[0][1]["edges"])))
    for i, (axes, (title, arrays)) in enumerate(zip(grid, panels, strict=False)):
        last = i + columns >= len(panels)
        up = f"% of pairs per {width:.3g}" if i % columns == 0 else ""
        labelled_axes(axes, "cosine similarity" if last else "", up)
        axes.tick_params(labelbottom=last)
        axes.set_title(title, loc="left", fontsize=9.5)
        edges = arrays["edges"]
        for key, colour, line in SHARES:
            if key not in arrays or len(arrays[key]) != len(edges) - 1:
                continue
            percent = 100 * width * arrays[key] / np.diff(edges)
            axes.stairs(percent, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(percent, edges, color=colour, linestyle=line, linewidth=1.7, label=NAMES[key])
            if (filled := np.flatnonzero(arrays[key] > 0.0005)).size:
                least, most = min(least, edges[filled[0]]), max(most, edges[filled[-1] + 1])
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    if most > least:
        grid[0].set_xlim(least, most)
    legend_below(figure)
    return figure


def _has_histograms(arrays: Arrays) -> bool:
    edges, positives = arrays.get("edges"), arrays.get("positives")
    return (
        edges is not None
        and positives is not None
        and positives.ndim == 1
        and len(edges) == len(positives) + 1 > 1
        and bool(np.all(np.diff(edges) > 0) and np.isfinite(positives).all())
    )


def effective_rank_of(values: Series) -> float:
    """exp of the entropy of the singular values' shares, as in ``sentemb.geometry.effective_rank``."""
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def spectrum_figure(shown: Sequence[tuple[str, Arrays]]) -> Figure | None:
    """Singular values as shares of their sum, against their index; the index over the dimension where these differ.

    Args:
        shown: titles with ``singular_values``, descending. Encoders without them, or of one dimension, are left out.
    """
    lines = []
    for title, arrays in shown:
        values = np.asarray(arrays.get("singular_values", []), dtype=np.float64)
        if values.ndim == 1 and len(values) > 1 and np.isfinite(values).all() and values.sum() > 0:
            lines.append((title, values))
    if not lines:
        return None
    relative = len({len(values) for _, values in lines}) > 1
    figure = Figure(figsize=(5.2, 3.6 + 0.22 * len(lines)), layout="constrained")
    across = "index / dimension" if relative else "index of the singular value"
    axes = labelled_axes(figure.subplots(), across, "share of the sum of singular values")
    shares = np.concatenate([values / values.sum() for _, values in lines])
    if shares.max() > 10 * shares.min():
        axes.set_yscale("log")
        if shares.max() < 100 * shares.min():
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(max(shares.min() * 0.8, shares.max() * FLOOR), shares.max() * 1.6)
    else:
        axes.set_ylim(0, 1.1 * shares.max())
    for i, (title, values) in enumerate(lines):
        share = np.where(values > 0, values, np.nan) / values.sum()
        at = np.arange(1, len(share) + 1) / (len(values) if relative else 1)
        named = f"{show(effective_rank_of(values), 1)} of {len(values)}: {title}"
        look: dict[str, Any] = {"marker": ".", "ms": 5} if len(values) <= 20 else {}
        axes.plot(
            at, share, color=COLOURS[i % 8], linestyle=("-", "--", "-.")[i % 3], linewidth=1.6, label=named, **look
        )
    handles, labels = axes.get_legend_handles_labels()
    look = {"title": "effective rank: encoder", "fontsize": 9, "title_fontsize": 9}
    figure.legend(handles, labels, loc="outside lower center", ncols=1, frameon=False, **look)
    return figure
