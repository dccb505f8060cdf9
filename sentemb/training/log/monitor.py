"""Signs of a training gone wrong: identical views, collapse, a dev score that falls while the loss does."""

import math

from sentemb.training.log.record import BatchGeometry
from sentemb.training.state import TrainState

MARGIN = 0.01  # share of the best dev score that may be lost before a warning
IDENTICAL = 1e-9  # alignment below which both views of a sentence are taken for the same
MASKED = 0.9  # share of the negatives left out by a guide, above which hardly any are left
COLLAPSED = 0.995  # mean cosine above which all sentences are taken for one point


class TrainingMonitor:
    """Warn once of each sign that a run goes wrong. The state stores past warnings for a resumed run."""

    def __init__(self, state: TrainState) -> None:
        self.state = state

    def check_dev_score(self, step: int, name: str, score: float, loss: float) -> str | None:
        """Compare a dev score with the best so far; a warning where it is well below, though the loss is lower."""
        best = self.state.best
        if math.isfinite(score) and (best is None or score > best[1]):
            self.state.best = (step, score, loss)
            self.state.warned.discard("falling")
            return None
        if best is None or score >= best[1] - MARGIN * abs(best[1]) or loss >= best[2]:
            return None
        return self._once(
            "falling",
            f"step {step}: {name} is {score:.4g}, below its best, {best[1]:.4g} at step {best[0]}, though the "
            f"loss falls ({best[2]:.4g} to {loss:.4g}); more training may make it worse, best/ keeps the best",
        )

    def check_geometry(self, step: int, geometry: BatchGeometry, self_pairs: bool) -> str | None:
        """A warning where both views of each sentence are identical, or all sentences are nearly one point.

        ``self_pairs``: both sides of each pair are the same sentence, so that only noise makes them differ.
        """
        if self_pairs and geometry.alignment < IDENTICAL:
            return self._once(
                "identical",
                f"step {step}: both views of each sentence are identical (alignment 0), so that training can only "
                "drive sentences apart and degenerates; give the encoder dropout (SimCSE: 0.1)",
            )
        if geometry.mean_cosine > COLLAPSED:
            return self._once(
                "collapse",
                f"step {step}: the embeddings collapse (mean cosine {geometry.mean_cosine:.4f}): all sentences are "
                "nearly one point; give more weight to uniformity or negatives, or a lower --lr",
            )
        return None

    def check_guide(self, step: int, masked: float | None) -> str | None:
        """A warning where a guide leaves out nearly all negatives; ``masked``: the share, None without a guide."""
        if masked is None or masked <= MASKED:
            return None
        return self._once(
            "guide",
            f"step {step}: the guide leaves out {masked:.1%} of the negatives, so that there is hardly anything to "
            "tell the positive from; give --guide a smaller margin, or another guide",
        )

    def _once(self, kind: str, warning: str) -> str | None:
        if kind in self.state.warned:
            return None
        self.state.warned.add(kind)
        return warning
