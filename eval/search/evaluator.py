"""Search as an evaluator for the trainers of sentence-transformers."""

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from eval.metrics_file import append_metrics
from eval.search.dev_score import PASSAGES, QUERIES
from eval.search.names import search_task
from eval.search.sampling import search_sample
from eval.search.scorer import DEPTH, measure_search
from eval.search.task import SearchTask
from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.retrieval import CUT


class SearchEvaluator(SentenceEvaluator):
    """How well a model finds passages, as ``evaluator=`` of a sentence-transformers trainer.

    Args:
        task: what :func:`eval.search.search_task` takes: ``"search:DIR"`` (judged queries), ``"passages:CORPUS"`` (a
            sentence finds its passage), or a :class:`SearchTask`.
        k: ranks of MAP and recall, at least 10. batch_size: texts a forward pass.
        queries, passages: of the fixed sample that is searched (:func:`eval.search.search_sample`); None: all.
        name: goes before every metric, as ``NAME_ndcg@10``.
        primary: the metric that selects the best checkpoint. write_csv: whether a call adds a line to a file.

    Raises:
        InputError: the task cannot be read, or an unknown metric; before training begins.
    """

    def __init__(
        self,
        task: SearchTask | str,
        k: int = DEPTH,
        batch_size: int = 128,
        queries: int | None = QUERIES,
        passages: int | None = PASSAGES,
        name: str = "",
        primary: str = "ndcg@10",
        write_csv: bool = True,
    ) -> None:
        super().__init__()
        if k < CUT or batch_size < 1:
            raise InputError(f"k must be at least {CUT} and batch_size 1, got {k} and {batch_size}")
        choose("metric", primary, (f"ndcg@{CUT}", f"mrr@{CUT}", f"map@{k}", f"recall@{k}"))
        read = search_task(task)
        self.task = search_sample(read, queries or len(read.queries), passages or len(read.passages))
        self.k, self.batch_size, self.name, self.write_csv = k, batch_size, name, write_csv
        self.primary_metric = f"{name}_{primary}" if name else primary

    def __call__(  # type: ignore[override]  # as its own evaluators narrow it
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Scores of ``model``, 0 to 1; a line of ``search_results.csv`` in ``output_path`` as well."""
        mode = model.training
        try:
            items = measure_search(model, self.task, self.k, self.batch_size).items
        finally:
            model.train(mode)
        metrics = {title.lower(): float(each.values.mean()) for title, each in items.items()}
        if output_path is not None and self.write_csv:
            name = f"search{'_' + self.name if self.name else ''}_results.csv"
            append_metrics(Path(output_path) / name, {"epoch": epoch, "steps": steps, **metrics})
        metrics = {f"{self.name}_{key}" if self.name else key: value for key, value in metrics.items()}
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics
