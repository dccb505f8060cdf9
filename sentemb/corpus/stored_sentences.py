"""A prepared corpus in the cache: sentences in Arrow files, and the ends of documents."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class StoredSentences:
    """The sentences of a prepared corpus, memory-mapped; another process maps the same files."""

    folder: Path
    shards: tuple[str, ...] = field(repr=False)  # files of the folder, in order
    count: int

    def __len__(self) -> int:
        return self.count

    @cached_property
    def _texts(self) -> Any:
        from datasets import Dataset, concatenate_datasets  # over a second to import; training needs only the tokens

        return concatenate_datasets([Dataset.from_file(str(self.folder / name)) for name in self.shards])

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> list[str]:
        """Texts of these rows, in the order given."""
        return list(self._texts[rows if isinstance(rows, slice) else [int(row) for row in rows]]["text"])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / name).stat().st_size for name in self.shards)


@dataclass(frozen=True, eq=False)
class StoredCorpus:
    """The files of a prepared corpus, after a check that they belong together."""

    sentences: StoredSentences
    documents: NDArray[np.int64]  # [n_documents + 1], offsets into the sentences
    bounds: tuple[int, ...]  # first document of each of its sources
    notes: tuple[str, ...]  # what was left out or found in preparing it, a sentence each
    titles: NDArray[np.int64]  # [n_titles], rows of the sentences that are titles


def open_stored(folder: Path, sources: int) -> StoredCorpus | None:
    """The prepared corpus of several sources in a folder; None if it is missing or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        documents: NDArray[np.int64] = np.load(folder / "documents.npy")
        shards = tuple(str(shard["file"]) for shard in meta["shards"])
        complete = all((folder / shard["file"]).stat().st_size == shard["bytes"] for shard in meta["shards"])
        if not (complete and shards and int(documents[-1]) == meta["sentences"] and sources == len(meta["bounds"])):
            return None
        sentences = StoredSentences(folder, shards, int(documents[-1]))
        file = folder / "titles.npy"  # (what earlier versions have prepared has none)
        titles: NDArray[np.int64] = np.load(file) if file.is_file() else np.zeros(0, dtype=np.int64)
        notes = tuple(map(str, meta["notes"]))
        return StoredCorpus(sentences, documents, tuple(map(int, meta["bounds"])), notes, titles)
    except (OSError, ValueError, LookupError, EOFError, TypeError):
        return None
