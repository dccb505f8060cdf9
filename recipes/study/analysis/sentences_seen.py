"""How accuracy and retrieval grow with the number of sentences that an encoder was trained on."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from eval import Table
from recipes.study.analysis.groups import Values

LEAST = 4  # sizes that a line is drawn through
BOOKCORPUS = 53e6  # sentences of Wang & Isola's BookCorpus
NOTE = (
    "A line through the means of each size over the logarithm of the sentences, with 95 % intervals of slope and "
    "further point (Student's t). The intervals say nothing of whether the line continues: values beyond the sizes are "
    "extrapolations."
)


@dataclass(frozen=True)
class Line:
    """A least-squares line ``intercept + slope * x`` with what its intervals need."""

    intercept: float
    slope: float
    error: float  # of the slope
    residual: float  # standard deviation
    mean: float  # of x
    spread: float  # sum of squares of x about its mean
    n: int

    @property
    def quantile(self) -> float:
        """Of Student's t for 95 %."""
        return float(student.ppf(0.975, self.n - 2))

    def slope_interval(self) -> tuple[float, float]:
        """Of 95 %."""
        half = self.quantile * self.error
        return self.slope - half, self.slope + half

    def further(self, x: float) -> tuple[float, float, float]:
        """A further point at ``x``: its estimate and its 95 % prediction interval."""
        half = self.quantile * self.residual * math.sqrt(1 + 1 / self.n + (x - self.mean) ** 2 / self.spread)
        value = self.intercept + self.slope * x
        return value, value - half, value + half


def fitted(x: Values, y: Values) -> Line:
    """The least-squares line through ``[n]`` points, n >= 3, with x not constant."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = math.sqrt(float(np.square(y - intercept - slope * x).sum()) / (len(x) - 2))
    return Line(intercept, slope, residual / math.sqrt(spread), residual, float(x.mean()), spread, len(x))


def over_sentences(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Lines of each family whose encoders have seen at least four numbers of sentences."""
    lines, sentences = [], []
    for family, what, digits, sizes in by_size(mine, tasks):
        line = fitted(np.log10(sizes.index.to_numpy(float)), sizes.to_numpy(float))
        low, high = line.slope_interval()
        value, least, most = line.further(math.log10(BOOKCORPUS))
        slope = f"{line.slope:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
        beyond = f"{value:.{digits}f} [{least:.{digits}f}, {most:.{digits}f}]"
        points = "; ".join(f"{size:,.0f}: {mean:.{digits}f}" for size, mean in sizes.items())
        lines.append([family, what, points, slope, beyond])
        doubt = "" if low > 0 or high < 0 else ", which may be chance"
        sentences.append(
            f"{family}: {what} per tenfold sentences {slope}{doubt}; extrapolated to 53 million: {beyond}."
        )
    head = ["family", "measure", "sentences: mean", "per tenfold [95%]", "at 53 million, extrapolated [95%]"]
    return ([Table("Over the sentences seen", head, lines, (NOTE,))] if lines else []), sentences


def by_size(mine: pd.DataFrame, tasks: list[str]) -> list[tuple[str, str, int, Any]]:
    """Family, measure, digits, and the measure's mean at each number of sentences, ascending."""
    measures = {f"{task}_acc": (task, 2) for task in tasks}
    measures |= {"retrieval_mrr": ("held-out MRR", 4), "STS-B_spearman": ("STS-B", 2)}
    if "sequences_seen" not in mine:
        return []
    measured = []
    for family, rows in mine.groupby("family", sort=False):
        if rows["sequences_seen"].nunique() >= LEAST and rows["objective"].nunique() == 1:
            for column, (what, digits) in measures.items():
                if column in rows and rows[column].notna().all():
                    measured.append((str(family), what, digits, rows.groupby("sequences_seen")[column].mean()))
    return measured
