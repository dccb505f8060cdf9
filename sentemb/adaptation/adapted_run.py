"""The result of an adaptation."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer

from sentemb.adaptation.folder import AdaptationFolder
from sentemb.encoders import load

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class AdaptedRun:
    """The outcome of :func:`sentemb.adapt`; everything is in ``folder``."""

    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """All that was measured, as ``results.json`` has it."""
        return AdaptationFolder(self.folder).read_results()

    @cached_property
    def model(self) -> SentenceTransformer:
        """The adapted model, or the start where no method helped."""
        return load(AdaptationFolder(self.folder).model, device="cpu")

    @property
    def adapted(self) -> bool:
        """Whether the model differs from the start."""
        return bool(self.results["adapted"])

    @property
    def verdict(self) -> str:
        """Whether the adaptation improved the model, in one sentence."""
        return str(self.results["verdict"])

    @property
    def table(self) -> "DataFrame":
        """A row a model that was tried: gain and general quality with their intervals, in points, and the time."""
        from pandas import DataFrame

        return DataFrame(self.results["candidates"])

    @property
    def frontier(self) -> "DataFrame":
        """Gain against loss of each model, in points; ``on_frontier``: no other one gains more and loses less."""
        from pandas import DataFrame

        return DataFrame(self.results["frontier"])

    @property
    def report(self) -> Path:
        """The page."""
        return AdaptationFolder(self.folder).report
