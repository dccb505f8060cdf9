"""Models that an adaptation has tried, compared with the start item by item, and the choice among them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sentemb.adaptation.held_out import Scores
from sentemb.adaptation.measures import GAIN
from sentemb.validation import compare_encoders


@dataclass(frozen=True)
class Difference:
    """How a score differs from the start's, in points, with its interval of probability 95 %."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """For sentences: ``+1.2 [+0.3, +2.1]``."""
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    arm: str
    setting: str  # what distinguishes it from others of its arm: "weight 0.5", "power 0.5"; "" for the arm as trained
    scores: Scores = field(repr=False)
    start: Scores = field(repr=False)  # the scores of the model that it began with
    updates: int = 0
    seconds: float = 0.0  # of training

    @property
    def name(self) -> str:
        """For outputs."""
        return f"{self.arm}, {self.setting}" if self.setting else self.arm

    @property
    def gain(self) -> float:
        """Points on the user's text."""
        return self.scores[GAIN].score - self.start[GAIN].score

    def loss(self, general: str) -> float:
        """Points of general quality that are lost."""
        return self.start[general].score - self.scores[general].score

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """From the start, by measure, with intervals, which take seconds."""
        return differences_of(self.scores, self.start)

    def worth(self, general: str, allowed: float) -> float:
        """The gain at the allowed loss, if both shrink alike on the way back to the start."""
        loss = self.loss(general)
        return self.gain * min(1.0, allowed / loss) if self.gain > 0 and loss > 0 else self.gain


def differences_of(scores: Scores, start: Scores) -> dict[str, Difference]:
    """Each measure's difference from the start, with the interval of a paired bootstrap."""
    rows = compare_encoders({"candidate": scores, "start": start})
    return {row["measure"]: Difference(row["difference"], row["low"], row["high"]) for row in rows}


def eligible(candidates: Sequence[Candidate], general: str, allowed: float) -> list[Candidate]:
    """Those that gain something and lose no more than is allowed, the greatest gain first."""
    fitting = [each for each in candidates if each.gain > 0 and each.loss(general) <= allowed]
    return sorted(fitting, key=lambda each: -each.gain)


def frontier_of(candidates: Sequence[Candidate], general: str) -> list[dict[str, Any]]:
    """Gain against loss, the start among them; ``on_frontier``: no other one gains more and loses less."""
    rows: list[dict[str, Any]] = [{"arm": "keep", "setting": "", "gain": 0.0, "loss": 0.0}]
    rows += [
        {"arm": each.arm, "setting": each.setting, "gain": each.gain, "loss": each.loss(general)} for each in candidates
    ]
    for row in rows:
        row["on_frontier"] = not any(
            other["gain"] >= row["gain"] and other["loss"] <= row["loss"] and other is not row
            and (other["gain"], other["loss"]) != (row["gain"], row["loss"])
            for other in rows
        )  # fmt: skip
    return sorted(rows, key=lambda row: (row["loss"], row["gain"]))
