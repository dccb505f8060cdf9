"""What all figures share: colours, axes, legends, and how a figure gets into a page."""

import base64
import io
import re
from dataclasses import dataclass

import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LOOK = {"svg.fonttype": "none", "svg.hashsalt": "sentemb", "font.size": 11, "legend.fontsize": 10}

BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6b6b6b"  # Okabe & Ito 2008
SVG_POINTS = 2000  # a longer line is drawn as a PNG


@dataclass(frozen=True)
class Drawn:
    """A figure for a page; one that cannot be drawn has no ``svg`` and says in ``missing`` what it needs."""

    name: str
    title: str
    caption: str = ""
    svg: str = ""
    missing: str = ""

    @property
    def width(self) -> float:
        """In rem, such that the letters of all figures are about as large."""
        points = re.search(r'<svg [^>]*?width="([\d.]+)pt"', self.svg)
        return float(points[1]) / 9.4 if points else 40.0


def labelled_axes(axes: Axes, x: str, y: str) -> Axes:
    """The axes with labels ``x`` and ``y``, in the look of all our figures."""
    axes.set(xlabel=x, ylabel=y)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_axisbelow(True)
    return axes


def legend_below(figure: Figure) -> None:
    """One legend under all panels, where it cannot cover a line."""
    pairs = {label: h for a in figure.axes for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(list(pairs.values()), list(pairs), loc="outside lower center", ncols=2, frameon=False)


def image(figure: Figure, name: str, title: str) -> str:
    """A figure as inline SVG, or as PNG in base64 where a line has more than SVG_POINTS points."""
    drawn = io.BytesIO()
    if max((np.size(line.get_xdata()) for axes in figure.axes for line in axes.lines), default=0) > SVG_POINTS:
        figure.savefig(drawn, format="png", dpi=180, metadata={"Software": None})
        data = base64.b64encode(drawn.getvalue()).decode()
        return f"<img alt='{escape(title)}' src='data:image/png;base64,{data}'>"
    figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = drawn.getvalue().decode()
    svg = svg[svg.index("<svg") :].replace("<svg ", f"<svg role='img' aria-label='{escape(title)}' ", 1)
    for reference in (' id="', 'href="#', "url(#"):  # ids stay apart from those of the page's other figures
        svg = svg.replace(reference, f"{reference}{name}-")
    return svg
