"""What stands under a study's figures: how to read each, what to look for, and what was left out."""

import math

import numpy as np
import pandas as pd

from recipes.study.figures.curves import temperature_rows, weight_rows
from recipes.study.figures.planes import are_distinct, colour_range
from recipes.study.figures.spheres import BANDWIDTH, CIRCLE_KAPPA, SHOWN, SPHERE_KAPPA
from recipes.study.results import compared, is_temperature_study, usable
from sentemb.geometry import uniformity_optimum
from sentemb.runs import show

NAMED = 12  # encoders that a caption names before it counts the others

FAMILIES = """A point is an encoder, a black bar the median of a family of more than one; up and down within a family
means nothing. The best of a large family has the luck of the best of many: compare medians and spreads, too."""
SPECTRUM = """Singular values of held-out embeddings (unit length, not centred) as shares of their sum, for the encoders
whose similarities are shown. A flat line uses all directions alike; one that falls steeply lives in fewer. The
effective rank is exp of the shares' entropy (Roy & Vetterli 2007)."""
PATHS = """Held-out pairs at the scored steps of each family's best encoder and of its setting with the most seeds,
hollow at the first score and filled at the last. Good training goes left without going up; repeats that end apart show
what chance does."""
CIRCLE = f"""Held-out sentences of encoders with two dimensions, drawn as the images of Wang & Isola's figure 3. Above:
the points (at most {SHOWN:,}) on a Gaussian density of bandwidth {BANDWIDTH:g}, the colours of all panels on one
square-root scale. Below: the density of their angles by von Mises-Fisher kernels of kappa {CIRCLE_KAPPA:g}; heights
differ between panels, the dashed line is the uniform density. The more even the ring, the flatter the line and the
lower the mean Gaussian potential G, which is at least
{math.exp(uniformity_optimum(2)):.3f} and 1 for one single point. "linear" is the accuracy of a linear classifier that
says which held-out document a sentence is of."""
CLASSES = """The first encoder of each family, on sentences of the training documents that a supervised encoder of this
study has as its classes: a panel a class, all panels on one square-root colour scale. The supervised encoder was
trained on these sentences. Under its name is the accuracy of a linear classifier of these classes, on a fifth of the
sentences. A class that alone fills a part of the circle is recognised by its angle."""
POTENTIALS = f"""E exp(-2 |u - v|²) over all pairs of different points, as in Wang & Isola's figure 4: sets of {SHOWN:,}
points made for comparison in grey, encoders of two dimensions in blue, each with its points next to it. Gradient
descent on the potential alone turns the clustered set into an even one: only the uniform distribution attains the least
value.
A finite set can be slightly below it, as no point is paired with itself."""
SPHERE = f"""Held-out sentences of encoders with three dimensions. Each sphere is turned so that the mean embedding is
in the middle of the left disc; the right disc is the half at the back. The projection keeps areas: an even spread is
evenly dense, and 1 on the colour bar (von Mises-Fisher kernels of kappa {SPHERE_KAPPA:g}, square-root scale). G is the
mean
Gaussian potential, at least {math.exp(uniformity_optimum(3)):.3f}."""

DIFFERENCES = """Means over seeds with 95 % intervals for other seeds and other items (test rows, novels; of STS-B other
seeds only). Green: above 0 by more than chance, red: below, grey: cannot tell. With 20 such intervals, one excludes 0
by chance."""
SENTENCES = """Mean over seeds, bars from the lowest to the highest. Both sentences of a pair are counted."""


def plane(table: pd.DataFrame, task: str | None) -> str:
    """Of :func:`recipes.study.figures.planes.plane_figure`."""
    rows = usable(table).dropna(subset=["alignment", "uniformity"])
    shape = "; its shape is its family" if are_distinct(table["family"].unique()) else ""
    sentences = [
        f"Each point is one of {len(rows)} encoders, measured on held-out pairs{shape}. "
        "Lower left is better in both losses."
    ]
    if task:
        accuracy = rows[f"{task}_acc"].to_numpy()
        low, high = colour_range(accuracy)
        sentences.append("Look where the light points lie: where both losses are low, if the two explain accuracy.")
        outside = int(((accuracy < low) | (accuracy > high)).sum())
        if outside:
            sentences.append(
                f"The colours run from the 5th to the 95th percentile of the accuracies ({show(low, 1)} to "
                f"{show(high, 1)}%); {outside} encoders beyond have the colour of the end."
            )
        if hollow := int(np.isnan(accuracy).sum()):
            sentences.append(f"Hollow: {hollow} without an accuracy.")
    sentences.append("Rest on a point to see which encoder it is; click it for its row in the table.")
    for status, what in (("diverged", "Diverged and not drawn"), ("failed", "Failed and not drawn")):
        if names := table.loc[table["status"] == status, "name"].tolist():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            sentences.append(f"{what}: {', '.join(names[:NAMED])}{more}.")
    return " ".join(sentences)


def weights(table: pd.DataFrame) -> str:
    """Of :func:`recipes.study.figures.curves.weights_figure`."""
    rows = weight_rows(table)
    left = len(compared(table)[["align", "uniform"]].dropna()) - len(rows)
    others = f" {left} encoders with a contrastive term or another architecture are left out." if left else ""
    return (
        f"{len(rows)} encoders trained for alignment and uniformity alone, alike in all but the weights and the "
        "exponents alpha and t of the two losses; bars span the seeds. Both ends are expected to lose: with "
        "alignment alone all sentences become one point (uniformity 0), with uniformity alone "
        "positives are no nearer than random pairs. An "
        f"inverted U says that both are needed.{others}"
    )


def temperature(table: pd.DataFrame, tasks: list[str]) -> str:
    """Of :func:`recipes.study.figures.curves.temperature_figure`."""
    rows = temperature_rows(table)
    lines = "; line styles are tasks" if len(tasks) > 1 else ""
    several = rows["seed"].nunique() > 1
    bars = "Points are means over seeds, bars their range where there are several" if several else "One seed each"
    levels = " An objective without a temperature is a short line at the right edge." if _levels(rows) else ""
    return (
        f"{bars}{lines}.{levels} A low temperature pushes the nearest negatives hardest: more uniform, and less "
        "tolerant of sentences of one class that lie near each other. Expected of the ordinary loss (Wang & Liu 2021): "
        "uniformity loss and tolerance rise with the temperature, and accuracy is best between the ends."
    )


def _levels(rows: pd.DataFrame) -> bool:
    return bool(rows["temperature"].isna().any())


def similarities(table: pd.DataFrame) -> str:
    """Of :func:`recipes.study.figures.shapes.similarities_figure`."""
    which = "the best and the worst of each family by cross-validation"
    if is_temperature_study(table):
        which = "the lowest, the highest and a middle temperature of each family"
    return (
        f"Cosines of held-out positives, of each sentence's hardest negative and of random pairs, for {which}, "
        "at most six, or the best of each of at most eight families. Positives should be right of the hardest "
        "negatives: where those two overlap, a sentence does not find its positive. The random pairs' width says how "
        "much of the sphere is used."
    )
