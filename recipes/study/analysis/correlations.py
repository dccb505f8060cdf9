"""Rank correlations of accuracy with what was measured of the embeddings, with bootstrap intervals."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, kendalltau, rankdata

from eval import Table
from recipes.study.analysis.groups import Values, groups

RESAMPLES, SEED, LEAST = 1000, 0, 8  # encoders below which no correlation is told
MRR = "the MRR of held-out positives"
MIXTURES = np.linspace(0, 1, 21)  # weights of alignment beside uniformity, both over their standard deviation


def spearman(x: Values, y: Values) -> float:
    """Rank correlation of ``[n]`` and ``[n]``; NaN where one is constant."""
    return float(_correlation(rankdata(x)[None], rankdata(y))[0])


def _correlation(rows: Values, y: Values) -> Values:
    """Pearson correlation of each row ``[m, n]`` with ``[n]``."""
    rows, y = rows - rows.mean(axis=1, keepdims=True), y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        return rows @ y / np.sqrt((rows * rows).sum(axis=1) * (y @ y))


def mixtures(alignment: Values, uniformity: Values) -> Values:
    """``[21, n]``: w * alignment + (1 - w) * uniformity, each over its standard deviation, for w in MIXTURES."""
    a, u = (values / max(values.std(), 1e-12) for values in (alignment, uniformity))
    return MIXTURES[:, None] * a + (1 - MIXTURES[:, None]) * u


def best_mixture(accuracy: Values, alignment: Values, uniformity: Values) -> int:
    """Number of the mixture that goes down most surely as accuracy goes up (losses: lower is better)."""
    coefficients = _correlation(rankdata(mixtures(alignment, uniformity), axis=1), rankdata(accuracy))
    return int(np.nanargmin(coefficients)) if np.isfinite(coefficients).any() else 0


def _mixed(measure: Callable[[Values, Values], float]) -> Callable[..., float]:
    def statistic(accuracy: Values, alignment: Values, uniformity: Values) -> float:
        return measure(accuracy, mixtures(alignment, uniformity)[best_mixture(accuracy, alignment, uniformity)])

    return statistic


def kendall(x: Values, y: Values) -> float:
    """Kendall's tau-b."""
    return float(kendalltau(x, y).statistic)


def interval(statistic: Callable[..., float], *values: Values) -> tuple[float, float, float]:
    """A statistic with its 95 % bootstrap interval over encoders (percentile, 1,000 resamples, seeded)."""
    estimate = statistic(*values)
    if not math.isfinite(estimate):
        return math.nan, math.nan, math.nan
    drawn = bootstrap(
        values,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).bootstrap_distribution
    low, high = np.nanpercentile(drawn, [2.5, 97.5]) if np.isfinite(drawn).any() else (math.nan, math.nan)
    return estimate, float(low), float(high)


def correlations(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Spearman and Kendall of each task's accuracy with each measure, and with the best mixture of two."""
    lines, sentences = [], []
    for (name, group), task in itertools.product(list(groups(mine)), tasks):
        rows = group.dropna(subset=[f"{task}_acc", "alignment", "uniformity"])
        if len(rows) < LEAST:
            continue
        accuracy, a, u = (rows[column].to_numpy(float) for column in (f"{task}_acc", "alignment", "uniformity"))
        weight = MIXTURES[best_mixture(accuracy, a, u)]
        measured = {
            "alignment": (interval(spearman, accuracy, a), interval(kendall, accuracy, a)),
            "uniformity": (interval(spearman, accuracy, u), interval(kendall, accuracy, u)),
            f"{weight:.2f} alignment + {1 - weight:.2f} uniformity": (
                interval(_mixed(spearman), accuracy, a, u),
                interval(_mixed(kendall), accuracy, a, u),
            ),
        }
        if "retrieval_mrr" in rows and rows["retrieval_mrr"].notna().all():
            mrr = rows["retrieval_mrr"].to_numpy(float)
            measured[MRR] = interval(spearman, accuracy, mrr), interval(kendall, accuracy, mrr)
        for number, (what, (rho, tau)) in enumerate(measured.items()):
            lines.append([task, name, str(len(rows)), what, *(_with_bounds(*value) for value in (rho, tau))])
            if name in ("all", "one architecture"):
                clear = "" if rho[1] > 0 or rho[2] < 0 else ", which may be chance"
                what = ("the alignment loss", "the uniformity loss", "the best mixture of both", MRR)[number]
                sentences.append(
                    f"{task} accuracy and {what}, {len(rows)} encoders ({name}): Spearman {_with_bounds(*rho)}{clear} "
                    f"({'positive: the higher the MRR' if what == MRR else 'negative: the lower the loss'}, the higher "
                    "the accuracy)."
                )
    head = ["task", "encoders", "n", "with", "Spearman [95%]", "Kendall [95%]"]
    note = (
        "Of nested accuracy with losses of held-out pairs (negative where a lower one goes with higher accuracy) and "
        "with retrieval. Intervals: "
        "1,000 bootstrap resamples of the encoders. The mixture's weight (of losses over their standard deviation) is "
        "the best of 21, chosen anew in each resample; that it was chosen makes it look somewhat better than it is."
    )
    return ([Table("Rank correlation of accuracy and geometry", head, lines, (note,))] if lines else []), sentences


def _with_bounds(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
