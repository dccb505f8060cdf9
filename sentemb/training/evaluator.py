"""Held-out scores while a model trains."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accelerate import Accelerator
from sentence_transformers import SentenceTransformer

from sentemb.training.log import RunLog
from sentemb.training.selection import ModelSelection


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model while it trains."""

    score: Callable[[SentenceTransformer], dict[str, float]] | None = None  # held-out scores by name; None: none
    dev: str | None = None  # the one by which best/ is chosen, higher is better; None: best/ and last/ are not written
    saves: bool = True  # whether they are, with a dev score


SHOWN = {
    "teacher_similarity": "similarity to the teacher",
    "teacher_cosine": "cosine to the teacher",
    "search_ndcg_at_10": "search nDCG@10",
    "retrieval_mrr": "MRR",
    "heldout_alignment": "alignment",
    "heldout_uniformity": "uniformity",
}
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
        self.is_first = True  # of this session

    def evaluate(self, step: int, loss: float) -> None:
        """Score the model after ``step``; the loss of that step goes to the monitor. All processes wait."""
        with self.log.scoring():
            if self.evaluation.score is not None and self.accelerator.is_main_process:
                self._evaluate(step, loss)
            self.accelerator.wait_for_everyone()

    def _evaluate(self, step: int, loss: float) -> None:
        model, dev, start = self.selection.model, self.evaluation.dev, time.perf_counter()
        assert self.evaluation.score is not None
        if self.is_first:
            self.log.say(f"step {step}: scoring the model for the first time")
        scores = self.evaluation.score(model)
        model.train()
        self.log.add_scores(scores)
        if dev is not None and dev in scores:
            self.log.warn(self.log.monitor.check_dev_score(step, dev, scores[dev], loss))
        self.selection.save(step, scores)
        seconds = time.perf_counter() - start
        self.log.say(f"step {step}: {described(scores, dev)} ({seconds:.1f} s)")
        more = self.log.settings.evaluations(step, self.log.steps)
        if self.is_first and more:
            self.log.say(
                f"each evaluation takes about {_time(seconds)}, {more} more: {_time(more * seconds)}; the time left of "
                "training is without these"
            )
        self.is_first = False


def described(scores: Mapping[str, float], dev: str | None) -> str:
    """The dev score, MRR, alignment and uniformity, as far as they are among ``scores``; all of them if none is."""
    names = [name for name in dict.fromkeys([dev or "", *SHOWN]) if name in scores] or list(scores)
    return ", ".join(f"{SHOWN.get(name, name)} {scores[name]:.4f}" for name in names)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
