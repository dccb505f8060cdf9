"""The best model so far and the last one scored: ``best/`` and ``last/`` of a run folder."""

import math
from collections.abc import Mapping
from pathlib import Path

from sentence_transformers import SentenceTransformer

from sentemb.runs import RunFolder, read_selected
from sentemb.storage import verify
from sentemb.training.checkpoints import card_of, save_selected_model


class ModelSelection:
    """Saves the model when it is scored: to ``last/``, and to ``best/`` where its dev score is the highest so far.

    Args:
        run: the run folder.
        model: the model that is trained.
        dev: name of the dev score, higher is better; None: no model is saved.
        best: the dev score of the model in ``best/``; -inf: there is none.
    """

    def __init__(self, run: Path, model: SentenceTransformer, dev: str | None, best: float = -math.inf) -> None:
        self.run, self.model, self.dev, self.best = run, model, dev, best

    def save(self, step: int, scores: Mapping[str, float]) -> None:
        """Save the model after ``step``, which has these held-out scores."""
        if self.dev is None or self.dev not in scores:
            return
        score, folder = scores[self.dev], RunFolder(self.run)
        targets = [folder.last]
        if score > self.best:
            self.best = score
            targets.append(folder.best)
        for target in targets:
            about = {"step": step, self.dev: score}
            save_selected_model(target, self.model, about, card_of(self.run, step, scores))


def saved_best(run: Path, done: int, dev: str | None) -> float:
    """The dev score of ``best/``; -inf where there is none, or one of a step after ``done``, which is trained again.

    (Such a folder stays until the next score, which replaces it.)
    """
    try:
        best = RunFolder(run).best
        verify(best)
        about = read_selected(best)
        return float(about[dev or ""]) if 0 <= about["step"] <= done and done else -math.inf
    except (OSError, ValueError, KeyError, TypeError):
        return -math.inf
