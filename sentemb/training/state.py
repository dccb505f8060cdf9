"""The state of a run except its tensors: the plain values that a checkpoint stores in ``training.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Best = tuple[int, float, float]  # step, dev score, loss


@dataclass
class TrainState:
    """The plain values that a resumed run needs. The loop and its collaborators share one of these.

    Everything else is a function of (seed, step, rank): learning rate, data order and random numbers.
    """

    step: int = 0  # updates done
    rejected_updates: int = 0  # the last ones, one after another, whose loss or gradient was not finite
    best: Best | None = None  # what training is compared with, to warn of over-training
    warned: set[str] = field(default_factory=set)  # kinds of warnings that are given once
    seconds: float = 0.0  # of training, up to the last checkpoint

    def to_json(self) -> dict[str, Any]:
        """The values under the names of the file, which earlier versions wrote, too."""
        return {
            "step": self.step,
            "skipped": self.rejected_updates,
            "best": self.best,
            "told": sorted(self.warned),
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TrainState":
        """The state that ``content`` of a ``training.json`` describes.

        Raises:
            KeyError, TypeError or ValueError: it is damaged.
        """
        best = content.get("best")
        return cls(
            step=int(content["step"]),
            rejected_updates=int(content.get("skipped", 0)),
            best=None if best is None else (int(best[0]), float(best[1]), float(best[2])),
            warned=set(content.get("told", ())),
            seconds=float(content.get("seconds", 0.0)),
        )
