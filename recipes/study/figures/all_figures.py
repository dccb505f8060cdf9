"""All figures of a study: each drawn from the study's files into STUDY/figures, or the reason why it cannot be.

``draw_all(study)`` writes NAME.png and NAME.svg, the same bytes for the same files. What is drawn is in planes.py,
curves.py, shapes.py and spheres.py, what stands under it in captions.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from recipes.study.figures import captions
from recipes.study.figures.curves import families_figure, temperature_figure, weights_figure
from recipes.study.figures.differences import differences_figure, sentences_figure
from recipes.study.figures.planes import family_marks, label, paths_figure, plane_figure, with_tooltips
from recipes.study.figures.shapes import similarities_figure, spectrum_figure
from recipes.study.figures.spheres import (
    circle_figure,
    classes_figure,
    potential,
    potentials_figure,
    sphere_figure,
)
from recipes.study.results import Results, best_with_repeats, by_kind, chosen, read_results, usable
from sentemb.report import LOOK, Drawn, image
from sentemb.runs import Series, as_list, number, show

STYLE: list[Any] = ["default", LOOK, {"figure.dpi": 150}]  # also the resolution of what is rastered inside an SVG
CIRCLES, SPHERES = 6, 4  # encoders that such a figure shows at most
TWO, THREE = (f"an encoder of {n} dimensions with features in its measured.npz" for n in ("two", "three"))

DIFFERENCES = {  # of statistics.json, by group
    "claims": ("claims", "The first family less the second"),
    "untrained": ("gains", "Each family less its untrained twin"),
}


@dataclass(frozen=True)
class _Plan:
    name: str
    title: str
    draw: Callable[[], Figure | None]
    caption: str | Callable[[], str]  # called only where there is a figure
    missing: str
    task: str | None = None  # of a plane


def draw_all(study: Path) -> list[Drawn]:
    """Draw what the study's files allow into STUDY/figures, as NAME.png and NAME.svg.

    Returns:
        All figures in the page's order, with those that cannot be drawn.

    Raises:
        InputError: ``study`` is not a folder.
    """
    return draw_results(read_results(study))


def draw_results(results: Results) -> list[Drawn]:
    """As :func:`draw_all`, of results that are read already."""
    folder = results.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = []
    with style.context(STYLE):
        for plan in _plans(results):
            figure = plan.draw()
            for ending in ("png", "svg"):  # of an earlier state of the study
                (folder / f"{plan.name}.{ending}").unlink(missing_ok=True)
            if figure is None:
                drawn.append(Drawn(plan.name, plan.title, missing=plan.missing))
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, drawn three times
            dateless = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(folder / f"{plan.name}.svg", metadata=dateless)
            figure.savefig(folder / f"{plan.name}.png", dpi=150, metadata={"Software": None})
            svg = image(figure, plan.name, plan.title)
            if plan.name.startswith("plane"):
                svg = with_tooltips(svg, plan.name, results.table, plan.task)
            caption = plan.caption if isinstance(plan.caption, str) else plan.caption()
            drawn.append(Drawn(plan.name, plan.title, " ".join(caption.split()), svg))
    return drawn


def _plans(results: Results) -> list[_Plan]:
    table, tasks = results.table, results.tasks
    few = chosen(table, tasks)
    arrays = [results.arrays(name) for name in few["name"]]
    titled = [
        (_titled(row, tasks), encoder_arrays) for (_, row), encoder_arrays in zip(few.iterrows(), arrays, strict=True)
    ]
    named = [(label(name, 40), encoder_arrays) for name, encoder_arrays in zip(few["name"], arrays, strict=True)]
    trained = [(row["family"], *_path(results, row["name"])) for _, row in best_with_repeats(table, tasks).iterrows()]
    flat, solid = _with_features(results, 2, CIRCLES), _with_features(results, 3, SPHERES)
    circle = [(_with_potential(row, points), points) for row, points in flat]
    sphere = [(_with_potential(row, points), points) for row, points in solid]
    classes = _with_classes(results, flat)
    bars = [(label(row["name"], 22), points) for row, points in flat]
    return [
        *([_plane(table, task) for task in tasks] or [_plane(table, None)]),
        *(_weights(part, kind, tasks) for kind, part in by_kind(table)),
        _Plan(
            "temperature",
            "What the temperature does",
            partial(temperature_figure, table, tasks),
            partial(captions.temperature, table, tasks),
            "a family of encoders with two temperatures at least",
        ),
        *(
            _Plan(
                name,
                title,
                partial(differences_figure, as_list(results.statistics.get("differences")), group),
                captions.DIFFERENCES,
                "two differences of families of several seeds",
            )
            for group, (name, title) in DIFFERENCES.items()
        ),
        _Plan(
            "sentences",
            "Over the sentences seen",
            partial(sentences_figure, table, tasks),
            captions.SENTENCES,
            "a family of encoders that have seen four numbers of sentences",
        ),
        _Plan(
            "families",
            "Accuracy by family",
            partial(families_figure, table, tasks),
            captions.FAMILIES,
            "an encoder with an accuracy",
        ),
        _Plan(
            "similarities",
            "Positives, hardest negatives, random pairs",
            partial(similarities_figure, titled),
            partial(captions.similarities, table),
            "an encoder with histograms in its measured.npz",
        ),
        _Plan(
            "spectrum",
            "How many directions the embeddings use",
            partial(spectrum_figure, named),
            captions.SPECTRUM,
            "an encoder with two singular values in its measured.npz",
        ),
        _Plan(
            "paths",
            "Trainings as paths through the plane",
            partial(paths_figure, trained, family_marks(table)),
            captions.PATHS,
            "an encoder with two held-out scores in its log.jsonl",
        ),
        _Plan("circle", "Embeddings on the circle", partial(circle_figure, circle), captions.CIRCLE, TWO),
        _Plan(
            "classes",
            "Classes on the circle",
            partial(classes_figure, classes),
            captions.CLASSES,
            "an encoder of two dimensions with class_features in its measured.npz",
        ),
        _Plan(
            "potentials",
            "Mean Gaussian potentials on the circle",
            partial(potentials_figure, bars),
            captions.POTENTIALS,
            TWO,
        ),
        _Plan("sphere", "Embeddings on the sphere", partial(sphere_figure, sphere), captions.SPHERE, THREE),
    ]


def _weights(table: pd.DataFrame, kind: str, tasks: list[str]) -> _Plan:
    return _Plan(
        f"weights_{kind}" if kind else "weights",
        f"The weights of alignment and uniformity{f': {kind}' if kind else ''}",
        partial(weights_figure, table, tasks),
        partial(captions.weights, table),
        "encoders trained for alignment and uniformity alone, with two weights at least",
    )


def _plane(table: pd.DataFrame, task: str | None) -> _Plan:
    name = f"plane_{re.sub(r'[^A-Za-z0-9]+', '_', task)}" if task else "plane"
    title = f"Alignment, uniformity and {task} accuracy" if task else "Alignment and uniformity"
    needs = f"an encoder with alignment, uniformity and {f'a {task} accuracy' if task else 'a status of ok'}"
    draw_plane = partial(plane_figure, table, task)
    return _Plan(name, title, draw_plane, partial(captions.plane, table, task), needs, task)


def _titled(row: pd.Series, tasks: list[str]) -> str:
    """An encoder's name for a panel, with its accuracy where there is one."""
    accuracy = number(row[f"{tasks[0]}_acc"]) if tasks else np.nan
    below = f"\n{label(tasks[0], 10)} {show(accuracy, 1)}%" if np.isfinite(accuracy) else ""
    return f"{label(row['name'], 32)}{below}"


def _with_potential(row: pd.Series, points: Series) -> str:
    accuracy = number(row["document_acc"])
    linear = f", linear {show(accuracy, 1)}%" if np.isfinite(accuracy) else ""
    return f"{label(row['name'], 28)}\nG = {potential(points):.3f}{linear}"


def _with_classes(results: Results, flat: list[tuple[pd.Series, Series]]) -> list[tuple[str, Series, Series]]:
    """The points and classes of the first encoder of each family, with its accuracy on them."""
    shown: dict[str, tuple[str, Series, Series]] = {}
    for row, _ in flat:
        arrays, accuracy = results.arrays(row["name"]), number(row["class_acc"])
        if row["family"] not in shown and {"class_features", "classes"} <= arrays.keys():
            below = f"\n{show(accuracy, 1)}%" if np.isfinite(accuracy) else ""
            shown[row["family"]] = f"{label(row['family'], 16)}{below}", arrays["class_features"], arrays["classes"]
    return list(shown.values())


def _path(results: Results, name: str) -> tuple[Series, Series]:
    """Held-out uniformity and alignment over an encoder's training."""
    log = results.log(name)
    keys = ("heldout_uniformity", "heldout_alignment")
    x, y = (np.array([number(record.get(key)) for record in log]) for key in keys)
    return x, y


def _with_features(results: Results, dimension: int, most: int) -> list[tuple[pd.Series, Series]]:
    """Encoders of that dimension with their points, the first of each family before others, in the study's order."""
    rows = usable(results.table)
    rows = rows[rows["dimension"] == dimension]
    turn = rows.groupby("family", sort=False).cumcount()
    encoders: list[tuple[pd.Series, Series]] = []
    for _, row in rows.loc[turn.sort_values(kind="stable").index].iterrows():
        points = results.arrays(row["name"]).get("features")
        if points is None or points.ndim != 2 or points.shape[1] != dimension or len(points) < 2:
            continue
        if len(encoders) < most and np.isfinite(points).all():
            encoders.append((row, points.astype(np.float64)))
    return sorted(encoders, key=lambda pair: pair[0].name)
