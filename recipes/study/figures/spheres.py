"""Embeddings of two and three dimensions on their circle and sphere: Wang & Isola 2020, figures 3 and 4."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy.ndimage import gaussian_filter
from scipy.special import i0e, ive

from sentemb.geometry import uniformity, uniformity_optimum
from sentemb.report import BLUE, GREY, VERMILLION, labelled_axes, legend_below
from sentemb.runs import Series

CIRCLE_KAPPA, SPHERE_KAPPA = 50.0, 30.0  # of the von Mises-Fisher kernels
BANDWIDTH = 0.08  # of the Gaussian kernel in the plane of the circle
SHOWN = 2000  # points that a panel draws
HARMONICS = 24  # of exp(4 cos): the 25th coefficient is below 1e-16 of the first
BLUES = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#8fc1e0", "#0072B2", "#00304d"])
Shown = Sequence[tuple[str, Series]]  # titles with unit rows


def vmf_density(angles: Series, at: Series, kappa: float = CIRCLE_KAPPA) -> Series:
    """Density ``[k]`` at the angles ``at`` ``[k]`` of a von Mises-Fisher kernel estimate from ``angles`` ``[n]``.

    Per radian: it integrates to 1 over the circle. kappa: concentration; a kernel's width is about 1 / sqrt(kappa).
    """
    total = np.zeros(len(at))
    for part in np.array_split(angles, max(1, len(angles) // 1024)):
        total += np.exp(kappa * (np.cos(at[:, None] - part) - 1)).sum(axis=1)
    return total / (len(angles) * 2 * math.pi * i0e(kappa))


def potential(points: Series) -> float:
    """Mean Gaussian potential E exp(-2 ||u - v||^2) over the distinct pairs of unit rows ``[n, d]``, all of them."""
    return math.exp(uniformity(torch.from_numpy(np.asarray(points, dtype=np.float64)), t=2.0))


def on_circle(angles: Series) -> Series:
    """Unit rows ``[n, 2]`` at these angles."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def spread_out(angles: Series, steps: int = 200, rate: float = 0.5) -> Series:
    """``angles`` after gradient descent on their mean Gaussian potential (t = 2), exact up to rounding.

    exp(-2 ||u - v||^2) = e^-4 exp(4 cos(a - b)) = sum over k of c_k cos(k (a - b)), with c_k = 2 I_k(4) e^-4: sums
    over the points of cos(k a) and sin(k a) give the gradient in time linear in their number.
    """
    k = np.arange(1, HARMONICS + 1)
    weights = 2 * ive(k, 4.0) * k
    for _ in range(steps):
        turned = np.exp(1j * np.outer(angles, k))  # [n, harmonics]
        pull = (turned * turned.mean(axis=0).conj()).imag @ weights  # minus the derivative, times n / 2
        angles = angles + rate * pull
    return angles


@cache
def synthetic(n: int = SHOWN, seed: int = 0) -> dict[str, Series]:
    """Sets of ``n`` unit rows on the circle by name; "clustered, optimised" begins at "clustered"."""
    chance = np.random.default_rng(seed)
    clustered = np.concatenate([chance.vonmises(mean, 20.0, n // 3) for mean in (0.3, 1.6, 3.6)])
    clustered = np.concatenate([clustered, chance.vonmises(0.3, 20.0, n - len(clustered))])
    return {
        "half circle": on_circle(chance.uniform(0, math.pi, n)),
        "clustered": on_circle(clustered),
        "clustered, optimised": on_circle(spread_out(clustered)),
        "random uniform": on_circle(chance.uniform(0, 2 * math.pi, n)),
        "evenly spaced": on_circle(2 * math.pi * np.arange(n) / n),
    }


def circle_figure(shown: Shown) -> Figure | None:
    """Points with a Gaussian density, and their angles with a von Mises-Fisher one, a column an encoder.

    Args:
        shown: titles with unit rows ``[n, 2]``; others are left out.
    """
    panels = _of_dimension(shown, 2)
    if not panels:
        return None
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    blocks = -(-len(panels) // columns)
    figure = Figure(figsize=(0.5 + 2.4 * columns, 4.0 * blocks), layout="constrained")
    grid = figure.subplots(2 * blocks, columns, squeeze=False, height_ratios=[1.55, 1] * blocks)
    densities = [_plane_density(rows) for _, rows in panels]
    colours = PowerNorm(0.5, 0, max(d.max() for d in densities))
    at = np.linspace(-math.pi, math.pi, 721)
    for i in range(columns * blocks):
        disc, line = grid[2 * (i // columns), i % columns], grid[2 * (i // columns) + 1, i % columns]
        if i >= len(panels):
            disc.set_visible(False)
            line.set_visible(False)
            continue
        title, rows = panels[i]
        disc.imshow(densities[i].T, origin="lower", extent=(-1.4, 1.4, -1.4, 1.4), cmap=BLUES, norm=colours)
        disc.plot(*rows[_some(len(rows))].T, ".", ms=1.5, color="black", alpha=0.25, mew=0, rasterized=True)
        disc.set_title(title, fontsize=9.5)
        disc.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], aspect="equal")
        disc.tick_params(labelleft=i % columns == 0)
        disc.spines[:].set_color("#cccccc")
        labelled_axes(line, "angle (radians)", "density" if i % columns == 0 else "")
        density = vmf_density(np.arctan2(rows[:, 1], rows[:, 0]), at)
        line.fill_between(at, density, color=BLUE, alpha=0.25, linewidth=0)
        line.plot(at, density, color=BLUE, linewidth=1.5, label=f"von Mises-Fisher density, kappa {CIRCLE_KAPPA:g}")
        line.axhline(1 / (2 * math.pi), linestyle="--", color=VERMILLION, linewidth=1.2, label="uniform: 1 / 2π")
        line.set_xticks([-math.pi, 0, math.pi], ["-π", "0", "π"])
        line.set(xlim=(-math.pi, math.pi), ylim=(0, 1.08 * max(density.max(), 0.3)))
    legend_below(figure)
    return figure


def classes_figure(shown: Sequence[tuple[str, Series, Series]]) -> Figure | None:
    """Points on the circle with a Gaussian density, a row an encoder and a column a class.

    Args:
        shown: titles with unit rows ``[n, 2]`` and their classes ``[n]``; others are left out.
    """
    panels = [
        (title, rows.astype(np.float64), classes)
        for title, rows, classes in shown
        if rows.ndim == 2 and rows.shape == (len(classes), 2) and len(rows) and np.isfinite(rows).all()
    ]
    if not panels:
        return None
    numbers = np.unique(np.concatenate([classes for *_, classes in panels]))
    figure = Figure(figsize=(1.3 + 0.95 * len(numbers), 0.4 + 1.05 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), len(numbers), squeeze=False)
    densities = [[_plane_density(rows[classes == number]) for number in numbers] for _, rows, classes in panels]
    colours = PowerNorm(0.5, 0, max(density.max() for row in densities for density in row))
    for line, (title, rows, classes), of_row in zip(grid, panels, densities, strict=True):
        line[0].set_ylabel(title, fontsize=8)
        for axes, number, density in zip(line, numbers, of_row, strict=True):
            axes.imshow(density.T, origin="lower", extent=(-1.4, 1.4, -1.4, 1.4), cmap=BLUES, norm=colours)
            points = rows[classes == number]
            axes.plot(*points[_some(len(points))].T, ".", ms=1, color="black", alpha=0.25, mew=0, rasterized=True)
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set_color("#cccccc")
    for axes, number in zip(grid[0], numbers, strict=True):
        axes.set_title(f"class {int(number) + 1}", fontsize=8)
    return figure


def potentials_figure(shown: Shown) -> Figure | None:
    """Mean Gaussian potentials of :func:`synthetic` sets and of two-dimensional encoders, each with its points."""
    panels = _of_dimension(shown, 2)
    if not panels:
        return None
    made = list(synthetic().items())
    bars = made + panels
    figure = Figure(figsize=(5.2, 1.1 + 0.52 * len(bars)), layout="constrained")
    axes = labelled_axes(figure.subplots(), "mean Gaussian potential", "")
    heights = [potential(rows) for _, rows in bars]
    axes.barh(range(len(bars)), heights, 0.7, color=[GREY] * len(made) + [BLUE] * len(panels), zorder=2)
    optimum = math.exp(uniformity_optimum(2))
    named = f"uniform distribution, the least possible: {optimum:.4f}"
    axes.axvline(optimum, linestyle="--", color=VERMILLION, label=named, zorder=3)
    right = max(heights)
    for i, ((_, rows), height) in enumerate(zip(bars, heights, strict=True)):
        axes.annotate(f"{height:.4f}", (height, i), (3, 0), textcoords="offset points", va="center", fontsize=9.5)
        picture = axes.inset_axes((height + 0.21 * right, i - 0.46, 0.2 * right, 0.92), transform=axes.transData)
        picture.plot(*rows[_some(len(rows), 500)].T, ".", ms=2, color="black", alpha=0.25, mew=0, rasterized=True)
        picture.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", anchor="W")
        picture.axis("off")
    axes.set_yticks(range(len(bars)), [title for title, _ in bars], fontsize=9.5)
    axes.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, 1.4 * right))
    axes.grid(visible=False, axis="y")
    legend_below(figure)
    return figure


def sphere_figure(shown: Shown) -> Figure | None:
    """Points on the sphere as two discs each, the half around their mean direction and the half opposite it.

    The discs keep areas (Lambert 1772), so that an even spread is evenly dense; colour is a von Mises-Fisher density
    in multiples of the uniform one.

    Args:
        shown: titles with unit rows ``[n, 3]``; others are left out.
    """
    panels = _of_dimension(shown, 3)
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    wide, tall = 3.5 * columns + 0.9, 2.45 * rows
    figure = Figure(figsize=(wide, tall))  # laid out by hand: two discs of an encoder stand close together
    turned_panels = [(title, _facing(points)) for title, points in panels]
    discs = [(title, points, *_disc_densities(points)) for title, points in turned_panels]
    colours = PowerNorm(0.5, 0, max(max(np.nanmax(front), np.nanmax(back)) for _, _, front, back in discs))
    for i, (title, points, *densities) in enumerate(discs):
        left, bottom = 3.5 * (i % columns) + 0.1, tall - 2.45 * (i // columns + 1) + 0.25
        figure.text((left + 1.65) / wide, (bottom + 1.68) / tall, title, ha="center", va="bottom", fontsize=11)
        for shift, density, sign in zip((0, 1.7), densities, (1, -1), strict=True):
            axes = figure.add_axes(((left + shift) / wide, bottom / tall, 1.6 / wide, 1.6 / tall))
            axes.axis("off")
            axes.imshow(density, origin="lower", extent=(-1, 1, -1, 1), cmap=BLUES, norm=colours)
            half = points[points[:, 2] * sign > 0]
            half = half[_some(len(half), SHOWN // 2)]
            flat = half[:, :2] / np.sqrt(1 + np.abs(half[:, 2:]))
            axes.plot(*flat.T, ".", ms=2, color="black", alpha=0.3, mew=0, rasterized=True)
            axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor="#888888", linewidth=0.8))
            where = "around the mean" if sign > 0 else "opposite"
            axes.text(0, -1.06, where, ha="center", va="top", fontsize=10, color=GREY)
            axes.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03), aspect="equal")
    bar = figure.add_axes((1 - 0.78 / wide, 0.3 / tall, 0.14 / wide, 1 - 0.9 / tall))
    scale = ScalarMappable(colours, BLUES)
    figure.colorbar(scale, cax=bar, label="density / uniform density")
    return figure


def _of_dimension(shown: Shown, dimension: int) -> list[tuple[str, Series]]:
    panels = []
    for title, rows in shown:
        if rows.ndim == 2 and rows.shape[1] == dimension and len(rows) > 1 and np.isfinite(rows).all():
            panels.append((title, rows.astype(np.float64)))
    return panels


def _some(n: int, most: int = SHOWN) -> Series:
    """At most ``most`` of n places, spread evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)) if n else np.array([], dtype=int)


def _plane_density(rows: Series, bins: int = 140) -> Series:
    """Gaussian kernel density ``[bins, bins]`` on [-1.4, 1.4]^2: counts in cells, smoothed."""
    counts, *_ = np.histogram2d(rows[:, 0], rows[:, 1], bins=bins, range=[[-1.4, 1.4], [-1.4, 1.4]])
    cell = 2.8 / bins
    return gaussian_filter(counts / (len(rows) * cell**2), BANDWIDTH / cell, mode="constant")


def _facing(points: Series) -> Series:
    """``points`` turned so that their mean direction is the third axis and they spread widest along the first."""
    mean = points.mean(axis=0)
    *_, axes = np.linalg.svd(points - mean, full_matrices=True)
    third = mean / np.linalg.norm(mean) if np.linalg.norm(mean) > 1e-9 else axes[2]
    first = max((axis - (axis @ third) * third for axis in axes), key=np.linalg.norm)
    first /= np.linalg.norm(first)
    first *= 1 if first[np.abs(first).argmax()] > 0 else -1  # one of two equal choices
    return points @ np.stack([first, np.cross(third, first), third], axis=1)


def _disc_densities(points: Series, size: int = 70) -> tuple[Series, Series]:
    """Density over the uniform one in both equal-area discs, ``[size, size]`` each; NaN outside of them."""
    points = points[_some(len(points))]
    at = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(at, at)
    squared = x**2 + y**2
    inside = squared <= 1
    flat = np.stack([x[inside], y[inside]], axis=1) * np.sqrt(2 - squared[inside])[:, None]
    height = 1 - squared[inside]
    kernel = 2 * SPHERE_KAPPA / (1 - math.exp(-2 * SPHERE_KAPPA))  # times exp(kappa (cos - 1)); uniform is 1
    discs = []
    for sign in (1, -1):
        cosine = np.column_stack([flat, sign * height]) @ points.T
        disc = np.full((size, size), np.nan)
        disc[inside] = kernel * np.exp(SPHERE_KAPPA * (cosine - 1)).mean(axis=1)
        discs.append(disc)
    return discs[0], discs[1]
