"""Sentences of a corpus into Arrow shards, in parts that depend on the source alone.

Each part leaves complete files. A preparation that was killed finds those it had finished and makes the rest.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sentemb.corpus.language_fit import SAMPLE, misfit_note
from sentemb.corpus.prepare.npy_files import save_array
from sentemb.corpus.prepare.parallel import spread
from sentemb.corpus.sentences import SPLITTER
from sentemb.corpus.stored_sentences import StoredSentences, open_stored
from sentemb.corpus.text_source import Reader, TextSource, Title
from sentemb.corpus.tokens import CHUNK
from sentemb.errors import InputError, PreparationInterrupted
from sentemb.storage import FORMAT, build_once, partial_path, replacing, write_text

SHARD = 32_000_000  # characters of text in the first shard of a part; later ones are larger, so that they stay few
ENDS, TITLES = ".npy", ".titles.npy"  # of files with the documents' ends and the titles' places in a shard
OFFLINE = "give a folder of .txt books, a file with a sentence a line, or `sample` (needs only a package index)"


def prepare_sentences(
    sources: Sequence[TextSource], folder: Path, spec: str, progress: bool, needs_pairs: bool = True
) -> None:
    """Write the corpus of these sources into ``folder``, where it is not there yet.

    Raises:
        InputError: no sentence, or, where pairs are needed, no document with two; the cache cannot be written to.
    """
    name = " + ".join(source.name for source in sources)
    with build_once(folder, lambda made: open_stored(made, len(sources)) is not None, name, progress) as work:
        if work is None:
            return
        readers = [source.parts() for source in sources]
        each = enumerate(reader for parts in readers for reader in parts)
        jobs = [partial(_write_part, reader, number, work) for number, reader in each]
        bar = tqdm(desc=f"preparing {name}", unit=" sentences", unit_scale=True, disable=not progress)
        with bar:
            for written in spread(jobs, sum(source.size for source in sources), bar.update):
                bar.update(written)
        _assemble(sources, [len(parts) for parts in readers], work, spec, needs_pairs)
    for file in folder.glob("[0-9]*.json"):  # what only a resumption needed
        file.unlink(missing_ok=True)
        for suffix in (ENDS, TITLES):
            file.with_suffix(suffix).unlink(missing_ok=True)


def _write_part(reader: Reader, number: int, folder: Path, tell: Callable[[int], Any] | None = None) -> int:
    """Write a part's shards, after those that are there already; returns the sentences that were not reported."""
    finished = _shards(folder, number)
    if finished and finished[-1]["last"]:
        return sum(shard["sentences"] for shard in finished)
    behind = untold = sum(shard["sentences"] for shard in finished)  # sentences to read over
    notes: list[str] = []
    shard = _Shard(folder, number, len(finished))
    for text in reader(notes.append):
        if text is None:
            if not behind:
                shard.end_document()
        elif behind:
            behind -= 1
            notes.clear()  # (they are in the shards before)
        else:
            if shard.full:
                shard.close(notes, last=False)
                notes.clear()
                shard = _Shard(folder, number, shard.index + 1)
            shard.add(text)
            untold += 1
            if tell is not None and untold >= CHUNK:
                tell(untold)
                untold = 0
    shard.close(notes, last=True)
    return untold


class _Shard:
    """A file of sentences being written: ``PART-INDEX.arrow``, the documents' ends, and at last what it holds."""

    def __init__(self, folder: Path, part: int, index: int) -> None:
        from datasets import Features, Value  # over a second to import, needed only once per corpus
        from datasets.arrow_writer import ArrowWriter

        self.index = index
        self._path = folder / f"{part:05}-{index:05}.arrow"
        self._partial = partial_path(self._path)
        self._limit = SHARD * (16 + index) // 16
        self._writer = ArrowWriter(features=Features({"text": Value("string")}), path=str(self._partial))
        self._batch: list[str] = []
        self._written = self._characters = 0
        self._ends: list[int] = []
        self._titles: list[int] = []

    @property
    def full(self) -> bool:
        """Whether the next sentence belongs to the next shard."""
        return not self._batch and self._characters >= self._limit

    def add(self, text: str) -> None:
        """Another sentence."""
        if isinstance(text, Title):
            self._titles.append(self._written + len(self._batch))
        self._batch.append(str(text))
        if len(self._batch) == CHUNK:
            self._flush()

    def end_document(self) -> None:
        """The sentence before was the last of its document."""
        self._ends.append(self._written + len(self._batch))

    def _flush(self) -> None:
        self._writer.write_batch({"text": self._batch})
        self._written += len(self._batch)
        self._characters += sum(map(len, self._batch))
        self._batch = []

    def close(self, notes: Sequence[str], last: bool) -> None:
        """Finish the shard and record what its reader left out; ``last``: it is the last of its part."""
        self._flush()
        self._writer.finalize()
        for suffix, places in ((ENDS, self._ends), *([(TITLES, self._titles)] if self._titles else [])):
            with replacing(self._path.with_suffix(suffix), sync=False) as partial:
                save_array(partial, np.unique(np.array(places, dtype=np.int64)))
        content = {"file": self._path.name, "sentences": self._written, "bytes": self._partial.stat().st_size}
        content |= {"characters": self._characters, "notes": list(notes), "last": last}
        self._partial.replace(self._path)
        write_text(self._path.with_suffix(".json"), json.dumps(content), sync=False)


def _shards(folder: Path, part: int) -> list[dict[str, Any]]:
    """What the whole shards of a part hold, in order, up to the first that is missing."""
    shards: list[dict[str, Any]] = []
    while True:
        path = folder / f"{part:05}-{len(shards):05}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (folder / content["file"]).stat().st_size != content["bytes"]:
                return shards
        except (OSError, ValueError, LookupError, TypeError):
            return shards
        shards.append(content)
        if content["last"]:
            return shards


def refuse_without_pairs(documents: NDArray[np.int64], spec: str) -> None:
    """InputError if no document has two sentences, by the documents' offsets ``[n + 1]``."""
    if max(np.diff(documents)) < 2:
        raise InputError(
            f"corpus {spec!r} has no neighbour pair: none of its documents ({len(documents) - 1}) has two sentences;"
            " blank lines (or rows) separate documents, so keep them out from between neighbouring sentences; raw text"
            " is split into sentences as books:path=FILE, or in a folder, and lines:path=FILE reads a sentence a line"
        )


def _assemble(sources: Sequence[TextSource], parts: Sequence[int], folder: Path, spec: str, needs_pairs: bool) -> None:
    """Write ``documents.npy``, ``titles.npy`` and ``meta.json`` of all shards of the sources' parts."""
    documents = [np.zeros(1, dtype=np.int64)]
    bounds: list[int] = []
    shards: list[dict[str, Any]] = []
    notes: list[str] = []
    titles = [np.zeros(0, dtype=np.int64)]
    count = part = 0
    for source, part_count in zip(sources, parts, strict=True):
        ends, first = [np.zeros(0, dtype=np.int64)], count
        bounds.append(sum(map(len, documents)) - 1)
        for _ in range(part_count):
            finished = _shards(folder, part)
            if not (finished and finished[-1]["last"]):
                raise PreparationInterrupted(
                    f"parts of {source.name} are gone from {folder}; give the same command again"
                )
            for shard in finished:
                ends.append(count + _places(folder / shard["file"], ENDS))
                titles.append(count + _places(folder / shard["file"], TITLES))
                count += shard["sentences"]
                notes += shard["notes"]
                if shard["sentences"]:
                    shards.append({key: shard[key] for key in ("file", "sentences", "bytes", "characters")})
            part += 1
        if count == first:
            more = f" (of {source.name}: {notes[0] if notes else 'nothing in it'})"
            raise InputError(f"corpus {spec!r} holds no sentence{more}; {OFFLINE}")
        ends.append(np.array([count], dtype=np.int64))
        if source.language and (note := _misfit(source, folder, shards, first)):
            notes.append(note)
        unique_ends = np.unique(np.concatenate(ends))
        documents.append(unique_ends[unique_ends > first])
    offsets = np.concatenate(documents)
    if needs_pairs:
        refuse_without_pairs(offsets, spec)
    save_array(folder / "documents.npy", offsets)
    save_array(folder / "titles.npy", np.concatenate(titles))
    meta = {"name": " + ".join(source.name for source in sources), "source": spec, "sentences": count}
    meta |= {"documents": len(offsets) - 1, "bounds": bounds, "shards": shards, "notes": list(dict.fromkeys(notes))}
    meta |= {"splitter": SPLITTER, "format": FORMAT}
    write_text(folder / "meta.json", json.dumps(meta, indent=2), sync=False)


def _places(shard: Path, suffix: str) -> NDArray[np.int64]:
    """What the file next to a shard lists; nothing without one, as where there is no title."""
    path = shard.with_suffix(suffix)
    places: NDArray[np.int64] = np.load(path) if suffix == ENDS or path.is_file() else np.zeros(0, dtype=np.int64)
    return places


def _misfit(source: TextSource, folder: Path, shards: Sequence[dict[str, Any]], first: int) -> str | None:
    """A note if the sentences written from ``first`` on, an evenly spread sample of them, are in another language."""
    files, count = tuple(shard["file"] for shard in shards), sum(shard["sentences"] for shard in shards)
    stored = StoredSentences(folder, files, count)
    rows = np.linspace(first, len(stored) - 1, min(SAMPLE, len(stored) - first)).astype(np.int64)
    return misfit_note(source.name, stored[rows], source.language)
