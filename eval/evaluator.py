"""An evaluator for the trainers of sentence-transformers."""

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from eval.metrics_file import append_metrics
from eval.probes import PROBES
from eval.scorer import ScoringSettings, measure
from eval.tasks import Data, choose_tasks, data_folder, read
from sentemb.errors import InputError
from sentemb.registry import build, choose


class SentEvalEvaluator(SentenceEvaluator):
    """SentEval tasks as ``evaluator=`` of a sentence-transformers trainer.

    Args:
        tasks: names as ``python -m eval.senteval --tasks`` has them, ``"MR,STS-B"``. data: the folder that holds
            ``downstream/``; else ``$SENTEMB_DATA/senteval``. probe, folds: as on the command line; 5 folds are
            SentEval's fast mode. batch_size: sentences a forward pass. name: goes before every metric.
        primary: the metric that selects the best checkpoint; by default the first task's score on dev data where it has
            any (``MR_devacc``, ``STS-B_dev_spearman``), as test labels are not for selecting.

    Raises:
        InputError: an unknown task, probe or metric, or a file that cannot be read; all of it before training begins.
    """

    def __init__(
        self,
        tasks: str = "STS-B",
        data: str | Path | None = None,
        probe: str = "logistic",
        folds: int = 5,
        batch_size: int = 128,
        name: str = "",
        primary: str | None = None,
        write_csv: bool = True,
    ) -> None:
        super().__init__()
        if folds < 2 or batch_size < 1:
            raise InputError(f"folds must be at least 2 and batch_size 1, got {folds} and {batch_size}")
        folder = data_folder(Path(data) if data is not None else None)
        self.tasks = [read(task, folder) for task in choose_tasks(tasks, folder)]
        self.settings = ScoringSettings(build(PROBES, probe, "probe", device="cpu"), folds, geometry_part="none")
        self.batch_size, self.name, self.write_csv = batch_size, name, write_csv
        names = [key for task in self.tasks for key in _metrics_of(task)]
        metric = names[0] if primary is None else choose("metric", primary, names)
        self.primary_metric = f"{name}_{metric}" if name else metric

    def __call__(  # type: ignore[override]  # as its own evaluators narrow it
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Scores of ``model``, in percent; a line of ``senteval_results.csv`` in ``output_path`` as well."""
        mode = model.training
        try:
            result, _ = measure(model, self.tasks, None, self.batch_size, settings=self.settings)
        finally:
            model.train(mode)
        if result["failed"]:
            raise InputError("; ".join(f"{task}: {why}" for task, why in result["failed"].items()))
        metrics = {
            f"{task.task.name}_{key}": value
            for task in self.tasks
            for key, value in _metrics(result["tasks"][task.task.name]).items()
        }
        if output_path is not None and self.write_csv:
            name = f"senteval{'_' + self.name if self.name else ''}_results.csv"
            append_metrics(Path(output_path) / name, {"epoch": epoch, "steps": steps, **metrics})
        metrics = {f"{self.name}_{key}" if self.name else key: value for key, value in metrics.items()}
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics


def _metrics_of(data: Data) -> list[str]:
    """The metrics of a task, the one to select by first."""
    keys = {
        "similarity": ["dev_spearman", "spearman", "pearson"] if "dev" in data.parts else ["spearman", "pearson"],
        "regression": ["devpearson", "pearson", "spearman"],
    }.get(data.task.scheme, ["devacc", "acc", *(["f1"] if data.task.f1 else [])])
    return [f"{data.task.name}_{key}" for key in keys]


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    flat = {key: row[key] for key in ("devacc", "acc", "f1", "devpearson", "pearson", "spearman") if key in row}
    return flat | ({"dev_spearman": row["dev"]["spearman"]} if "dev" in row else {})
