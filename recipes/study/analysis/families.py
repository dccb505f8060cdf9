"""Families of one setting and several seeds, against their untrained twin and, where a study asks, each other."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval import Table
from recipes.study.analysis.best import array_of
from recipes.study.analysis.difference import Difference, difference
from recipes.study.plan import STUDY

MRR, STS = "held-out MRR", "STS-B"
NOTE = (
    "Means over seeds. Differences with 95 % intervals for other seeds and other items: test rows of nested "
    "cross-validation for a task, novels (documents) for MRR. Those of STS-B are for other seeds only. A family of one "
    "encoder is taken as it is: its intervals are not for other seeds of it, and STS-B has none (-). Families with the "
    "same seeds, so with the same first weights and order of pairs, are paired by seed. Intervals are pointwise: of 20 "
    "without any difference, one excludes 0."
)
GEOMETRY = {  # column: title, digits
    "alignment": ("alignment", 3),
    "uniformity": ("uniformity", 3),
    "effective_rank": ("effective rank", 1),
    "information": ("information, nats", 3),
    "nearest_gap": ("gap to the 10 nearest", 3),
    "mrr_after_head": ("MRR after the head", 4),
    "seconds": ("seconds", 1),
}
MEANS = {"retrieval_mrr": (MRR, 4), "STS-B_spearman": (STS, 2)}


def of_families(
    table: pd.DataFrame, tasks: list[str], out: Path
) -> tuple[list[Table], list[str], list[dict[str, Any]]]:
    """Tables and sentences of families, and their differences as numbers, for figures.

    Args:
        table: all rows, with references. tasks: names. out: the study's folder.
    """
    about = _about(out)
    done = table[table["status"] == "ok"]
    families = {str(name): rows for name, rows in done.groupby("family", sort=False) if rows["setting"].nunique() == 1}
    tables = _chosen(about.get("choices", []))
    repeated = {name: rows for name, rows in families.items() if len(rows) > 1 and not rows["reference"].any()}
    against, drawn = _against_untrained(repeated, done, tasks, out)
    if any(len(rows) > 2 for rows in repeated.values()):
        tables += [*against, _geometry(repeated, tasks), *_around_the_head(repeated, tasks)]
    compared: Compared = {}
    sentences = []
    for claim, (a, b) in about.get("compare", {}).items():
        if missing := [name for name in (a, b) if name not in families]:
            compared[claim] = a, b, {}
            sentences.append(f"{claim}: not compared, as {missing[0]} has no finished encoders of one setting.")
            continue
        measured = dict(_differences(families[a], families[b], tasks, out))
        compared[claim] = a, b, measured
        verdicts = "; ".join(
            f"{what} {each.text(digits)} ({each.verdict})" for what, (each, digits) in measured.items()
        )
        sentences.append(f"{claim} ({a} less {b}): {verdicts}.")
        drawn += _records("claims", claim, measured)
    return [*tables, *_claims(compared)], sentences, drawn


Compared = dict[
    str, tuple[str, str, dict[str, tuple[Difference, int]]]
]  # by claim: two families, and their differences


def _claims(compared: Compared) -> list[Table]:
    columns = list(dict.fromkeys(what for *_, measured in compared.values() for what in measured)) or [MRR]
    lines = [
        [claim, a, b, *(measured[what][0].text(measured[what][1]) if what in measured else "-" for what in columns)]
        for claim, (a, b, measured) in compared.items()
    ]
    head = ["claim", "a", "b", *(f"{what}, a - b [95%]" for what in columns)]
    return [Table("Claims", head, lines, (NOTE,))] if lines else []


def _around_the_head(families: dict[str, pd.DataFrame], tasks: list[str]) -> list[Table]:
    """What the embedding before a head has more than that after it (Chen et al. 2020, section 4.2)."""
    columns = {f"{task}_acc": (f"{task}_after_head", task, 2) for task in tasks}
    columns |= {"retrieval_mrr": ("mrr_after_head", MRR, 4)}
    columns = {
        before: shape for before, shape in columns.items() if all(shape[0] in rows for rows in families.values())
    }
    lines = []
    for name, rows in families.items():
        if columns and rows[[shape[0] for shape in columns.values()]].notna().to_numpy().all():
            cells = []
            for before, (after, _, digits) in columns.items():
                first, second = (rows[column].to_numpy(float)[:, None] for column in (before, after))
                cells += [f"{rows[after].mean():.{digits}f}", difference(first, second, paired=True).text(digits)]
            lines.append([name, *cells])
    head = [
        "family",
        *(text for _, what, _ in columns.values() for text in (f"{what} after", f"{what}, before - after")),
    ]
    note = "Means over seeds, with 95 % intervals for other seeds (Student's t)."
    return [Table("Before against after the head", head, lines, (note,))] if lines else []


def _against_untrained(
    families: dict[str, pd.DataFrame], done: pd.DataFrame, tasks: list[str], out: Path
) -> tuple[list[Table], list[dict[str, Any]]]:
    """Means of each family, and their difference from the untrained encoder of the same spec."""
    if not {"trained", "towers"} <= set(done):
        return [], []
    twins = {_spec(row): done[(done["family"] == row["family"])] for _, row in done[~done["trained"]].iterrows()}
    lines, drawn = [], []
    for name, rows in families.items():
        twin = twins.get(_spec(rows.iloc[0]))
        measured = {} if twin is None else dict(_differences(rows, twin, tasks, out))
        cells = []
        for what, mean, digits in _means(rows, tasks):
            each = measured.get(what)
            cells += [f"{mean:.{digits}f}", "-" if each is None else each[0].text(digits)]
        lines.append([name, str(len(rows)), *cells])
        drawn += _records("untrained", name, measured)
    if not lines:
        return [], drawn
    columns = [what for what, *_ in _means(next(iter(families.values())), tasks)]
    head = ["family", "seeds", *(text for what in columns for text in (what, f"{what} - untrained [95%]"))]
    return [Table("Families against their untrained twins", head, lines, (NOTE,))], drawn


def _means(rows: pd.DataFrame, tasks: list[str]) -> list[tuple[str, float, int]]:
    """What is measured of a family: name, mean over seeds, digits."""
    measured = [(task, float(rows[f"{task}_acc"].mean()), 2) for task in tasks]
    return measured + [(what, float(rows[c].mean()), digits) for c, (what, digits) in MEANS.items() if c in rows]


def _differences(
    a: pd.DataFrame, b: pd.DataFrame, tasks: list[str], out: Path
) -> Iterator[tuple[str, tuple[Difference, int]]]:
    """What two families differ by, where both have been measured: name, difference and digits."""
    a, b = a.sort_values("seed"), b.sort_values("seed")
    paired = a["seed"].tolist() == b["seed"].tolist()
    for task in tasks:
        first, second = _items(a, f"{task}_right", out), _items(b, f"{task}_right", out)
        if first is not None and second is not None:
            yield task, (difference(first, second, paired=paired).scaled(100), 2)
    first, second = _items(a, "reciprocal_ranks", out), _items(b, "reciprocal_ranks", out)
    if first is not None and second is not None:
        documents = array_of(out, str(a["name"].iloc[0]), "documents")
        yield MRR, (difference(first, second, documents if len(documents) else None, paired), 4)
    if "STS-B_spearman" in a and a["STS-B_spearman"].notna().all() and b["STS-B_spearman"].notna().all():
        first, second = (rows["STS-B_spearman"].to_numpy(float)[:, None] for rows in (a, b))
        yield STS, (difference(first, second, paired=paired), 2)


def _items(rows: pd.DataFrame, key: str, out: Path) -> np.ndarray | None:
    """``[seeds, n]``: what each encoder of a family made of each item; None where one has none."""
    arrays = [array_of(out, str(name), key).astype(float) for name in rows["name"]]
    return np.stack(arrays) if len(arrays[0]) and len({len(array) for array in arrays}) == 1 else None


def _geometry(families: dict[str, pd.DataFrame], tasks: list[str]) -> Table:
    """What the embeddings of each family look like, and what they cost."""
    titles = GEOMETRY | {f"{task}_after_head": (f"{task} after the head", 2) for task in tasks}
    present = {
        c: shape
        for c, shape in titles.items()
        if any(c in rows and rows[c].notna().any() for rows in families.values())
    }
    lines = []
    for name, rows in families.items():
        cells = []
        for column, (_, digits) in present.items():
            values = rows[column].dropna()
            cells.append(f"{values.mean():.{digits}f} +- {values.std():.{digits}f}" if len(values) > 1 else "-")
        lines.append([name, f"{rows['lr'].iloc[0]:g}", str(rows["objective"].iloc[0]), *cells])
    head = ["family", "rate", "objective", *(title for title, _ in present.values())]
    return Table("Geometry of the families", head, lines, ("Mean and standard deviation over seeds.",))


def _chosen(choices: list[dict[str, Any]]) -> list[Table]:
    """What held-out retrieval chose, of how many trials, and what the worst of them had."""
    lines = []
    for choice in choices:
        scores = [each["retrieval_mrr"] for each in choice["trials"] if each["retrieval_mrr"] is not None]
        ends = [f"{max(scores):.4f}", f"{min(scores):.4f}"] if scores else ["-", "-"]
        lost = len(choice["trials"]) - len(scores)
        lines.append([choice["family"], str(len(choice["trials"])), str(lost), choice["chosen"], *ends])
    head = ["family", "trials", "not ended", "chosen", "its MRR", "lowest MRR"]
    note = "A trial has another seed than the encoders that take its settings, and no task."
    return [Table("What held-out retrieval chose", head, lines, (note,))] if lines else []


def _spec(row: pd.Series) -> tuple[str, str]:
    """What an encoder and its untrained twin have in common; dropout makes no difference before training."""
    return re.sub(r",dropout=[^,]*", "", str(row["encoder"])), str(row["towers"])


def _records(group: str, label: str, measured: dict[str, tuple[Difference, int]]) -> list[dict[str, Any]]:
    """Differences that have an interval, for figures."""
    return [
        {"group": group, "label": label, "measure": what, "estimate": d.estimate, "low": d.low, "high": d.high}
        for what, (d, _) in measured.items()
        if math.isfinite(d.high)
    ]


def _about(out: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads((out / STUDY).read_text(encoding="utf-8")))
    return {}
