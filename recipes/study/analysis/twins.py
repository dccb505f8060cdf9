"""What training did: the best of each family against the encoder of the same spec that nobody trained."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from eval import Table
from recipes.study.analysis.best import array_of
from recipes.study.plan import ENCODERS, PLANNED, STUDY
from recipes.study.results import kinds_of
from sentemb.errors import CorruptFolder, InputError

TWINS = ["encoder", "towers", "head"]  # what an encoder and its untrained twin have in common
MRR = "held-out MRR"
NOTE = (
    "Of each family the encoder with the highest cross-validated accuracy on 80 % of a task's rows, against the same "
    "encoder as it was made: on the other 20 %, in points, and in retrieval of held-out positives, each ranked by its "
    "encoder's own similarity. Paired bootstrap, 95 %: of test rows, and of documents where there are ten of them."
)


def against_twins(table: pd.DataFrame, tasks: list[str], out: Path) -> tuple[list[Table], list[str]]:
    """The best of each family, and of each kind of encoder, against its untrained twin among the references.

    The models' reciprocal ranks are computed here; where the corpus or a model is no longer there, they are left out.

    Args:
        table: all rows, with references. tasks: names. out: the study's folder.
    """
    matched = _matched(table, tasks)
    names = dict.fromkeys(name for *_, best, twin in matched for name in (best["name"], twin["name"]))
    ranks = _reciprocal_ranks(out, names)
    lines, sentences = [], []
    for kind, family, task, best, twin in matched:
        verdicts = _compared(out, task, str(best["name"]), str(twin["name"]), ranks)
        if family:
            lines += [[task, family, best["name"], *cells] for cells, _ in verdicts]
        elif verdicts:
            sentences.append(
                f"The best of {kind} by cross-validation on {task}, {best['name']}, against its untrained twin "
                f"{twin['name']}: {'; '.join(text for _, text in verdicts)}."
            )
    head = ["task", "family", "encoder", "measure", "trained - untrained [95%]", "verdict"]
    return ([Table("What training did", head, lines, (NOTE,))] if lines else []), sentences


Matched = tuple[str, str, str, pd.Series, pd.Series]  # kind, family (empty: all of the kind), task, best, twin


def _matched(table: pd.DataFrame, tasks: list[str]) -> list[Matched]:
    if not {*TWINS, "trained"} <= set(table):
        return []
    done = table[table["status"] == "ok"]
    of = {tuple(map(str, row[TWINS])): row for _, row in done[done["reference"] & ~done["trained"]].iterrows()}
    mine = done[~done["reference"] & done["trained"]]
    matched = []
    for kind, kind_rows in mine.groupby(kinds_of(mine), sort=False):
        families = [("", kind_rows), *kind_rows.groupby("family", sort=False)]
        for family, rows in families:
            for task in [task for task in tasks if rows.get(f"{task}_cv", pd.Series(dtype=float)).notna().any()]:
                best = rows.loc[rows[f"{task}_cv"].idxmax()]
                twin = of.get(tuple(map(str, best[TWINS])))
                if twin is not None:
                    matched.append((str(kind), str(family), task, best, twin))
    return matched


def _compared(out: Path, task: str, best: str, twin: str, ranks: dict[str, object]) -> list[tuple[list[str], str]]:
    """Cells of a table and a text for the task's test rows and for retrieval, where there is both."""
    from sentemb.validation import ItemScores, compare_encoders

    scored: dict[str, dict[str, ItemScores]] = {best: {}, twin: {}}
    for name in scored:
        if len(right := array_of(out, name, f"{task}_test_right")):
            scored[name][task] = ItemScores(np.asarray(right, dtype=np.float64), scale=100)
        if isinstance(items := ranks.get(name), ItemScores):
            scored[name][MRR] = items
    verdicts = []
    for row in compare_encoders(scored):
        digits = 2 if row["measure"] == task else 4
        difference = f"{row['difference']:+.{digits}f} [{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]"
        unit = " points" if row["measure"] == task else ""
        text = f"{row['measure']} {difference}{unit} ({row['verdict']})"
        verdicts.append(([row["measure"], difference, row["verdict"]], text))
    return verdicts


def _reciprocal_ranks(out: Path, names: Iterable[str]) -> dict[str, object]:
    """Of each encoder whose model is there, what :func:`sentemb.validation.held_out_items` says of retrieval."""
    names = list(names)
    if not names:
        return {}
    from sentemb.corpus import open_corpus
    from sentemb.encoders import load
    from sentemb.runs import MODEL, least_held_out
    from sentemb.validation import CachedEncoder, held_out_items, held_out_pairs, sides_of

    ranks: dict[str, object] = {}
    with suppress(InputError, OSError, ValueError, KeyError, TypeError):
        about = json.loads((out / STUDY).read_text(encoding="utf-8"))
        asked = json.loads((out / PLANNED / f"{names[0]}.json").read_text(encoding="utf-8"))["asked"]
        corpus = open_corpus(asked["corpus"], language=asked["language"])
        if corpus.fingerprint != about["corpus"]["fingerprint"]:
            return {}
        pairs = held_out_pairs(replace(corpus, least_held_out=least_held_out(about)))
        for name in names:
            with suppress(InputError, CorruptFolder, OSError, ValueError):
                model = load(out / ENCODERS / name / MODEL, device="cpu")
                ranks[name] = held_out_items(sides_of(model, CachedEncoder(model)), pairs)["retrieval_mrr"]
    return ranks
