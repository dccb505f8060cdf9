"""What follows the weights, the temperature and the seed, and potentials on the circle."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd

from eval import Table
from recipes.study.analysis.groups import ARCHITECTURE, commonest
from recipes.study.results import kinds_of
from sentemb.geometry import uniformity_optimum

INSIDE = "inside"


def over_seeds(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """How far encoders of one setting differ by their seed."""
    lines, spread = [], []
    columns = [*(f"{task}_acc" for task in tasks), "alignment", "uniformity"]
    for _, rows in mine.groupby("setting", sort=False):
        if len(rows) < 3:
            continue
        name = f"{rows['family'].iloc[0]}: {rows['objective'].iloc[0]}"
        cells = [f"{rows[c].mean():.3f} +- {rows[c].std():.3f}" for c in columns]
        lines.append([name, str(len(rows)), *cells])
        spread.append([rows[f"{task}_acc"].std() for task in tasks])
    if not lines:
        return [], []
    pooled = np.sqrt(np.nanmean(np.square(spread), axis=0))
    sentences = [
        "Between seeds of one setting the standard deviation is "
        + ", ".join(f"{value:.2f} points of {task}" for task, value in zip(tasks, pooled, strict=True))
        + " (pooled): smaller differences than twice that say nothing."
    ]
    head = ["setting", "seeds", *(c.removesuffix("_acc") for c in columns)]
    return [Table("The same setting with other seeds", head, lines, ("Mean and standard deviation.",))], sentences


def over_weights(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Whether accuracy over the weight ratio is an inverted U: the best ratio lies inside."""
    if not {"align", "uniform", "alpha", "t"} <= set(mine):
        return [], []
    rows = mine[mine["align"].notna() & mine["uniform"].notna() & mine["contrastive"].isna()]
    if not len(rows):
        return [], []
    lines: list[list[str]] = []
    sentences: list[str] = []
    kinds = [(str(kind), commonest(kind_rows)) for kind, kind_rows in rows.groupby(kinds_of(rows), sort=False)]
    for kind, alike in kinds:
        n_curves = len(lines)
        lines += _curves(alike.assign(ratio=alike["align"] / (alike["align"] + alike["uniform"])), tasks, kind)
        inside = sum(line[-1] == INSIDE for line in lines[n_curves:])
        of = f" ({kind})" if len(kinds) > 1 else ""
        sentences += [
            f"Over the weight of alignment{of} the best accuracy lies inside, not at an end, in {inside} of "
            f"{len(lines) - n_curves} curves."
        ] * (len(lines) > n_curves)
    if not lines:
        return [], []
    head = ["encoders", "task", "alpha", "t", "lowest ratio", "best ratio", "highest ratio", "the best lies"]
    note = "Accuracy (nested) and the share of alignment's weight, align / (align + uniform)."
    return [Table("Accuracy over the weight ratio", head, lines, (note,))], sentences


def _curves(rows: pd.DataFrame, tasks: list[str], kind: str) -> list[list[str]]:
    """A line for each task, alpha and t: accuracy at the ends of ``ratio`` and at the best."""
    lines = []
    for (alpha, t), group in rows.groupby(["alpha", "t"]):
        for task in tasks:
            means = group.groupby("ratio")[f"{task}_acc"].mean().dropna()
            if len(means) < 4:
                continue
            best = float(means.idxmax())
            where = INSIDE if means.index.min() < best < means.index.max() else "at an end"
            low, high = (f"{means.iloc[i]:.2f} at {means.index[i]:.2f}" for i in (0, -1))
            lines.append([kind, task, f"{alpha:g}", f"{t:g}", low, f"{means.max():.2f} at {best:.2f}", high, where])
    return lines


def over_temperatures(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """How uniformity, tolerance and accuracy follow the temperature, and whether they do so beyond the seeds' error."""
    lines, sentences = [], []
    columns = ["uniformity", *(f"{task}_tolerance" for task in tasks), *(f"{task}_acc" for task in tasks)]
    alike = ["family", "objective_name", "pairs", *(c for c in ARCHITECTURE if c in mine)]
    for (family, objective, *_), group in mine.groupby(alike, dropna=False, sort=False):
        repeated = group.dropna(subset=["temperature"]) if "temperature" in group else group[:0]
        counts = repeated.groupby("temperature").agg(runs=("seed", "size"), settings=("setting", "nunique"))
        temperatures = counts.index[(counts["runs"] > 1) & (counts["settings"] == 1)]  # one run has no error
        repeated = repeated[repeated["temperature"].isin(temperatures)]
        if len(temperatures) < 4:
            continue
        grouped = repeated.groupby("temperature")[columns]
        mean, error = grouped.mean(), grouped.sem()
        for temperature, row in mean.iterrows():
            cells = [f"{row[c]:.3f} +- {error.loc[temperature, c]:.3f}" for c in columns]
            lines.append([str(family), f"{temperature:g}", *cells])
        for column in columns[: 1 + len(tasks)]:
            steps = [
                (a, b, mean[column][b] - mean[column][a], math.hypot(error[column][a], error[column][b]))
                for a, b in itertools.pairwise(mean.index)
            ]
            down = [f"{a:g} to {b:g} ({d:+.4f}, twice the error {2 * e:.4f})" for a, b, d, e in steps if d <= -2 * e]
            flat = [f"{a:g} to {b:g} ({d:+.4f})" for a, b, d, e in steps if -2 * e < d <= 0]
            verdict = "rises at every step" if not down and not flat else "rises within the seeds' error"
            if down:
                verdict = f"does not rise from {'; '.join(down)}"
            elif flat:
                verdict += f" (it is level or falls by less than twice the error from {'; '.join(flat)})"
            sentences.append(f"{family} ({objective}): {column.replace('_', ' ')} over the temperature {verdict}.")
        best = {task: float(mean[f"{task}_acc"].idxmax()) for task in tasks}
        where = ", ".join(f"{task} at {t:g}" for task, t in best.items())
        sentences.append(f"{family} ({objective}): the most accurate temperature is {where}.")
    if not lines:
        return [], []
    head = ["family", "temperature", *(c.replace("_acc", ", %").replace("_", " ") for c in columns)]
    return [Table("Over the temperature", head, lines, ("Mean and standard error over seeds.",))], sentences


def on_the_circle(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Mean Gaussian potentials of embeddings in two dimensions (Wang & Isola 2020, figures 3 and 4)."""
    rows = mine[mine["dimension"] == 2]
    if not len(rows):
        return [], []
    least = math.exp(uniformity_optimum(2))
    mean = rows.groupby("family", sort=False)["potential"].agg(["mean", "std", "count"])
    lines = [
        [str(family), f"{int(r['count'])}", f"{r['mean']:.4f}", f"{r['std']:.4f}", f"{r['mean'] - least:+.4f}"]
        for family, r in mean.iterrows()
    ]
    head = ["family", "encoders", "mean potential", "sd", f"above {least:.4f}"]
    for column, whose in (("document_acc", "held-out"), ("class_acc", "training")):
        if column in rows and rows[column].notna().all():
            linear = rows.groupby("family", sort=False)[column].agg(["mean", "std"])
            for line, (_, r) in zip(lines, linear.iterrows(), strict=True):
                line.append(f"{r['mean']:.2f} +- {r['std']:.2f}")
            head.append(f"linear accuracy: which {whose} document, %")
    order = ", ".join(f"{family} {value:.4f}" for family, value in mean["mean"].sort_values().items())
    sentences = [
        f"On the circle the mean Gaussian potential (t = 2), of which {least:.4f} is the least possible, is: {order}."
    ]
    return [Table("Mean Gaussian potential on the circle", head, lines)], sentences
