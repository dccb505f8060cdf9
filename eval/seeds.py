"""Names of checkpoints in tables; checkpoints of one name are seeds of one model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.tasks import METRICS, TASKS, kind_of
from sentemb.errors import InputError

Results = Mapping[str, Mapping[str, Any]]  # a result of eval.scorer.measure by the encoder's name


def labels(checkpoints: Sequence[str], names: str | None) -> dict[str, tuple[str, str]]:
    """The name of each checkpoint, and its label in tables: the name, with its number where others have the name too.

    Args:
        checkpoints: paths; repeats count once. names: one for each, joined by commas; None: the paths.

    Raises:
        InputError: there are more or fewer names than checkpoints, or one is empty.
    """
    if names is None:
        return {path: (path, path) for path in checkpoints}
    parts = [name.strip() for name in names.split(",")]
    if len(parts) != len(checkpoints) or not all(parts):
        raise InputError(f"--names {names} has {len([*filter(None, parts)])} names for {len(checkpoints)} checkpoints")
    name_of = dict(zip(checkpoints, parts, strict=True))
    sizes, seen, labelled = Counter(name_of.values()), Counter[str](), {}
    for path, name in name_of.items():
        seen[name] += 1
        labelled[path] = name, f"{name} (seed {seen[name]})" if sizes[name] > 1 else name
    return labelled


def grouped(results: Results) -> dict[str, list[Mapping[str, Any]]]:
    """Results by the model's name; several results are seeds."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for label, result in results.items():
        groups.setdefault(result.get("name", label), []).append(result)
    return groups


def columns(result: Mapping[str, Any]) -> dict[str, float]:
    """Every headline score (x 100) of a result, by task in the order of TASKS, then its averages."""
    order = {name: place for place, name in enumerate(TASKS)}
    names = sorted(result["tasks"], key=lambda name: order.get(name, len(order)))
    scores = {name: result["tasks"][name][METRICS[kind_of(name, result["tasks"][name]) or "probe"]] for name in names}
    averages = result.get("averages", {})
    return scores | {label: average["value"] for label, average in averages.items() if average["complete"]}


def over_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (n - 1) of each score over seeds: ``{score: {"mean", "std", "n"}}``, x 100.

    ``std`` is None for one seed. Scores that a seed lacks are left out, as a mean of fewer would not compare.
    """
    rows = [columns(result) for result in results]
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    summary = {}
    for name in shared:
        values = [row[name] for row in rows]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        summary[name] = {"mean": float(np.mean(values)), "std": std, "n": len(values)}
    return summary
