"""The figures of a run: loss, the alignment-uniformity path, similarities, retrieval. matplotlib, no pyplot."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from sentemb.report.drawing import BLUE, GREEN, GREY, ORANGE, VERMILLION, labelled_axes, legend_below
from sentemb.report.score_columns import TEACHER_SIMILARITY
from sentemb.runs import (
    FORMER_INITIAL,
    TEACHER,
    TRAINED,
    Record,
    Run,
    Series,
    as_dict,
    as_list,
    number,
    renamed_histograms,
)

HELDOUT_MRR, STSB_DEV = "retrieval_mrr", "stsb_dev_spearman"  # columns of the log that may choose best/
SEARCH_DEV = "search_ndcg_at_10"  # one more

# The least that an axis spans, so that chance does not look like progress: about three times the width of a score's
# 95 % interval. That of retrieval of 1,000 pairs is 0.05, and that of STS-B dev (1,500 pairs) 3 points at 80.
LEAST_RETRIEVAL, LEAST_SPEARMAN = 0.15, 10.0
LEAST_UNIFORMITY, LEAST_ALIGNMENT = 0.5, 0.2  # of 4 nats and of 4
LEAST_LOSS = 0.1  # nats, and at least this share of the loss


def span_at_least(axes: Axes, y: float, x: float = 0.0) -> None:
    """Widen the axes about their middles until they span ``y`` and ``x``."""
    for (low, high), span, set_limits in ((axes.get_ylim(), y, axes.set_ylim), (axes.get_xlim(), x, axes.set_xlim)):
        if high - low < span:
            set_limits((low + high - span) / 2, (low + high + span) / 2)


def loss_figure(run: Run) -> Figure | None:
    """Loss with log(candidates), below the information bound and the learning rate; None without two records."""
    step, loss, bound = run.series("step"), run.series("loss"), run.series("mutual_information")
    reference, rate = run.series("loss_reference"), run.series("lr")
    if np.isfinite(loss).sum() < 2:
        return None
    below = [name for name, y in (("information", bound), ("rate", rate)) if np.isfinite(y).sum() > 1]
    figure = Figure(figsize=(5.2, 3.8 + 1.6 * len(below)), layout="constrained")
    upper, *lower = figure.subplots(
        1 + len(below), 1, sharex=True, squeeze=False, height_ratios=[2, *(1 for _ in below)]
    )[:, 0]
    nats = " (nats)" if np.isfinite(reference).any() else ""
    labelled_axes(upper, "" if lower else "training step", f"loss{nats}")
    _smoothed(upper, step, loss, BLUE, "loss")
    upper.plot(step, reference, "--", color=GREY, label="log(candidates): guessing")
    span_at_least(upper, max(LEAST_LOSS, LEAST_LOSS * float(np.nanmedian(np.abs(loss[np.isfinite(loss)])))))
    for axes, name in zip(lower, below, strict=True):
        x_label = "training step" if axes is lower[-1] else ""
        if name == "information":
            labelled_axes(axes, x_label, "mutual information\nat least (nats)")
            _smoothed(axes, step, bound, GREEN, "information")
            axes.plot(step, reference, "--", color=GREY)
            span_at_least(axes, LEAST_LOSS)
        else:
            labelled_axes(axes, x_label, "learning rate")
            axes.plot(step, rate, color=ORANGE, label="learning rate")
            axes.set_ylim(bottom=0)
    legend_below(figure)
    return figure


def _smoothed(axes: Axes, x: Series, y: Series, color: str, label: str) -> None:
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    width = len(y) // 20
    if width < 2:
        axes.plot(x, y, marker=".", color=color, label=label)
        return
    axes.plot(x, y, color=color, alpha=0.3, linewidth=0.8)
    mean = np.convolve(y, np.ones(width) / width, "valid")
    axes.plot(x[width // 2 :][: len(mean)], mean, color=color, linewidth=1.8, label=f"{label} (mean of {width})")


def stsb_figure(run: Run) -> Figure | None:
    """The plane of :func:`path_figure` on STS-B dev, as SimCSE's figure 2 has it; None without two scores."""
    return path_figure(run, "stsb_")


def path_figure(run: Run, prefix: str | None = None) -> Figure | None:
    """The paper's plane: uniformity loss across, alignment loss up, so that better is left and down.

    ``prefix`` names the columns of the log; None takes those of held-out pairs, else of training batches.
    """
    if prefix is None:
        prefix = "heldout_" if np.isfinite(run.series("heldout_alignment")).sum() > 1 else ""
    step, x, y = run.series("step"), run.series(f"{prefix}uniformity"), run.series(f"{prefix}alignment")
    is_finite = np.isfinite(x) & np.isfinite(y)
    step, x, y = step[is_finite], x[is_finite], y[is_finite]
    if len(x) < 2:
        return None
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    better = ("← better · uniformity loss (nats)", "← better · alignment loss (distance²)")
    axes = labelled_axes(figure.subplots(), *better)
    axes.plot(x, y, color="#b5b5b5", linewidth=1.0, zorder=1)
    colors = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 16)))  # its pale end is lost on white
    label = {"": "training batches", "stsb_": "STS-B dev"}.get(prefix, "held-out pairs")
    points = axes.scatter(x, y, c=step, cmap=colors, s=28, zorder=2, label=label)
    figure.colorbar(points, ax=axes, label="training step", pad=0.02)
    for i, marker, end in ((0, "o", "start"), (-1, "s", "end")):
        label = f"{end}, step {step[i]:,.0f}"
        axes.plot(x[i], y[i], marker, markersize=11, mfc="none", mec="black", markeredgewidth=1.4, label=label)
    optimum, dimension = run.last("uniformity_optimum"), number(as_dict(run.config.get("encoder")).get("dimension"))
    if math.isfinite(optimum):
        where = f" in {dimension:.0f} dimensions" if math.isfinite(dimension) else ""
        axes.axvline(optimum, linestyle="--", color=VERMILLION, label=f"lowest uniformity{where}")
    span_at_least(axes, LEAST_ALIGNMENT, LEAST_UNIFORMITY)
    legend_below(figure)
    return figure


def histogram_figure(run: Run) -> Figure | None:
    """Cosines of positive and random pairs, before above after; None without histograms."""
    histograms = as_dict(run.scores.get("histograms"))
    names = [run.initial() or FORMER_INITIAL, TRAINED]
    panels = [(name, h) for name in names if (h := _shares(as_dict(histograms.get(name))))]
    if not panels:
        return None
    figure = Figure(figsize=(5.2, 1.5 + 1.7 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, (edges, positives, negatives)) in zip(grid, panels, strict=True):
        labelled_axes(axes, "cosine similarity" if axes is grid[-1] else "", "% of pairs per 0.05")
        title = "after: trained" if name == TRAINED else f"before: {name}"
        axes.set_title(title, loc="left", parse_math=False, fontsize=10, fontweight="bold")
        axes.stairs(negatives, edges, fill=True, color=ORANGE, alpha=0.45)
        axes.stairs(negatives, edges, color="#9a6a00", linestyle="--", label="random pairs")
        axes.stairs(positives, edges, fill=True, color=BLUE, alpha=0.3)
        axes.stairs(positives, edges, color=BLUE, linewidth=1.6, label="positive pairs")
    filled = [e for _, (edges, p, s) in panels for e in (edges[:-1][p + s > 0].min(), edges[1:][p + s > 0].max())]
    grid[0].set_xlim(min(filled), max(filled))
    legend_below(figure)
    return figure


def _shares(histogram: Record) -> tuple[Series, Series, Series] | None:
    """Edges ``[b + 1]`` and, per bin ``[b]``, the per cent of pairs in each 0.05 of cosine; None where unusable."""
    edges, positives, negatives = (
        np.array([number(v) for v in as_list(renamed_histograms(histogram).get(key))])
        for key in ("edges", "positives", "negatives")
    )
    if not len(positives) == len(negatives) == len(edges) - 1 or not np.all(np.diff(edges) > 0):
        return None
    if not all(np.all(counts >= 0) and counts.sum() > 0 for counts in (positives, negatives)):
        return None
    scale = 100 * 0.05 / np.diff(edges)
    return edges, positives / positives.sum() * scale, negatives / negatives.sum() * scale


def retrieval_figure(run: Run) -> Figure | None:
    """MRR and recall at 1 over training, with the MRR of best/ where it chooses; None with fewer than two scores."""
    step, mrr, first = (run.series(key) for key in ("step", HELDOUT_MRR, "retrieval_recall_at_1"))
    if max(np.isfinite(mrr).sum(), np.isfinite(first).sum()) < 2:
        return None
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = labelled_axes(figure.subplots(), "training step", "held-out score (0 to 1)")
    for y, color, line, label in ((mrr, BLUE, "o-", "MRR"), (first, VERMILLION, "s--", "recall at 1")):
        if np.isfinite(y).any():
            axes.plot(step[np.isfinite(y)], y[np.isfinite(y)], line, markersize=4, color=color, label=label)
    if dev_column(run) == HELDOUT_MRR and np.isfinite(mrr).any():
        mark_highest(axes, step, mrr, 3)
    axes.set_ylim(0, max(axes.get_ylim()[1], LEAST_RETRIEVAL))
    legend_below(figure)
    return figure


def dev_column(run: Run) -> str:
    """The column of the log by which best/ is chosen; where config.json does not say, STS-B dev if it was logged."""
    dev = run.setting("dev")
    if dev == TEACHER:
        return TEACHER_SIMILARITY
    if dev == "search":
        return SEARCH_DEV
    if dev.startswith("<"):  # a function of a Python program
        return dev.strip("<>")
    is_logged = bool(np.isfinite(run.series(STSB_DEV)).any())
    return HELDOUT_MRR if dev == "heldout" or not is_logged else STSB_DEV


def dev_name(run: Run) -> str:
    """What the dev score is called."""
    column = dev_column(run)
    names = {
        STSB_DEV: "STS-B dev, Spearman x 100",
        HELDOUT_MRR: "MRR of held-out pairs",
        SEARCH_DEV: "search, nDCG@10",
        TEACHER_SIMILARITY: "similarity to the teacher",
    }
    return names.get(column, column)


def dev_figure(run: Run) -> Figure | None:
    """The dev score over training, with the highest one marked; None with fewer than two scores."""
    step, score = run.series("step"), run.series(dev_column(run))
    if np.isfinite(score).sum() < 2:
        return None
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    name = dev_name(run).replace("$", r"\$")
    axes = labelled_axes(figure.subplots(), "training step", name)
    axes.plot(step[np.isfinite(score)], score[np.isfinite(score)], "o-", markersize=4, color=BLUE, label="dev score")
    mark_highest(axes, step, score, 1 if dev_column(run) == STSB_DEV else 3)
    if dev_column(run) == STSB_DEV:
        span_at_least(axes, LEAST_SPEARMAN)
    legend_below(figure)
    return figure


def mark_highest(axes: Axes, step: Series, score: Series, digits: int) -> None:
    """A ring about the highest score, the first one of equal ones: the state in best/."""
    best = int(np.nanargmax(score))
    label = f"highest, {score[best]:.{digits}f} at step {step[best]:,.0f}: best/"
    axes.plot(step[best], score[best], "o", markersize=11, mfc="none", mec="black", markeredgewidth=1.4, label=label)
