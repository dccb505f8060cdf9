"""Scores of a model from Python: ``eval.evaluate``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformer

from eval.probes import PROBES
from eval.scorer import ScoringSettings, measure
from eval.tasks import METRICS, choose_tasks, data_folder, kind_of, read
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.registry import build

if TYPE_CHECKING:
    from pandas import DataFrame


def evaluate(
    model: SentenceTransformer | str | Path,
    tasks: str | Sequence[str] | None = None,
    data: str | Path | None = None,
    probe: str = "logistic",
    folds: int = 10,
    batch_size: int = 128,
    progress: bool = True,
) -> "DataFrame":
    """Score a model on SentEval's tasks, as ``python -m eval.senteval`` does.

        eval.evaluate("runs/first", "MR,CR,STS-B")

    Args:
        model: a SentenceTransformer, a run folder, a model folder, or a hub name.
        tasks: names of tasks or groups (``transfer``, ``sts``), as a list or joined by commas. Default: MR and CR, or
            the built-in sample's two tasks where there is no data.
        data: SentEval's folder, which holds ``downstream/``; default: ``$SENTEMB_DATA/senteval``.
        probe: a spec of the probe: ``logistic``, ``mlp``, ``knn:k=5``, ...
        folds: of every cross-validation.
        batch_size: sentences a forward pass.
        progress: show bars.

    Returns:
        A row for each task, by its name: ``metric`` (accuracy, spearman, pearson), ``score`` and ``dev`` (x 100),
        ``n`` (rows scored), ``protocol``. ``attrs["averages"]`` has the means of the groups.

    Raises:
        InputError: there is no such task, its data is missing, or the model is no checkpoint or gives no finite
            embeddings; nothing has been scored by then.
    """
    from pandas import DataFrame

    if not isinstance(model, SentenceTransformer | str | Path):
        raise InputError(f"the model is a {type(model).__name__}; give a SentenceTransformer, a path or a hub name")
    if batch_size < 1 or folds < 2:
        name, least, value = ("batch_size", 1, batch_size) if batch_size < 1 else ("folds", 2, folds)
        raise InputError(f"{name} must be at least {least}, got {value}")
    folder = data_folder(Path(data) if data is not None else None)
    names = tasks if tasks is None or isinstance(tasks, str) else ",".join(tasks)
    chosen = [read(task, folder) for task in choose_tasks(names, folder)]
    encoder = model if isinstance(model, SentenceTransformer) else load(model)
    device = str(encoder.device)
    settings = ScoringSettings(build(PROBES, probe, "probe", device=device), folds, device=device, geometry_part="none")
    result, _ = measure(encoder, chosen, None, batch_size, progress, settings)
    for name, reason in result["failed"].items():
        raise InputError(f"{name}: {reason}")
    rows = []
    for name, row in result["tasks"].items():
        metric = METRICS[kind_of(name, row) or "probe"]
        dev = row.get("devacc", row.get("dev", {}).get(metric) if isinstance(row.get("dev"), dict) else None)
        title = {"acc": "accuracy"}.get(metric, metric)
        rows.append(
            {
                "task": name,
                "metric": title,
                "score": row[metric],
                "dev": dev,
                "n": row["n"],
                "protocol": row["protocol"],
            }
        )
    frame = DataFrame(rows).set_index("task")
    frame.attrs["averages"] = result["averages"]
    return frame
