"""The journal of an adaptation: a file for each finished step, complete or absent.

A run that was killed reads them and does only what is missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentemb.adaptation.held_out import Scores
from sentemb.adaptation.measures import Similarity
from sentemb.storage import write_text
from sentemb.validation import ItemScores

Entry = dict[str, Any]
PAIRS = "pairs"


@dataclass(frozen=True)
class Journal:
    """A folder of entries, by name."""

    folder: Path

    def read(self, name: str) -> Entry | None:
        """The entry; None: that step is still to do."""
        try:
            content = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add an entry."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / f"{name}.json", json.dumps(entry) + "\n")

    @property
    def spent(self) -> float:
        """Seconds of the budget that the entries say are spent."""
        entries = (self.read(path.stem) or {} for path in self.folder.glob("*.json"))
        return max((float(entry.get("spent", 0)) for entry in entries), default=0.0)


def store_pairs(folder: Path, pairs: Similarity) -> None:
    """Write the pairs with human scores into a journal's folder, so that resuming needs no data."""
    journal = Journal(folder)
    if pairs.gold is not None and journal.read(PAIRS) is None:
        gold = np.asarray(pairs.gold, dtype=np.float64).tolist()
        journal.write(PAIRS, {"name": pairs.name, "first": [*pairs.first], "second": [*pairs.second], "gold": gold})


def stored_pairs(folder: Path) -> Similarity | None:
    """What :func:`store_pairs` wrote; None: nothing."""
    entry = Journal(folder).read(PAIRS)
    return None if entry is None else Similarity(**entry | {"gold": np.array(entry["gold"], dtype=np.float64)})


def as_entry(scores: Scores) -> Entry:
    """Scores as JSON."""
    return {
        name: {
            "values": items.values.tolist(),
            "gold": None if items.gold is None else items.gold.tolist(),
            "documents": None if items.documents is None else items.documents.tolist(),
            "items": items.items,
            "scale": items.scale,
        }
        for name, items in scores.items()
    }


def as_scores(entry: Entry) -> Scores:
    """Scores out of JSON."""

    def array(values: Any, kind: Any) -> Any:
        return None if values is None else np.array(values, dtype=kind)

    return {
        name: ItemScores(
            np.array(row["values"], dtype=np.float64),
            array(row["gold"], np.float64),
            array(row["documents"], np.int64),
            row["items"],
            row["scale"],
        )
        for name, row in entry.items()
    }
