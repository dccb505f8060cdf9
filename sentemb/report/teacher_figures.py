"""The figures of a run with a teacher: how near the student comes to it, and scores against speed."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentemb.report.drawing import BLUE, GREY, VERMILLION, labelled_axes, legend_below
from sentemb.report.figures import dev_column, mark_highest, span_at_least
from sentemb.report.score_columns import TEACHER_SIMILARITY, mean_scores, tasks_of
from sentemb.runs import TEACHER, TRAINED, Run, as_dict, number, plain

LEAST_SCORE, LEAST_SIMILARITY = 5.0, 0.2  # what the axis of scores (x 100), and that of similarity, span at least
COLORS = {TEACHER: VERMILLION, TRAINED: BLUE}  # by role
APART, GAP = 0.08, 0.03  # shares of the axes: how far names are from each other, and from their points


def teacher_figure(run: Run) -> Figure | None:
    """Similarity and cosine to the teacher over training; None with fewer than two scores."""
    step, similarity, cosine = (run.series(key) for key in ("step", TEACHER_SIMILARITY, "teacher_cosine"))
    if np.isfinite(similarity).sum() < 2:
        return None
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = labelled_axes(figure.subplots(), "training step", "held-out sentences (1 is perfect)")
    for y, color, line, label in (
        (similarity, BLUE, "o-", "similarity to the teacher"),
        (cosine, VERMILLION, "s--", "cosine to the teacher"),
    ):
        if np.isfinite(y).any():
            axes.plot(step[np.isfinite(y)], y[np.isfinite(y)], line, markersize=4, color=color, label=label)
    if dev_column(run) == TEACHER_SIMILARITY:
        mark_highest(axes, step, similarity, 3)
    span_at_least(axes, LEAST_SIMILARITY)
    legend_below(figure)
    return figure


def speed_figure(run: Run) -> Figure | None:
    """Mean score against sentences a second, a point an encoder; None unless two encoders have both.

    Where no task was scored, similarity to the teacher stands for the score.
    """
    rows = run.rows()
    y, label, least = np.array(mean_scores(rows)), f"mean of {', '.join(tasks_of(rows))}", LEAST_SCORE
    if not np.isfinite(y).any():
        y = np.array([number(row.get(TEACHER_SIMILARITY)) for row in rows])
        label, least = "similarity to the teacher", LEAST_SIMILARITY
    x = np.array([number(as_dict(row.get("cost")).get("sentences_per_second")) for row in rows])
    usable = np.isfinite(x + y) & (x > 0)
    if usable.sum() < 2:
        return None
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = labelled_axes(figure.subplots(), "sentences/s of encode (logarithmic)", label.replace("$", r"\$"))
    axes.set_xscale("log")
    axes.set_xlim(x[usable].min() / 2, 2 * x[usable].max())
    axes.set_ylim(y[usable].min(), y[usable].max())
    span_at_least(axes, max(least, 1.3 * float(np.ptp(y[usable]))))
    names = {i: plain(rows[i].get("encoder", "unnamed")) for i in np.flatnonzero(usable)}
    for i in names:
        color = COLORS.get(plain(rows[i].get("role")), GREY)
        axes.plot(x[i], y[i], "o", markersize=9, color=color, zorder=2 if color == GREY else 3)
    _name_points(axes, [(x[i], y[i], name) for i, name in names.items()])
    return figure


def _name_points(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """A name next to each point, on the side where there is room, and no two on top of each other."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    gap, place = (right / left) ** GAP, low
    for x, y, name in sorted(points, key=lambda point: point[1]):
        place = max(y, place)
        in_right_half = x * x > left * right
        axes.annotate(
            name,
            (x, y),
            (x / gap if in_right_half else x * gap, place),
            horizontalalignment="right" if in_right_half else "left",
            verticalalignment="center",
            fontsize=9,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": "#b5b5b5", "linewidth": 0.6},
        )
        place += APART * (high - low)
    axes.set_ylim(low, max(high, place))
