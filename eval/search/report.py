"""Scores of search as tables and JSON: intervals over queries, and each encoder against the first."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.search.scorer import SearchScores
from eval.significance import randomisation_test
from eval.tables import PACKAGES, Table, as_text
from sentemb.geometry import LEVEL, bootstrap_interval, resampled_mean_differences
from sentemb.search import SearchTask
from sentemb.validation import ONE_SIDE, ItemScores, compare_encoders
from sentemb.versions import versions_of

SCORED_BY = {"dot": "inner product"}


def compare_search(scores: Mapping[str, SearchScores], seed: int = 0) -> list[dict[str, Any]]:
    """Each encoder against the first, on each metric: rows of :func:`sentemb.validation.compare_encoders`.

    ``p`` comes from :func:`eval.significance.randomisation_test`. Where there are fewer than two queries there is no
    row.
    """
    first, *others = scores
    rows = []
    for other in others:
        for row in compare_encoders({other: scores[other].items, first: scores[first].items}, seed):
            a, b = (scores[name].items[row["measure"]] for name in (other, first))
            rows.append(row | {"p": randomisation_test(a.values, b.values, _groups(a), seed=seed)})
    return rows


def _groups(items: ItemScores) -> np.ndarray | None:
    return items.documents if items.by_document else None


def interval(items: ItemScores, seed: int = 0) -> tuple[float, float] | None:
    """The bootstrap interval of a mean over queries; None of one query."""
    if items.units < 2:
        return None
    zeros = np.zeros_like(items.values)
    return bootstrap_interval(resampled_mean_differences(items.values, zeros, _groups(items), seed=seed), items.units)


def search_text(task: SearchTask, scores: Mapping[str, SearchScores]) -> str:
    """For a terminal: what was searched, the scores, each encoder against the first."""
    lines = [describe_search(task), *task.notes]
    lines += [f"{', '.join(names)}: {how}" for how, names in _how_ranked(scores).items()]
    return "\n".join([*lines, "", as_text(_tables(scores, compare_search(scores)))])


def describe_search(task: SearchTask) -> str:
    """One line on a task's size."""
    judged = sum(map(len, task.judgements))
    return (
        f"{task.name}: {len(task.queries):,} queries, {len(task.passages):,} passages, {judged:,} judgements; "
        f"{LEVEL:.0%} bootstrap intervals over {_drawn(task)}"
    )


def _drawn(task: SearchTask) -> str:
    values = np.zeros(len(task.queries))
    return "documents" if ItemScores(values, documents=task.documents).by_document else "queries"


def _how_ranked(scores: Mapping[str, SearchScores]) -> dict[str, list[str]]:
    """Which encoders rank by something else than the cosine of one encoder's embeddings."""
    kinds: dict[str, list[str]] = {}
    for name, each in scores.items():
        if (each.sides, each.score) != (ONE_SIDE, "cosine"):
            kinds.setdefault(f"{each.sides}, by {SCORED_BY.get(each.score, each.score)}", []).append(name)
    return kinds


def _tables(scores: Mapping[str, SearchScores], comparison: Sequence[Mapping[str, Any]]) -> list[Table]:
    metrics = next(iter(scores.values())).items
    lines = []
    for name, each in scores.items():
        cells = []
        for metric in metrics:
            bounds = interval(each.items[metric])
            low_high = f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""
            cells.append(f"{each.items[metric].values.mean():.4f}{low_high}")
        lines.append([name, str(each.max_tokens or "no limit"), *cells])
    made = [Table("search", ["encoder", "max tokens", *metrics], lines)]
    if comparison:
        lines = [
            [
                row["encoder"],
                row["measure"],
                f"{row['difference']:+.4f}",
                f"[{row['low']:+.4f}, {row['high']:+.4f}]",
                f"{row['p']:.2g}",
                row["verdict"],
            ]
            for row in comparison
        ]
        head = ["encoder", "measure", "difference", "interval", "p", "verdict"]
        made.append(Table(f"difference from {next(iter(scores))}; p of a paired randomisation test", head, lines))
    return made


def search_json(task: SearchTask, scores: Mapping[str, SearchScores]) -> str:
    """An object with ``results`` and ``comparison``."""
    results = []
    for name, each in scores.items():
        row: dict[str, Any] = {}
        for metric, items in each.items.items():
            low, high = interval(items) or (None, None)
            row[metric] = {"value": float(items.values.mean()), "low": low, "high": high}
        how = {"max_tokens": each.max_tokens, "ranked_by": each.score, "sides": each.sides}
        results.append({"checkpoint": name, **how, "scores": row})
    content = {
        "task": task.name,
        "queries": len(task.queries),
        "passages": len(task.passages),
        "judgements": sum(map(len, task.judgements)),
        "notes": task.notes,
        "level": LEVEL,
        "drawn": _drawn(task),
        "results": results,
        "comparison": compare_search(scores),
        "versions": versions_of(PACKAGES),
    }
    return json.dumps(content, indent=2)
