"""Scores of an encoder: probes, similarities and geometry of tasks that were read, over any function of sentences."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sklearn.metrics import f1_score, mean_squared_error
from tqdm import tqdm

from eval.probes import SEED, Logistic, Probe, Regression, RegressorSettings, kfold, nested, regress, split
from eval.sts import Similarity, aggregate, correlate, cosines
from eval.tasks import GROUPS, METRICS, Data, Part, Task, choose_tasks, data_folder, kind_of, read
from sentemb.errors import InputError
from sentemb.geometry import (
    alignment,
    effective_rank,
    l2_normalize,
    mean_cosine,
    tolerance,
    uniformity,
    uniformity_optimum,
)
from sentemb.validation import (
    CachedEncoder,
    DevScore,
    Embeddings,
    HeldOutPairs,
    ItemScores,
    Sides,
    held_out_geometry,
    sides_of,
)

Encode = Callable[[Sequence[str]], np.ndarray]  # n sentences to [n, d], all finite


@dataclass(frozen=True)
class ScoringSettings:
    """How tasks are scored; the defaults are SentEval's "default configuration", with its scikit-learn probe."""

    probe: Probe = field(default_factory=Logistic)
    folds: int = 10  # of every cross-validation
    seed: int = SEED  # of the folds of MRPC and TREC and of the regressors
    device: str = "cpu"  # of the regressors
    positives: str = "gt4"  # pairs of STS-B that count as positive: scored above 4 (gt4), or at least 4 (ge4)
    geometry_part: str = "all"  # of STS-B: all, train, dev, test, or none
    dev: bool = True  # whether STS-B and SICK-R are scored on their dev part, too

    def texts(self, data: Data) -> list[str]:
        """The sentences of a task's score and geometry, repeats and all."""
        if data.task.scheme != "similarity" or data.task.form == "sts":
            return data.texts
        wanted = {"test", *(["dev"] if self.dev else [])} | (self.geometry_parts(data) if _is_stsb(data) else set())
        return [text for name, part in data.parts.items() if name in wanted for text in part.first + part.second]

    def geometry_parts(self, data: Data) -> set[str]:
        """The parts of STS-B for its alignment and uniformity."""
        return {name for name in data.parts if self.geometry_part in ("all", name)}


@dataclass(frozen=True)
class Scored:
    """A task's row of the results, and what does not fit in one."""

    row: dict[str, Any]
    correct: np.ndarray | None = None  # [n] whether each test row was right, for paired tests
    predictions: Any = None  # of similarities: {subset: (scores, gold)}; of regressors: Regression


def score(data: Data, encode: Encode, settings: ScoringSettings, similarity: Similarity | None = None) -> Scored:
    """Score one task.

    Args:
        data: the task read. encode: gives its embeddings, all finite.
        settings: how. similarity: of two embeddings, for tasks of similarity; cosine if None.

    Raises:
        InputError: what ``encode`` raises.
    """
    start = time.perf_counter()
    if data.task.probed:
        scored = _probed(data, encode, settings)
    elif data.task.scheme == "similarity":
        scored = _similar(data, encode, similarity, settings.dev)
    else:
        scored = _regressed(data, encode, settings)
    scored.row["seconds"] = round(time.perf_counter() - start, 2)
    return scored


def _features(part: Part, encode: Encode) -> np.ndarray:
    """Sentences' embeddings, or ``[|u - v|, u * v]`` of pairs."""
    u = encode(part.first)
    if not part.second:
        return u
    v = encode(part.second)
    return np.concatenate([np.abs(u - v), u * v], axis=1)


def _probed(data: Data, encode: Encode, settings: ScoringSettings) -> Scored:
    task, probe, folds = data.task, settings.probe, settings.folds
    x = np.concatenate([_features(part, encode) for part in data.parts.values()])
    y = np.concatenate([part.gold for part in data.parts.values()])
    ends = np.cumsum([len(part) for part in data.parts.values()])
    rows = {name: np.arange(end - len(part), end) for (name, part), end in zip(data.parts.items(), ends, strict=True)}
    if task.scheme != "split":
        _refuse_folds(y[rows.get("train", rows.get("all"))], folds, task.scheme)
    if task.scheme == "nested":
        result, truth = nested(probe, x, y, folds), y
        how = f"nested stratified {folds}-fold {{}} by inner {folds}-fold, seed {SEED}"
    elif task.scheme == "kfold":
        result = kfold(probe, x, y, rows["train"], rows["test"], folds, settings.seed)
        truth = y[rows["test"]]
        how = f"{{}} by stratified {folds}-fold on train, seed {settings.seed}; test"
    else:
        result = split(probe, x, y, rows["train"], rows["dev"], rows["test"])
        truth = y[rows["test"]]
        how = "{} by dev; trained on train; test"
    row = {
        "acc": result.acc,
        "devacc": result.devacc,
        "n": len(truth),
        "protocol": how.format(probe.protocol(task.scheme)),
        "chosen": result.chosen,
    }
    if task.f1:
        row["f1"] = round(100 * float(f1_score(truth, result.predicted)), 2)
    return Scored(row, result.predicted == truth)


def _refuse_folds(y: np.ndarray, folds: int, scheme: str) -> None:
    """InputError where a class has fewer rows than there are folds, the inner ones of a nested scheme included."""
    least = int(np.bincount(y).min())
    smallest = least - -(-least // folds) if scheme == "nested" else least
    if smallest < folds:
        raise InputError(f"{folds} folds are too many, as the smallest class has {least} rows; choose fewer (--folds)")


def _is_stsb(data: Data) -> bool:
    return "STS-B" in data.task.name


def _similar(data: Data, encode: Encode, similarity: Similarity | None, with_dev: bool) -> Scored:
    parts = data.parts if data.task.form == "sts" else {"test": data.parts["test"]}
    predictions = {name: (_pair_scores(part, encode, similarity), part.gold) for name, part in parts.items()}
    row = aggregate(predictions)
    how = "cosine" if similarity is None else "the given similarity"
    row["protocol"] = f"{how} of pairs, no training; Spearman of all pairs together" + (
        "" if data.task.form == "sts" else ", test"
    )
    if with_dev and "dev" in data.parts:
        part = data.parts["dev"]
        dev = correlate(_pair_scores(part, encode, similarity), part.gold)
        row["dev"] = {"spearman": 100 * dev.spearman, "pearson": 100 * dev.pearson, "n": dev.n}
    return Scored(row, predictions=predictions)


def _pair_scores(part: Part, encode: Encode, similarity: Similarity | None) -> np.ndarray:
    u, v = encode(part.first), encode(part.second)
    if similarity is None:
        return cosines(u, v)
    scores = np.array([float(similarity(a, b)) for a, b in zip(u, v, strict=True)])
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        pair = part.first[broken[0]], part.second[broken[0]]
        raise InputError(f"the similarity of {pair[0]!r} and {pair[1]!r} is {scores[broken[0]]}; it must be finite")
    return scores


def _regressed(data: Data, encode: Encode, settings: ScoringSettings) -> Scored:
    train, dev, test = (data.parts[name] for name in ("train", "dev", "test"))
    regression: Regression = regress(
        (_features(train, encode), train.gold),
        (_features(dev, encode), dev.gold),
        _features(test, encode),
        RegressorSettings(settings.seed),
        settings.device,
    )
    agreement = correlate(regression.predicted, test.gold)
    row = {
        "pearson": 100 * agreement.pearson,
        "spearman": 100 * agreement.spearman,
        "mse": float(mean_squared_error(test.gold, regression.predicted)),
        "devpearson": 100 * regression.devpearson,
        "n": len(test),
        "protocol": "softmax regressor over |u - v|, u * v (Tai et al. 2015), stopped by dev Pearson; test",
    }
    return Scored(row, predictions=regression)


def measure(
    model: SentenceTransformer,
    tasks: Sequence[Data],
    pairs: HeldOutPairs | None,
    batch_size: int = 128,
    progress: bool = False,
    settings: ScoringSettings | None = None,
    cache: Embeddings | None = None,
    failed: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, Scored]]:
    """Everything about a model: its results, and for each task what paired tests need of its items.

    Args:
        model: any SentenceTransformer. tasks: read by :func:`eval.tasks.read`.
        pairs: held-out neighbours for the geometry, or None to leave them out.
        batch_size: sentences a forward pass. progress: show bars.
        settings: how tasks are scored. cache: embeddings that are known already.
        failed: tasks that were asked for and could not be read, with the reason; they make averages incomplete.

    Returns:
        ``{"dimension", "tasks": {name: row}, "averages", "failed", "geometry", "encoded", "reused"}``. A probed row has
        ``acc`` and ``devacc`` in percent, ``n``, ``protocol``, ``chosen`` and ``seconds`` (without encoding); MRPC
        also ``f1``; for rows of pairs see :func:`eval.sts.aggregate` and :func:`score`. A task whose embeddings
        are not finite joins ``failed`` and does not stop the others. No random state is touched.
    """
    settings, failed = settings or ScoringSettings(), dict(failed or {})
    encode = CachedEncoder(model, batch_size, progress, cache)
    sides = sides_of(model, encode)
    paired = pairs.first + pairs.second if pairs and sides.second is None else []
    encode.prepare([text for task in tasks for text in settings.texts(task)] + paired)
    usable = []
    for data in tasks:
        try:
            encode.refuse(settings.texts(data))
            usable.append(data)
        except InputError as error:
            failed[data.task.name] = str(error)
    rows: dict[str, dict[str, Any]] = {}
    scored_tasks = {}
    for data in tqdm(usable, desc="scoring", unit="task", disable=not progress):
        try:
            scored = score(data, encode, settings)
        except InputError as error:
            failed[data.task.name] = str(error)
            continue
        rows[data.task.name] = scored.row
        scored_tasks[data.task.name] = scored
    means, geometry = averages(rows, failed, [data.task for data in tasks]), None
    try:
        geometry = _geometry(usable, encode, sides, pairs, settings)
    except InputError as error:
        failed["geometry"] = str(error)
    result = {
        "dimension": model.get_embedding_dimension(),
        "tasks": rows,
        "averages": means,
        "failed": failed,
        "geometry": geometry,
        "encoded": encode.encoded,
        "reused": encode.reused,
    }
    return result, scored_tasks


def items_of(scored: Mapping[str, Scored]) -> dict[str, ItemScores]:
    """What two encoders are compared by: each test row of the classified tasks, each pair of the similarities."""
    items = {}
    for task, outcome in scored.items():
        if outcome.correct is not None:
            items[task] = ItemScores(outcome.correct.astype(float), scale=100, accuracy=True)
        elif isinstance(outcome.predictions, dict):
            similarities, gold = (np.concatenate(parts) for parts in zip(*outcome.predictions.values(), strict=True))
            items[task] = ItemScores(similarities, gold.astype(float), items="pairs", scale=100)
    return items


def score_model(
    model: SentenceTransformer,
    tasks: Sequence[Data],
    pairs: HeldOutPairs | None,
    batch_size: int = 128,
    progress: bool = False,
    settings: ScoringSettings | None = None,
    cache: Embeddings | None = None,
) -> dict[str, Any]:
    """The results of :func:`measure` alone."""
    return measure(model, tasks, pairs, batch_size, progress, settings, cache)[0]


def averages(
    rows: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], tasks: Iterable[Task] = ()
) -> dict[str, dict[str, Any]]:
    """Means of what was asked for: ``{name: {"value", "of", "complete", "missing"}}``.

    ``transfer`` and ``sts`` are the means of seven that papers print, where all seven were asked for; else
    ``mean`` is over the probed tasks and ``mean_similarity`` over the tasks of similarity, where there are several.
    A mean without a task that failed is marked incomplete.

    Args:
        rows: of the tasks that were scored. failed: the others, with the reason.
        tasks: those asked for; only needed for ones that failed and are not in TASKS.
    """
    kinds = {name: kind_of(name, row) for name, row in rows.items()}
    kinds |= {name: kind_of(name, {}) for name in failed} | {task.name: task.kind for task in tasks}
    means = {}
    for kind, group, other in (("probe", "transfer", "mean"), ("similarity", "sts", "mean_similarity")):
        names = [name for name in (*rows, *failed) if kinds[name] == kind]
        metric = METRICS[kind]
        label, wanted = (group, list(GROUPS[group])) if set(GROUPS[group]) <= set(names) else (other, names)
        have = [name for name in wanted if name in rows]
        if len(wanted) > 1 and have:
            means[label] = {
                "value": round(float(np.mean([rows[name][metric] for name in have])), 2),
                "of": have,
                "complete": have == wanted,
                "missing": [name for name in wanted if name not in rows],
            }
    return means


def _geometry(
    tasks: Sequence[Data], encode: Encode, sides: Sides, pairs: HeldOutPairs | None, settings: ScoringSettings
) -> dict[str, Any] | None:
    """Of the held-out neighbours, else of STS-B; and STS-B's under its name, and tolerance by task."""
    geometry: dict[str, Any] = {}
    if pairs:
        geometry |= held_out_geometry(sides, pairs)
    stsb = next((data for data in tasks if _is_stsb(data) and settings.geometry_parts(data)), None)
    if stsb:
        shape = stsb_geometry(stsb, encode, settings.positives, settings.geometry_part)
        geometry = (geometry or shape) | {"STS-B": shape}
    within = {
        data.task.name: tolerance(rows, labels).item()
        for data in tasks
        if data.task.probed and not next(iter(data.parts.values())).second
        for rows, labels in [_all_rows(data, encode)]
    }
    if within:
        geometry["tolerance"] = within
    return geometry or None


def _all_rows(data: Data, encode: Encode) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of unit length and labels of every row of a task of single sentences."""
    parts = data.parts.values()
    rows = torch.from_numpy(encode([text for part in parts for text in part.first]))
    rows /= rows.norm(dim=1, keepdim=True).clamp_min(1e-12)  # in place: they may be gigabytes
    return rows, torch.from_numpy(np.concatenate([part.gold for part in parts]))


def stsb_dev(data: Data, encode: Encode) -> dict[str, float]:
    """STS-B dev while a model trains: Spearman x 100 of cosines, alignment and uniformity (:func:`stsb_geometry`)."""
    part = data.parts["dev"]
    agreement = correlate(_pair_scores(part, encode, None), part.gold)
    shape = stsb_geometry(data, encode, part="dev")
    return {
        "stsb_dev_spearman": 100 * agreement.spearman,
        "stsb_alignment": shape["alignment"],
        "stsb_uniformity": shape["uniformity"],
    }


def stsb_dev_score(folder: Path | None = None) -> DevScore:
    """STS-B dev as the score by which a run chooses its best model: ``sentemb.train(..., dev=stsb_dev_score())``.

    Args:
        folder: SentEval's, which holds ``downstream/``; None: ``$SENTEMB_DATA/senteval``.

    Raises:
        InputError: STS-B is not there.
    """
    folder = data_folder(folder)
    (task,) = choose_tasks("STS-B", folder)
    data = read(task, folder, "dev")
    return DevScore(
        "stsb_dev_spearman",
        lambda model: stsb_dev(data, CachedEncoder(model)),
        "stsb",
        lambda encode: stsb_dev(data, encode),
    )


def stsb_geometry(data: Data, encode: Encode, positives: str = "gt4", part: str = "all") -> dict[str, Any]:
    """Alignment and uniformity on STS-B by SimCSE's definition (Gao et al. 2021, footnote 3).

    Positive pairs are those scored above 4 (``positives`` "ge4": at least 4); uniformity uses both sentences of every
    pair, repeats kept, over all pairs of them at once. Embeddings are scaled to unit length first.

    Args:
        data: STS-B read. encode: sentences to embeddings. part: "train", "dev", "test", or "all" three.

    Returns:
        ``alignment``, ``uniformity`` and ``uniformity_optimum`` (nats), ``effective_rank``, ``mean_cosine``, ``pairs``,
        ``sentences``, ``split``, ``definition``, ``source``.
    """
    parts = [p for name, p in data.parts.items() if part in ("all", name)]
    x = l2_normalize(torch.from_numpy(encode([text for p in parts for text in p.first])).double())
    y = l2_normalize(torch.from_numpy(encode([text for p in parts for text in p.second])).double())
    gold = np.concatenate([p.gold for p in parts])
    chosen = torch.from_numpy(gold >= 4 if positives == "ge4" else gold > 4)
    both = torch.cat([x, y])
    name = "STS-B " + ("train, dev and test" if part == "all" else part)
    definition = (
        f"mean squared distance of pairs scored {'at least' if positives == 'ge4' else 'above'} 4; "
        f"log mean exp(-2 squared distance) of all sentences, repeats kept; unit length (Gao et al. 2021)"
    )
    return {
        "alignment": alignment(x[chosen], y[chosen]).item(),
        "uniformity": uniformity(both).item(),
        "uniformity_optimum": uniformity_optimum(both.shape[1]),
        "effective_rank": effective_rank(both).item(),
        "mean_cosine": mean_cosine(both).item(),
        "pairs": int(chosen.sum()),
        "sentences": len(both),
        "split": part,
        "definition": definition,
        "source": name,
    }
