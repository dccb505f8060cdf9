"""SentEval's own interface for scripts written against it, and an evaluator for sentence-transformers' trainers.

from eval.senteval import SE                 # instead of: from senteval.engine import SE
se = SE({"task_path": DIR, "usepytorch": True, "kfold": 10}, batcher, prepare)
results = se.eval(["MR", "STS12"])
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.probes import SEED, Logistic, Mlp, MlpSettings
from eval.scorer import Scored, ScoringSettings, score
from eval.sts import correlate
from eval.tasks import TASKS, Data, read
from sentemb.encoders import refuse_missing_device
from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.validation import refuse_broken

Batcher = Callable[[Any, list[list[str]]], Any]  # (params, sentences as lists of tokens) -> [n, d]
Prepare = Callable[[Any, list[list[str]]], Any]

UPSTREAM = {name: name for name in ("CR", "MR", "MPQA", "SUBJ", "SST2", "SST5", "TREC", "MRPC")} | {
    "SICKRelatedness": "SICK-R-supervised",
    "SICKEntailment": "SICK-E",
    "STSBenchmark": "STS-B-supervised",
    **{name: name for name in ("STS12", "STS13", "STS14", "STS15", "STS16")},
}
# Also SentEval's, and not offered here.
PROBING = ("Length", "WordContent", "Depth", "TopConstituents", "BigramShift", "Tense", "SubjNumber", "ObjNumber")
ABSENT = ("SNLI", "ImageCaptionRetrieval", *PROBING, "OddManOut", "CoordinationInversion")
CLASSIFIER = ("nhid", "optim", "batch_size", "tenacity", "epoch_size", "max_epoch", "dropout")


class Parameters(dict[str, Any]):
    """A dict whose keys are attributes too; one that is not there reads as None, as SentEval scripts expect."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling look for these
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


class SE:
    """SentEval's engine.

    Args:
        params: ``task_path`` (the folder that holds ``downstream/``); ``usepytorch`` (True: the MLP probe, False:
            logistic regression), ``kfold`` (5), ``seed`` (1111), ``batch_size`` (128 sentences a call of ``batcher``),
            ``classifier`` (``nhid`` and, if wanted, ``optim``, ``batch_size``, ``tenacity``, ``epoch_size``,
            ``max_epoch``, ``dropout``), ``similarity`` (of two embeddings, for STS; cosine without it), ``device``.
            The same object goes to both functions, which may keep things in it.
        batcher: ``(params, sentences)`` to ``[n, d]``; a sentence is a list of tokens and may be empty.
        prepare: ``(params, sentences)`` of a whole task, called before it.

    Raises:
        InputError: a parameter that cannot be used.
    """

    def __init__(self, params: dict[str, Any], batcher: Batcher, prepare: Prepare | None = None) -> None:
        self.params = Parameters(params)
        for key, default in (("usepytorch", True), ("seed", SEED), ("batch_size", 128), ("nhid", 0), ("kfold", 5)):
            self.params.setdefault(key, default)
        if not self.params.classifier:
            self.params.classifier = {"nhid": 0}
        if "nhid" not in self.params.classifier:
            raise InputError("params['classifier'] has no 'nhid'; give the number of hidden units, 0 for none")
        if not self.params.task_path:
            raise InputError("params has no 'task_path'; give the folder that holds downstream/")
        self.batcher, self.prepare = batcher, prepare or (lambda params, samples: None)
        self.list_tasks = list(UPSTREAM)
        self.results: dict[str, Any] = {}
        self.settings = self._settings()

    def _settings(self) -> ScoringSettings:
        params = self.params
        for key, least in (("kfold", 2), ("batch_size", 1), ("seed", 0)):
            if not isinstance(params[key], int) or params[key] < least:
                raise InputError(f"params[{key!r}] must be a whole number of at least {least}, got {params[key]!r}")
        device = str(params.device or "cpu")
        refuse_missing_device(device)
        probe: Any = Logistic(device)
        if params.usepytorch:
            ignored = sorted(set(self.params.classifier) - {*CLASSIFIER, "cudaEfficient"})
            if ignored:
                warnings.warn(f"params['classifier'] has {', '.join(ignored)}, which means nothing", stacklevel=3)
            mlp_options = {key: self.params.classifier[key] for key in CLASSIFIER if key in self.params.classifier}
            if not mlp_options["nhid"]:
                mlp_options.pop("dropout", None)  # upstream takes it and has nothing to drop
            try:
                probe = Mlp(MlpSettings(**mlp_options, seed=params.seed), device)
            except (AttributeError, TypeError, ValueError) as error:
                raise InputError(f"params['classifier'] cannot be used: {error}") from None
        return ScoringSettings(probe, params.kfold, params.seed, device)

    def eval(self, name: str | Sequence[str]) -> dict[str, Any]:
        """The results of one task, or ``{task: results}`` of several, with upstream's keys.

        MR, CR, SUBJ, MPQA, SST2, SST5, TREC, SICKEntailment: ``devacc, acc, ndev, ntest``; MRPC: also ``f1``;
        SICKRelatedness, STSBenchmark: ``devpearson, pearson, spearman, mse, yhat, ndev, ntest`` (fractions); STS12-16:
        a row a subset, ``pearson`` and ``spearman`` each (coefficient, p), ``nsamples``, and ``all`` with their
        ``mean``, ``wmean`` and, which upstream lacks, ``all``.

        Raises:
            InputError: an unknown task, files that cannot be read, or a batcher that returns another number of rows or
                a number that is not finite. In a list a task with bad files or rows gets ``{"error": sentence}`` and
                the others run; a name that is unknown or of a task that is not offered (SNLI, image captions, the
                probing tasks) raises before anything is encoded, as SentEval does.
        """
        if not isinstance(name, str):
            results_by_task = {}
            for task_name in name:
                _refuse_unknown(task_name)
            for task_name in name:
                try:
                    results_by_task[task_name] = self.eval(task_name)
                except InputError as error:
                    logging.error("%s: %s", task_name, error)
                    results_by_task[task_name] = {"error": str(error)}
            self.results = results_by_task
            return results_by_task
        _refuse_unknown(name)
        task = TASKS[UPSTREAM[name]]
        self.settings = self._settings()  # a script may have changed its params since
        self.params.current_task = name
        logging.debug("***** Transfer task : %s *****", name)
        data = read(task, Path(self.params.task_path))
        self.prepare(self.params, [text.split() for text in data.texts])
        self.results = _upstream(data, score(data, self._encode, self.settings, self.params.similarity))
        return self.results

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        size, parts = self.params.batch_size, list[np.ndarray]()
        for first in range(0, len(texts), size):
            batch = list(texts[first : first + size])
            rows = self.batcher(self.params, [text.split() for text in batch])
            try:
                if torch.is_tensor(rows):
                    rows = (rows.float() if rows.dtype == torch.bfloat16 else rows).detach().cpu()
                rows = np.asarray(rows)
                rows = rows.astype(np.float32) if rows.dtype.kind in "biu" or rows.dtype.itemsize < 4 else rows
            except ValueError as error:
                raise InputError(f"the batcher's rows are not an array ({error}); it must return [n, d]") from None
            if rows.dtype.kind != "f":
                raise InputError(f"the batcher returned an array of {rows.dtype}; it must return numbers, [n, d]")
            if rows.ndim != 2 or len(rows) != len(batch):
                raise InputError(
                    f"the batcher returned an array of shape {rows.shape} for a batch of {len(batch)} sentences "
                    f"(the first is {batch[0]!r}); it must return [{len(batch)}, d]"
                )
            if parts and rows.shape[1] != parts[0].shape[1]:
                raise InputError(
                    f"the batcher returned {rows.shape[1]} numbers a sentence after {parts[0].shape[1]} before "
                    f"(the batch's first is {batch[0]!r}); it must always return the same number"
                )
            parts.append(refuse_broken(batch, rows))
        return np.concatenate(parts)


def _refuse_unknown(name: str) -> None:
    if name in ABSENT:
        raise InputError(f"task {name!r} is not available; valid: {', '.join(UPSTREAM)}")
    choose("task", name, UPSTREAM)


def _upstream(data: Data, scored: Scored) -> dict[str, Any]:
    """A task's results under the names that SentEval gives them."""
    row, sizes = scored.row, {name: len(part) for name, part in data.parts.items()}
    if data.task.probed:
        ndev = sizes.get("dev", sizes.get("train", row["n"]))
        metrics = {"devacc": row["devacc"], "acc": row["acc"], "ndev": ndev, "ntest": row["n"]}
        return metrics | ({"f1": row["f1"]} if data.task.f1 else {})
    if data.task.scheme == "regression":
        metrics = {key: row[key] / 100 for key in ("devpearson", "pearson", "spearman")}
        return metrics | {
            "mse": row["mse"],
            "yhat": scored.predictions.predicted,
            "ndev": sizes["dev"],
            "ntest": row["n"],
        }
    metrics_by_subset: dict[str, Any] = {}
    for subset, pairs in scored.predictions.items():
        c = correlate(*pairs)
        metrics_by_subset[subset] = {
            "pearson": (c.pearson, c.pearson_p),
            "spearman": (c.spearman, c.spearman_p),
            "nsamples": c.n,
        }
    weights = [metrics_by_subset[subset]["nsamples"] for subset in metrics_by_subset]
    both = {}
    for kind in ("pearson", "spearman"):
        values = [metrics_by_subset[subset][kind][0] for subset in metrics_by_subset]
        both[kind] = {
            "all": row[kind] / 100,
            "mean": float(np.mean(values)),
            "wmean": float(np.average(values, weights=weights)),
        }
    return metrics_by_subset | {"all": both}
