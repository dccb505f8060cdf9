"""Preparing a corpus: sentences into Arrow shards, token ids into flat arrays, in parallel and restartably.

Work is cut into parts that depend on nothing but the source, each of which leaves whole files (written under another
name, then renamed). A preparation that was killed finds those it had finished and makes the rest.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from sentemb.corpus.store import CHUNK, Corpus, keys_of, open_folder, open_tokens
from sentemb.corpus.words import CHECKED, Encoder
from sentemb.errors import InputError, Unfinished
from sentemb.storage import FORMAT, making, partial_path, replacing, write_bytes, write_text
from sentemb.text import SPLITTER

SHARD = 32_000_000  # characters of text in the first shard of a part; later ones are larger, so that they stay few
UNIT = 50_000  # sentences tokenized into one file, at least
UNITS = 256  # files of a tokenization, at most
OFFLINE = "give a folder of .txt books, a file with a sentence a line, or `sample` (needs only a package index)"
WORTH = 4_000_000  # bytes of text below which starting processes costs more than it saves

Skip = Callable[[str], None]  # is told, in a sentence, of what a reader leaves out
Reader = Callable[[Skip], Iterator[str | None]]  # sentences in order, None after each document


@dataclass(frozen=True)
class Source:
    """Text that can become a corpus."""

    name: str  # as Corpus.name
    key: str  # hex digest of the content and of how it is read
    parts: Callable[[], Sequence[Reader]]  # what can be read independently of each other, in order; they are pickled
    size: int = 0  # bytes of it all, 0 if that is not known
    labelled: bool = False  # whether its documents are the rows of a labelled data set
    classes: bool = False  # whether the last sentence of each document is a class
    one_book: bool = False  # whether it is a single book, so that it is no wonder that it is one document


def prepare(sources: Sequence[Source], key: str, folder: Path, spec: str, progress: bool) -> None:
    """Write the corpus of these sources into ``folder``, where it is not there yet.

    Raises:
        InputError: no sentence, or no document with two; the cache cannot be written to.
    """
    name = " + ".join(source.name for source in sources)
    whole = lambda made: open_folder(made, name, key, (1.0,) * len(sources), False) is not None  # noqa: E731
    with making(folder, whole, name, progress) as work:
        if work is None:
            return
        readers = [source.parts() for source in sources]
        each = enumerate(reader for parts in readers for reader in parts)
        jobs = [partial(_write_part, reader, number, work) for number, reader in each]
        bar = tqdm(desc=f"preparing {name}", unit=" sentences", unit_scale=True, disable=not progress)
        with bar:
            for written in spread(jobs, sum(source.size for source in sources), bar.update):
                bar.update(written)
        _assemble(sources, [len(parts) for parts in readers], work, spec)
    for file in folder.glob("[0-9]*.json"):  # what only going on needed
        file.unlink(missing_ok=True)
        file.with_suffix(".npy").unlink(missing_ok=True)


def spread(jobs: Sequence[Callable[..., int]], size: int, tell: Callable[[int], Any]) -> Iterator[int]:
    """What each job returns, as they end; done by processes on all cores where that is worth their start.

    Args:
        jobs: picklable. size: bytes of text in all of them.
        tell: where a job is done here, it tells this how far it is (``job(tell=...)``) and returns the rest.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(cores, len(jobs)) < 2 or size < WORTH:
        yield from (job(tell=tell) for job in jobs)
        return
    # loky and not multiprocessing: it neither forks a process that has threads nor runs the user's script again
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pool = Parallel(n_jobs=cores, return_as="generator_unordered", max_nbytes=None, batch_size=1)
    try:
        yield from pool(delayed(_alone)(job) for job in jobs)
    except TerminatedWorkerError:
        raise Unfinished(
            "a process that prepared the corpus was killed (out of memory?); the same command goes on from there"
        ) from None
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)  # they would keep their memory while we train


def _alone(job: Callable[..., int]) -> int:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # (its threads would fight for the cores of the other processes)
    return job()


# ---- sentences


def _write_part(reader: Reader, number: int, folder: Path, tell: Callable[[int], Any] | None = None) -> int:
    """Write a part's shards, after those that are there already; returns the sentences that were not told of."""
    there = _shards(folder, number)
    if there and there[-1]["last"]:
        return sum(shard["sentences"] for shard in there)
    behind = untold = sum(shard["sentences"] for shard in there)  # sentences to read over
    notes: list[str] = []
    shard = _Shard(folder, number, len(there))
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

    @property
    def full(self) -> bool:
        """Whether the next sentence belongs to the next shard."""
        return not self._batch and self._characters >= self._limit

    def add(self, text: str) -> None:
        """Another sentence."""
        self._batch.append(text)
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
        """Make it whole, with what its reader left out; ``last`` of its part."""
        self._flush()
        self._writer.finalize()
        with replacing(self._path.with_suffix(".npy"), sync=False) as partial:
            _save(partial, np.unique(np.array(self._ends, dtype=np.int64)))
        content = {"file": self._path.name, "sentences": self._written, "bytes": self._partial.stat().st_size}
        content |= {"characters": self._characters, "notes": list(notes), "last": last}
        self._partial.replace(self._path)
        write_text(self._path.with_suffix(".json"), json.dumps(content), sync=False)


def _save(path: Path, array: NDArray[Any]) -> None:
    """As np.save, whose error on a full disk does not say that it is that."""
    with path.open("wb") as file:
        _npy_header(file, array.dtype, len(array))
        file.write(array.tobytes())


def _shards(folder: Path, part: int) -> list[dict[str, Any]]:
    """What the whole shards of a part hold, in order, up to the first that is missing."""
    found: list[dict[str, Any]] = []
    while True:
        path = folder / f"{part:05}-{len(found):05}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (folder / content["file"]).stat().st_size != content["bytes"]:
                return found
        except (OSError, ValueError, LookupError, TypeError):
            return found
        found.append(content)
        if content["last"]:
            return found


def _assemble(sources: Sequence[Source], parts: Sequence[int], folder: Path, spec: str) -> None:
    """Write ``documents.npy`` and ``meta.json`` of all shards of the sources' parts."""
    documents = [np.zeros(1, dtype=np.int64)]
    bounds: list[int] = []
    shards: list[dict[str, Any]] = []
    notes: list[str] = []
    count = part = 0
    for source, own in zip(sources, parts, strict=True):
        ends, first = [np.zeros(0, dtype=np.int64)], count
        bounds.append(sum(map(len, documents)) - 1)
        for _ in range(own):
            there = _shards(folder, part)
            if not (there and there[-1]["last"]):
                raise Unfinished(f"parts of {source.name} are gone from {folder}; give the same command again")
            for shard in there:
                ends.append(count + np.load(folder / shard["file"].replace(".arrow", ".npy")))
                count += shard["sentences"]
                notes += shard["notes"]
                if shard["sentences"]:
                    shards.append({key: shard[key] for key in ("file", "sentences", "bytes", "characters")})
            part += 1
        if count == first:
            more = f" (of {source.name}: {notes[0] if notes else 'nothing in it'})"
            raise InputError(f"corpus {spec!r} holds no sentence{more}; {OFFLINE}")
        ends.append(np.array([count], dtype=np.int64))
        found = np.unique(np.concatenate(ends))
        documents.append(found[found > first])
    offsets = np.concatenate(documents)
    if max(np.diff(offsets)) < 2:
        raise InputError(
            f"corpus {spec!r} has no neighbour pair: none of its documents ({len(offsets) - 1}) has two sentences;"
            " blank lines (or rows) separate documents, so keep them out from between neighbouring sentences"
        )
    _save(folder / "documents.npy", offsets)
    meta = {"name": " + ".join(source.name for source in sources), "source": spec, "sentences": count}
    meta |= {"documents": len(offsets) - 1, "bounds": bounds, "shards": shards, "notes": list(dict.fromkeys(notes))}
    meta |= {"splitter": SPLITTER, "format": FORMAT}
    write_text(folder / "meta.json", json.dumps(meta, indent=2), sync=False)


# ---- tokens


def tokenize(corpus: Corpus, tokenizer: Tokenizer, folder: Path, prompt: str = "") -> None:
    """Write the token ids of every sentence, ``prompt`` before it, into ``folder``, where they are not there yet."""
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
    with making(
        folder, lambda made: open_tokens(made) is not None, f"the tokens of {corpus.name}", corpus.progress
    ) as work:
        if work is None:
            return
        if open_tokens(work) is not None:  # killed just before it was published
            _sweep(work)
            return
        step = max(UNIT, -(-len(corpus) // UNITS))
        starts = range(0, len(corpus), step)
        text = tokenizer.to_str()
        light = replace(corpus, documents=corpus.documents[[0, -1]])  # (the jobs go through pipes)
        units = [slice(start, start + step) for start in starts]
        jobs = [partial(_write_unit, light, text, rows, dtype, work, prompt) for rows in units]
        bar = tqdm(
            total=len(corpus), desc="tokenizing", unit=" sentences", unit_scale=True, disable=not corpus.progress
        )
        size = sum((corpus.folder / name).stat().st_size for name in corpus.shards)
        with bar:
            for written in spread(jobs, size, bar.update):
                bar.update(written)
        _join([work / f"{start:012}" for start in starts], work, dtype)
    _encoder.cache_clear()


def _write_unit(
    corpus: Corpus, tokenizer: str, rows: slice, dtype: np.dtype[Any], folder: Path, prompt: str = "",
    tell: Callable[[int], Any] | None = None,
) -> int:  # fmt: skip
    """Tokenize some rows into one file of ids, of lengths and of keys; returns the rows that were not told of."""
    whole = folder / f"{rows.start:012}"
    count = min(rows.stop, len(corpus)) - rows.start
    if _unit_whole(whole, count, dtype):
        return count
    encoder, lengths, keys, untold = _encoder(tokenizer), [], [], 0
    with replacing(whole.with_suffix(".ids"), sync=False) as partial:  # last, so that it says that the others are there
        with partial.open("wb") as file:
            for start in range(rows.start, rows.start + count, CHUNK):
                texts = corpus.sentences(slice(start, min(start + CHUNK, rows.start + count)))
                texts = [prompt + text for text in texts] if prompt else texts
                if start == rows.start:
                    encoder.check(texts[:CHECKED])
                ids, counts = encoder.encode(texts)
                file.write(ids.astype(dtype).tobytes())
                lengths.append(counts.astype(np.int32))
                keys.append(keys_of(ids, np.concatenate([[0], np.cumsum(counts)])))
                untold += len(texts)
                if tell is not None:
                    tell(untold)
                    untold = 0
        for suffix, arrays in ((".keys", keys), (".lengths", lengths)):
            write_bytes(whole.with_suffix(suffix), np.concatenate(arrays).tobytes(), sync=False)
    return untold


@lru_cache(maxsize=1)
def _encoder(tokenizer: str) -> Encoder:
    """The same for all units of a process: it remembers words."""
    return Encoder(Tokenizer.from_str(tokenizer))


def _unit_whole(unit: Path, count: int, dtype: np.dtype[Any]) -> bool:
    try:
        lengths = np.fromfile(unit.with_suffix(".lengths"), dtype=np.int32)
        ids, keys = (unit.with_suffix(suffix).stat().st_size for suffix in (".ids", ".keys"))
    except OSError:
        return False
    return (len(lengths), ids, keys) == (count, int(lengths.sum()) * dtype.itemsize, count * 8)


def _join(units: Iterable[Path], folder: Path, dtype: np.dtype[Any]) -> None:
    """Files of units one after the other, as ``ids.npy``, ``offsets.npy`` and ``keys.npy``."""
    total, sentences = 0, 0
    with (
        (folder / "ids.npy").open("wb") as ids,
        (folder / "offsets.npy").open("wb") as offsets,
        (folder / "keys.npy").open("wb") as keys,
    ):
        for file in (ids, offsets, keys):
            _npy_header(file, dtype, 0)
        offsets.write(np.zeros(1, dtype=np.int64).tobytes())
        for unit in units:
            lengths = np.fromfile(unit.with_suffix(".lengths"), dtype=np.int32)
            offsets.write((total + np.cumsum(lengths, dtype=np.int64)).tobytes())
            for suffix, file in ((".ids", ids), (".keys", keys)):
                with unit.with_suffix(suffix).open("rb") as part:
                    shutil.copyfileobj(part, file, 1 << 20)
            total += int(lengths.sum())
            sentences += len(lengths)
        _npy_header(ids, dtype, total)
        _npy_header(offsets, np.dtype(np.int64), sentences + 1)
        _npy_header(keys, np.dtype(np.int64), sentences)
    _sweep(folder)


def _sweep(folder: Path) -> None:
    """Take away units, which are joined."""
    for unit in folder.glob("*[0-9].*"):
        unit.unlink(missing_ok=True)


def _npy_header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """Write the header at the file's start; numpy leaves room in it for any length, so it can be written again."""
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
