"""Signs of a training gone wrong: identical views, collapse, a dev score that falls while the loss does."""

import math
from collections.abc import Iterable, Sequence

MARGIN = 0.01  # share of the best dev score that may be lost before it is said


class TrainingMonitor:
    """Signs of a run gone wrong, each told once: identical views, collapse, a dev score that falls with the loss."""

    def __init__(self, best: Sequence[float] | None = None, told: Iterable[str] = ()) -> None:
        self.best = None if best is None else (int(best[0]), best[1], best[2])  # step, dev score, loss
        self.told = set(told)

    def better(self, step: int, dev: float, loss: float) -> bool:
        """Note a dev score; whether it is the best so far."""
        if not math.isfinite(dev) or (self.best and dev <= self.best[1]):
            return False
        self.best = (step, dev, loss)
        self.told.discard("falling")
        return True

    def falling(self, step: int, name: str, dev: float, loss: float) -> str | None:
        """The dev score is well below its best while the loss is lower than it was then."""
        if not self.best or dev >= self.best[1] - MARGIN * abs(self.best[1]) or loss >= self.best[2]:
            return None
        return self._once(
            "falling",
            f"step {step}: {name} is {dev:.4g}, below its best, {self.best[1]:.4g} at step {self.best[0]}, though the "
            f"loss falls ({self.best[2]:.4g} to {loss:.4g}); more training makes it worse, best/ keeps the best",
        )

    def degenerate(self, step: int, apart: float, cosine: float) -> str | None:
        """Views of one sentence at the distance 0, or all sentences at nearly one point."""
        if apart < 1e-9:
            return self._once(
                "identical",
                f"step {step}: both views of each sentence are identical (alignment 0), so that training can only "
                "drive sentences apart and degenerates; give the encoder dropout (SimCSE: 0.1)",
            )
        if cosine > 0.995:
            return self._once(
                "collapse",
                f"step {step}: the embeddings collapse (mean cosine {cosine:.4f}): all sentences are nearly one point; "
                "give more weight to uniformity or negatives, or a lower --lr",
            )
        return None

    def _once(self, kind: str, warning: str) -> str | None:
        if kind in self.told:
            return None
        self.told.add(kind)
        return warning
