"""What is searched: queries, passages, and which passages answer which query."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentemb.storage import key_of


class Passages(Protocol):
    """Texts that are read block by block, by their numbers."""

    @property
    def fingerprint(self) -> str:
        """Hex, of all texts in their order."""

    def __len__(self) -> int:
        """How many there are."""

    def texts(self, rows: slice) -> list[str]:
        """Those of a block; ``rows`` has a start and a stop."""


@dataclass(frozen=True)
class ListedPassages:
    """Passages in memory."""

    passages: Sequence[str]

    @property
    def fingerprint(self) -> str:
        """Hex, of all texts in their order."""
        return key_of(*self.passages)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.passages)

    def texts(self, rows: slice) -> list[str]:
        """Those of a block."""
        return list(self.passages[rows])


@dataclass(frozen=True)
class StoredPassages:
    """Passages in a file of BEIR's layout, of which memory holds the places of lines."""

    path: Path
    offsets: NDArray[np.int64]  # [n + 1], where each line with a passage begins
    fingerprint: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    def texts(self, rows: slice) -> list[str]:
        """Those of a block: title and text."""
        start, stop = (int(self.offsets[min(place, len(self))]) for place in (rows.start, rows.stop))
        with self.path.open("rb") as file:
            file.seek(start)
            lines = file.read(stop - start).split(b"\n")
        return [passage_text(json.loads(line)) for line in lines if line.strip()]


def passage_text(row: Mapping[str, str]) -> str:
    """A passage as it is encoded: its title, a space, its text, as BEIR joins them."""
    return f"{row.get('title') or ''} {row.get('text') or ''}".strip()


@dataclass(frozen=True)
class SearchTask:
    """Queries that were judged, and the passages that are searched."""

    name: str  # what it is, for outputs
    queries: list[str]
    passages: Passages
    judgements: list[dict[int, float]]  # of each query: the grade of each passage that was judged, one above 0 at least
    leave_out: list[list[int]] = field(default_factory=list)  # of each query: passages that it must not find
    documents: NDArray[np.int64] | None = None  # [queries], of each query; None: queries are independent
    notes: tuple[str, ...] = ()  # what was left out, a sentence each
