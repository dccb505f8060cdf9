"""The best of each family, chosen by cross-validation and tested once (Wang & Isola 2020, table 4)."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval import Table, compare
from recipes.study.analysis.groups import Values, architectures
from recipes.study.plan import ARRAYS, ENCODERS

MOST = 8  # families whose best are compared two by two


def best_of_each_family(mine: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """Chosen by cross-validation on a task's training split, tested once on the rest, then against each other.

    Among encoders that are alike except their objective; where others are there, too, also among all. More than
    ``MOST`` families are not compared two by two: a study of that size says what it compares (``compare``).
    """
    tables: list[Table] = []
    sentences: list[str] = []
    for which, group in reversed(list(architectures(mine))):
        lines, tests = [], []
        for task in tasks:
            rows = group.dropna(subset=[f"{task}_cv", f"{task}_test"])
            if not len(rows):
                continue
            chosen = {
                family: family_rows.loc[family_rows[f"{task}_cv"].idxmax()]
                for family, family_rows in rows.groupby("family", sort=False)
            }
            right = {family: array_of(out, row["name"], f"{task}_test_right") for family, row in chosen.items()}
            for family, row in [*chosen.items(), ("best of all", rows.loc[rows[f"{task}_cv"].idxmax()])]:
                n = len(array_of(out, row["name"], f"{task}_test_right"))
                error = 1.96 * math.sqrt(row[f"{task}_test"] * (100 - row[f"{task}_test"]) / n) if n else math.nan
                cells = [row[f"{task}_cv"], row[f"{task}_test"], error, row[f"{task}_acc"]]
                shape = [f"{row['alignment']:.3f}", f"{row['uniformity']:.3f}"]
                lines.append([task, family, row["name"], *(f"{value:.2f}" for value in cells), *shape])
            few = len(chosen) <= MOST
            comparisons = compare({str(f): {task: r} for f, r in right.items() if len(r)}) if few else []
            tests += [r | {"difference": 100 * (right[r["a"]].mean() - right[r["b"]].mean())} for r in comparisons]
            ranked = sorted(chosen, key=lambda family: -chosen[family][f"{task}_cv"])
            if few and len(ranked) > 1:
                scores = ", ".join(f"{family} {chosen[family][f'{task}_test']:.2f}" for family in ranked)
                sentences.append(
                    f"{task}, best of each family ({which}), chosen by CV and tested once, in %: {scores}."
                )
        if lines:
            tables += _best_tables(which, lines, tests, sentences)
    return tables, sentences


def _best_tables(which: str, lines: list[list[str]], tests: list[dict[str, Any]], sentences: list[str]) -> list[Table]:
    """The table of :func:`best_of_each_family` and that of its tests; what they say is added to ``sentences``."""
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
        sentences.append(
            f"Families' best ({which}) that differ by more than chance (p < 0.05, corrected): "
            f"{'; '.join(clear) or 'none'}."
        )
    return tables


def holm(p: list[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): each times the number of those not smaller, made monotone."""
    order, adjusted, highest = np.argsort(p), np.empty(len(p)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted.tolist()


def array_of(out: Path, name: str, key: str) -> Values:
    """An array that was measured of an encoder; empty where there is none."""
    try:
        with np.load(out / ENCODERS / name / ARRAYS, allow_pickle=False) as arrays:
            return arrays[key]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return np.zeros(0)
