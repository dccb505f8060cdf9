"""Scores of a model from Python: ``eval.evaluate``."""

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sentence_transformers import SentenceTransformer

from eval.probes import PROBES
from eval.scorer import ScoringSettings, measure
from eval.search import SearchTask, describe_search, is_search, measure_search, search_task
from eval.tasks import METRICS, Data, choose_tasks, data_folder, kind_of, read
from sentemb.encoders import at_layer, load, truncated
from sentemb.errors import InputError
from sentemb.registry import build, choose

if TYPE_CHECKING:
    from pandas import DataFrame

HEADLINE = "nDCG@10"  # the score of search in the table


class EmbeddingOptions(TypedDict, total=False):
    """Which embedding of a model is scored: without any of these the one of its ``encode``.

    ``truncate``: only its first dimensions, this number. ``layer``: that of :func:`sentemb.encoders.at_layer`.
    """

    truncate: int | None
    layer: int | str | None


def _scored(
    model: SentenceTransformer, truncate: int | None = None, layer: int | str | None = None
) -> SentenceTransformer:
    """A model whose ``encode`` gives the embedding that is scored, with the weights of ``model``.

    Raises:
        InputError: the model has not this layer, or fewer dimensions.
    """
    model = model if layer is None else at_layer(model, layer)
    return model if truncate is None else truncated(model, truncate)


def evaluate(
    model: SentenceTransformer | str | Path,
    tasks: str | SearchTask | Sequence[str | SearchTask] | None = None,
    data: str | Path | None = None,
    probe: str = "logistic",
    folds: int = 10,
    batch_size: int = 128,
    progress: bool = True,
    **embedding: Unpack[EmbeddingOptions],
) -> "DataFrame":
    """Score a model on SentEval's tasks, as ``python -m eval.senteval`` does, and on search (``eval.search``).

        eval.evaluate("runs/first", "MR,CR,STS-B")
        eval.evaluate("runs/first", ["MR", "search:DIR", "passages:BOOKS"])

    Args:
        model: a SentenceTransformer, a run folder, a model folder, or a hub name.
        tasks: names of tasks or groups (``transfer``, ``sts``), as a list or joined by commas; among them
            ``search:DIR`` (judged queries: a folder in BEIR's layout or a table), ``passages:CORPUS`` (a sentence finds
            its passage in held-out documents), or a :class:`eval.search.SearchTask`. Default: MR and CR, or the
            built-in sample's two tasks where there is no data.
        data: SentEval's folder, which holds ``downstream/``; default: ``$SENTEMB_DATA/senteval``.
        probe: a spec of the probe: ``logistic``, ``mlp``, ``knn:k=5``, ...
        folds: of every cross-validation.
        batch_size: sentences a forward pass.
        progress: show bars.
        **embedding: ``truncate=N`` scores only the first N dimensions of each embedding, as
            ``SentenceTransformer(truncate_dim=N)`` gives them (of two towers: of each one's). ``layer=N`` scores a
            layer of a transformer, by the mean of its token states: its number, 0 for the word embeddings, or
            ``first_last``, the mean of the first and the last one (:class:`EmbeddingOptions`).

    Returns:
        A row for each task, by its name: ``metric`` (accuracy, spearman, pearson, nDCG@10), ``score`` and ``dev``
        (x 100), ``n`` (rows or queries scored), ``protocol``. ``attrs["averages"]`` has the means of the groups, and
        ``attrs["search"]`` by task all scores of search: the mean over queries, 0 to 1, of each metric.

    Raises:
        InputError: there is no such option or task, its data is missing, or the model is not a checkpoint, has fewer
            dimensions, not this layer or gives no finite embeddings; nothing has been scored by then.
    """
    from pandas import DataFrame

    options = [*list(signature(evaluate).parameters)[:-1], *EmbeddingOptions.__annotations__]
    for name in embedding:
        choose("option of eval.evaluate", name, options)
    if not isinstance(model, SentenceTransformer | str | Path):
        raise InputError(f"the model is a {type(model).__name__}; give a SentenceTransformer, a path or a hub name")
    if batch_size < 1 or folds < 2:
        name, least, value = ("batch_size", 1, batch_size) if batch_size < 1 else ("folds", 2, folds)
        raise InputError(f"{name} must be at least {least}, got {value}")
    listed = _listed(tasks)
    checkpoints = [] if isinstance(model, SentenceTransformer) else [model]
    searches = [search_task(name, checkpoints) for name in listed or () if is_search(name)]
    names = None if listed is None else [str(name) for name in listed if not is_search(name)]
    chosen = [] if searches and not names else _read(names, data)
    encoder = _scored(model if isinstance(model, SentenceTransformer) else load(model), **embedding)
    device = str(encoder.device)
    settings = ScoringSettings(build(PROBES, probe, "probe", device=device), folds, device=device, geometry_part="none")
    result, _ = measure(encoder, chosen, None, batch_size, progress, settings)
    for name, reason in result["failed"].items():
        raise InputError(f"{name}: {reason}")
    searched = [_searched(encoder, task, batch_size, progress) for task in searches]
    rows = [_row(name, row) for name, row in result["tasks"].items()]
    for task, scores in zip(searches, searched, strict=True):
        protocol = "; ".join([describe_search(task), *task.notes])
        headline = {"task": task.name, "metric": HEADLINE, "score": 100 * scores[HEADLINE], "dev": None}
        rows.append({**headline, "n": len(task.queries), "protocol": protocol})
    frame = DataFrame(rows).set_index("task")
    frame.attrs["averages"] = result["averages"]
    frame.attrs["search"] = {task.name: scores for task, scores in zip(searches, searched, strict=True)}
    return frame


def _listed(tasks: str | SearchTask | Sequence[str | SearchTask] | None) -> list[str | SearchTask] | None:
    """The tasks asked for one by one; None: those by default."""
    if tasks is None:
        return None
    if isinstance(tasks, SearchTask):
        return [tasks]
    return [name.strip() for name in tasks.split(",") if name.strip()] if isinstance(tasks, str) else list(tasks)


def _read(names: Sequence[str] | None, data: str | Path | None) -> list[Data]:
    """SentEval's tasks of these names."""
    folder = data_folder(Path(data) if data is not None else None)
    return [read(task, folder) for task in choose_tasks(None if names is None else ",".join(names), folder)]


def _searched(model: SentenceTransformer, task: SearchTask, batch_size: int, progress: bool) -> dict[str, float]:
    items = measure_search(model, task, batch_size=batch_size, progress=progress).items
    return {metric: float(each.values.mean()) for metric, each in items.items()}


def _row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table, of one of SentEval's tasks."""
    metric = METRICS[kind_of(name, row) or "probe"]
    dev = row.get("devacc", row.get("dev", {}).get(metric) if isinstance(row.get("dev"), dict) else None)
    title = {"acc": "accuracy"}.get(metric, metric)
    scores = {"metric": title, "score": row[metric], "dev": dev}
    return {"task": name, **scores, "n": row["n"], "protocol": row["protocol"]}
