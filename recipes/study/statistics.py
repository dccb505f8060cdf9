"""Statistics of a study: the best of each family, rank correlations with intervals, seeds, tests, curves.

Every table is ``{"title", "note", "head", "rows"}`` with cells as text; ``said`` are plain sentences, made from the
numbers. Encoders of ``reference`` rows, and those that diverged, are left out.
"""

import itertools
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, kendalltau, rankdata

from eval import Table, as_text, compare
from recipes.study.plan import ARRAYS, ENCODERS
from sentemb.geometry import uniformity_optimum

RESAMPLES, SEED, LEAST = 1000, 0, 8  # encoders below which no correlation is told
MRR = "the MRR of held-out partners"
SHOWN = 8  # encoders that did not end well and are told one by one
MIXTURES = np.linspace(0, 1, 21)  # weights of alignment beside uniformity, both over their standard deviation
ARCHITECTURE = ["encoder", "towers", "batch_size", "lr", "steps"]
Values = np.ndarray


def statistics(table: pd.DataFrame, tasks: list[str], out: Path) -> dict[str, Any]:
    """All tables and sentences that the study's rows allow.

    Args:
        table: of :func:`recipes.study.results.collect`. tasks: names. out: the study's folder, for which rows of a
            task each encoder got right.
    """
    mine = table[(table["status"] == "ok") & ~table["reference"]]
    parts: list[tuple[list[Table], list[str]]] = [_progress(table)]
    if len(mine):
        tasks = [task for task in tasks if f"{task}_acc" in mine]
        for part in (_best, _correlations, _seeds, _ratios, _temperatures, _circle):
            parts.append(part(mine, tasks, out))
    tables = [t for found, _ in parts for t in found]
    return {
        "tables": [{"title": t.title, "note": " ".join(t.notes), "head": t.head, "rows": t.lines} for t in tables],
        "said": [sentence for _, said in parts for sentence in said],
    }


def printed(found: dict[str, Any]) -> str:
    """Statistics as text for a terminal."""
    tables = [Table(t["title"], t["head"], t["rows"], (t["note"],) if t["note"] else ()) for t in found["tables"]]
    return "\n\n".join([as_text(tables), *found["said"]])


def _progress(table: pd.DataFrame) -> tuple[list[Table], list[str]]:
    own = table[~table["reference"]]
    counts = own["status"].value_counts()
    said = [f"{len(own)} encoders: {', '.join(f'{n} {status}' for status, n in counts.items())}."]
    lost = own[own["status"] != "ok"]
    said += [f"{row['name']} {row['status']}: {row['reason']}." for _, row in lost.head(SHOWN).iterrows()]
    said += [f"{len(lost) - SHOWN} more did not end well; the table tells why."] if len(lost) > SHOWN else []
    return [], said


# ---- the best of each family (the paper's table 4)


def _best(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Chosen by cross-validation on a task's training split, tested once on the rest, then against each other.

    Among encoders that are alike but for their objective; where others are there, too, also among all.
    """
    tables: list[Table] = []
    said: list[str] = []
    for which, group in reversed(list(_architectures(mine))):
        lines, tests = [], []
        for task in tasks:
            rows = group.dropna(subset=[f"{task}_cv", f"{task}_test"])
            if not len(rows):
                continue
            chosen = {family: own.loc[own[f"{task}_cv"].idxmax()] for family, own in rows.groupby("family", sort=False)}
            right = {family: _array(out, row["name"], f"{task}_test_right") for family, row in chosen.items()}
            for family, row in [*chosen.items(), ("best of all", rows.loc[rows[f"{task}_cv"].idxmax()])]:
                n = len(_array(out, row["name"], f"{task}_test_right"))
                error = 1.96 * math.sqrt(row[f"{task}_test"] * (100 - row[f"{task}_test"]) / n) if n else math.nan
                cells = [row[f"{task}_cv"], row[f"{task}_test"], error, row[f"{task}_acc"]]
                shape = [f"{row['alignment']:.3f}", f"{row['uniformity']:.3f}"]
                lines.append([task, family, row["name"], *(f"{value:.2f}" for value in cells), *shape])
            found = compare({str(f): {task: r} for f, r in right.items() if len(r)})
            tests += [r | {"difference": 100 * (right[r["a"]].mean() - right[r["b"]].mean())} for r in found]
            ranked = sorted(chosen, key=lambda family: -chosen[family][f"{task}_cv"])
            if len(ranked) > 1:
                scores = ", ".join(f"{family} {chosen[family][f'{task}_test']:.2f}" for family in ranked)
                said.append(f"{task}, best of each family ({which}), chosen by CV and tested once, in %: {scores}.")
        if lines:
            tables += _best_tables(which, lines, tests, said)
    return tables, said


def _best_tables(which: str, lines: list[list[str]], tests: list[dict[str, Any]], said: list[str]) -> list[Table]:
    """The table of :func:`_best` and that of its tests; what they say is added to ``said``."""
    head = ["task", "family", "encoder", "5-fold CV", "test", "+- (95%)", "nested", "alignment", "uniformity"]
    note = (
        "Of each family the encoder with the highest cross-validated accuracy on 80 % of a task's rows, then tested on "
        "the other 20 %, once."
    )
    tables = [Table(f"The best of each family: {which}", head, lines, (note,))]
    if tests:
        adjusted = holm([r["p"] for r in tests])
        rows = [
            [r["task"], r["a"], r["b"], f"{r['difference']:+.2f}", str(r["only_a"]), str(r["only_b"]), f"{r['p']:.2g}",
             f"{p:.2g}"]
            for r, p in zip(tests, adjusted, strict=True)
        ]  # fmt: skip
        head = ["task", "a", "b", "a - b, points", "only a right", "only b right", "p", "p (Holm)"]
        note = "McNemar's exact test, two-sided, on those test rows; Holm's correction over all of this table."
        tables.append(Table(f"The families' best against each other: {which}", head, rows, (note,)))
        clear = [f"{r['a']} and {r['b']} on {r['task']}" for r, p in zip(tests, adjusted, strict=True) if p < 0.05]
        said.append(
            f"Families' best ({which}) that differ by more than chance (p < 0.05, corrected): "
            f"{'; '.join(clear) or 'none'}."
        )
    return tables


def holm(p: list[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): each times the number of those not smaller, made monotone."""
    order, found, highest = np.argsort(p), np.empty(len(p)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        found[i] = highest
    return found.tolist()


def _array(out: Path, name: str, key: str) -> Values:
    try:
        with np.load(out / ENCODERS / name / ARRAYS, allow_pickle=False) as arrays:
            return arrays[key]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return np.zeros(0)


# ---- does geometry explain accuracy?


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
    found = _correlation(rankdata(mixtures(alignment, uniformity), axis=1), rankdata(accuracy))
    return int(np.nanargmin(found)) if np.isfinite(found).any() else 0


def _mixed(measure: Callable[[Values, Values], float]) -> Callable[..., float]:
    def statistic(accuracy: Values, alignment: Values, uniformity: Values) -> float:
        return measure(accuracy, mixtures(alignment, uniformity)[best_mixture(accuracy, alignment, uniformity)])

    return statistic


def kendall(x: Values, y: Values) -> float:
    """Kendall's tau-b."""
    return float(kendalltau(x, y).statistic)


def interval(statistic: Callable[..., float], *values: Values) -> tuple[float, float, float]:
    """A statistic with its 95 % bootstrap interval over encoders (percentile, 1,000 resamples, seeded)."""
    found = statistic(*values)
    if not math.isfinite(found):
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
    return found, float(low), float(high)


def _architectures(mine: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All encoders; then those of the commonest architecture, batch, learning rate and length, if there are others."""
    yield "all", mine
    alike = [own for _, own in mine.groupby([c for c in ARCHITECTURE if c in mine], dropna=False, sort=False)]
    if len(alike) > 1:
        yield "one architecture", max(alike, key=len)


def _groups(mine: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """As :func:`_architectures`, and each family of the last."""
    name, group = "", mine
    for name, group in _architectures(mine):
        yield name, group
    if group["family"].nunique() > 1:
        for family, own in group.groupby("family", sort=False):
            yield f"{family}, {name}", own


def _correlations(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    lines, said = [], []
    for (name, group), task in itertools.product(list(_groups(mine)), tasks):
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
            lines.append([task, name, str(len(rows)), what, *(_told(*value) for value in (rho, tau))])
            if name in ("all", "one architecture"):
                clear = "" if rho[1] > 0 or rho[2] < 0 else ", which may be chance"
                what = ("the alignment loss", "the uniformity loss", "the best mixture of both", MRR)[number]
                said.append(
                    f"{task} accuracy and {what}, {len(rows)} encoders ({name}): Spearman {_told(*rho)}{clear} "
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
    return ([Table("Rank correlation of accuracy and geometry", head, lines, (note,))] if lines else []), said


def _told(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


# ---- seeds


def _seeds(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
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
    said = [
        "Between seeds of one setting the standard deviation is "
        + ", ".join(f"{value:.2f} points of {task}" for task, value in zip(tasks, pooled, strict=True))
        + " (pooled): smaller differences than twice that say nothing."
    ]
    head = ["setting", "seeds", *(c.removesuffix("_acc") for c in columns)]
    return [Table("The same setting with other seeds", head, lines, ("Mean and standard deviation.",))], said


# ---- weights of alignment and uniformity


def _ratios(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Whether accuracy over the weight ratio is an inverted U: the best ratio lies inside."""
    if not {"align", "uniform", "alpha", "t"} <= set(mine):
        return [], []
    rows = mine[mine["align"].notna() & mine["uniform"].notna() & mine["contrastive"].isna()]
    if not len(rows):
        return [], []
    rows = max((own for _, own in rows.groupby([c for c in ARCHITECTURE if c in rows], dropna=False)), key=len)
    rows = rows.assign(ratio=rows["align"] / (rows["align"] + rows["uniform"]))
    lines, inside, told = [], 0, 0
    for (alpha, t), own in rows.groupby(["alpha", "t"]):
        for task in tasks:
            means = own.groupby("ratio")[f"{task}_acc"].mean().dropna()
            if len(means) < 4:
                continue
            best = float(means.idxmax())  # type: ignore[arg-type]
            inner = means.index.min() < best < means.index.max()
            inside, told = inside + inner, told + 1
            ends = [f"{means.iloc[i]:.2f} at {means.index[i]:.2f}" for i in (0, -1)]
            lines.append([task, f"{alpha:g}", f"{t:g}", ends[0], f"{means.max():.2f} at {best:.2f}", ends[1]])
    if not lines:
        return [], []
    head = ["task", "alpha", "t", "lowest ratio", "best ratio", "highest ratio"]
    note = "Accuracy (nested) and the share of alignment's weight, align / (align + uniform)."
    said = [f"Over the weight of alignment the best accuracy lies inside, not at an end, in {inside} of {told} curves."]
    return [Table("Accuracy over the weight ratio", head, lines, (note,))], said


# ---- temperature (Wang & Liu 2021)


def _temperatures(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """How uniformity, tolerance and accuracy follow the temperature, and whether they do so beyond the seeds' error."""
    lines, said = [], []
    columns = ["uniformity", *(f"{task}_tolerance" for task in tasks), *(f"{task}_acc" for task in tasks)]
    alike = ["family", "objective_name", "pairs", *(c for c in ARCHITECTURE if c in mine)]
    for (family, objective, *_), own in mine.groupby(alike, dropna=False, sort=False):
        repeated = own.dropna(subset=["temperature"]) if "temperature" in own else own[:0]
        counts = repeated.groupby("temperature").agg(runs=("seed", "size"), settings=("setting", "nunique"))
        told = counts.index[(counts["runs"] > 1) & (counts["settings"] == 1)]  # one run has no error
        repeated = repeated[repeated["temperature"].isin(told)]
        if len(told) < 4:
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
            said.append(f"{family} ({objective}): {column.replace('_', ' ')} over the temperature {verdict}.")
        best = {task: float(mean[f"{task}_acc"].idxmax()) for task in tasks}  # type: ignore[arg-type]
        where = ", ".join(f"{task} at {t:g}" for task, t in best.items())
        said.append(f"{family} ({objective}): the most accurate temperature is {where}.")
    if not lines:
        return [], []
    head = ["family", "temperature", *(c.replace("_acc", ", %").replace("_", " ") for c in columns)]
    return [Table("Over the temperature", head, lines, ("Mean and standard error over seeds.",))], said


# ---- the circle (Wang & Isola 2020, figures 3 and 4)


def _circle(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    rows = mine[mine["dimension"] == 2]
    if not len(rows):
        return [], []
    least = math.exp(uniformity_optimum(2))
    mean = rows.groupby("family", sort=False)["potential"].agg(["mean", "std", "count"])
    lines = [
        [str(family), f"{int(r['count'])}", f"{r['mean']:.4f}", f"{r['std']:.4f}", f"{r['mean'] - least:+.4f}"]
        for family, r in mean.iterrows()
    ]
    order = ", ".join(f"{family} {value:.4f}" for family, value in mean["mean"].sort_values().items())
    said = [
        f"On the circle the mean Gaussian potential (t = 2), of which {least:.4f} is the least possible, is: {order}."
    ]
    head = ["family", "encoders", "mean potential", "sd", f"above {least:.4f}"]
    return [Table("Mean Gaussian potential on the circle", head, lines)], said
