"""Held-out scores while a model trains."""

from collections.abc import Callable
from dataclasses import dataclass

from accelerate import Accelerator
from sentence_transformers import SentenceTransformer

from sentemb.training.log import RunLog
from sentemb.training.selection import ModelSelection


@dataclass(frozen=True)
class Evaluation:
    """What a model is scored by while it trains."""

    score: Callable[[SentenceTransformer], dict[str, float]] | None = None  # held-out scores by name; None: none
    dev: str | None = None  # the one by which best/ is chosen, higher is better; None: best/ and last/ are not written


NO_EVALUATION = Evaluation()


class Evaluator:
    """Scores the model on the main process; the scores go to the log, its monitor and the model selection."""

    def __init__(
        self,
        evaluation: Evaluation,
        selection: ModelSelection,
        log: RunLog,
        accelerator: Accelerator,
    ) -> None:
        self.evaluation, self.selection = evaluation, selection
        self.log, self.accelerator = log, accelerator

    def evaluate(self, step: int, loss: float) -> None:
        """Score the model after ``step``; the loss of that step goes to the monitor. All processes wait."""
        model, dev = self.selection.model, self.evaluation.dev
        with self.log.paused():
            if self.evaluation.score is not None and self.accelerator.is_main_process:
                scores = self.evaluation.score(model)
                model.train()
                self.log.add_scores(scores)
                if dev is not None and dev in scores:
                    self.log.warn(self.log.monitor.check_dev_score(step, dev, scores[dev], loss))
                self.selection.save(step, scores)
            self.accelerator.wait_for_everyone()
