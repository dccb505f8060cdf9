"""Token ids of a corpus into flat arrays, in units that are made again where missing."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from sentemb.corpus.prepare.npy_files import write_header
from sentemb.corpus.prepare.parallel import spread
from sentemb.corpus.prepare.word_cache import CHECKED, WordwiseTokenizer
from sentemb.corpus.stored_sentences import StoredSentences
from sentemb.corpus.tokens import CHUNK, keys_of, open_tokens
from sentemb.storage import build_once, replacing, write_bytes

UNIT = 50_000  # sentences tokenized into one file, at least
UNITS = 256  # files of a tokenization, at most


def tokenize_sentences(
    sentences: StoredSentences, tokenizer: Tokenizer, folder: Path, prompt: str, what: str, progress: bool
) -> None:
    """Write the token ids of every sentence, ``prompt`` before it, into ``folder``, where they are not there yet.

    ``what`` they are is said to those that wait; ``progress`` shows a bar.
    """
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
    with build_once(folder, lambda made: open_tokens(made) is not None, what, progress) as work:
        if work is None:
            return
        if open_tokens(work) is not None:  # killed just before it was published
            _sweep(work)
            return
        step = max(UNIT, -(-len(sentences) // UNITS))
        starts = range(0, len(sentences), step)
        text = tokenizer.to_str()
        plain = replace(sentences)  # (the jobs go through pipes, and what is mapped here is mapped there again)
        units = [slice(start, start + step) for start in starts]
        jobs = [partial(_write_unit, plain, text, rows, dtype, work, prompt) for rows in units]
        bar = tqdm(total=len(sentences), desc="tokenizing", unit=" sentences", unit_scale=True, disable=not progress)
        with bar:
            for written in spread(jobs, sentences.size, bar.update):
                bar.update(written)
        _join([work / f"{start:012}" for start in starts], work, dtype)
    _encoder.cache_clear()


def _write_unit(
    sentences: StoredSentences, tokenizer: str, rows: slice, dtype: np.dtype[Any], folder: Path, prompt: str = "",
    tell: Callable[[int], Any] | None = None,
) -> int:  # fmt: skip
    """Tokenize some rows into one file of ids, of lengths and of keys; returns the rows that were not reported."""
    unit = folder / f"{rows.start:012}"
    count = min(rows.stop, len(sentences)) - rows.start
    if _is_complete(unit, count, dtype):
        return count
    encoder, lengths, keys, untold = _encoder(tokenizer), [], [], 0
    with replacing(unit.with_suffix(".ids"), sync=False) as partial:  # last, so that it says that the others are there
        with partial.open("wb") as file:
            for start in range(rows.start, rows.start + count, CHUNK):
                texts = sentences[slice(start, min(start + CHUNK, rows.start + count))]
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
            write_bytes(unit.with_suffix(suffix), np.concatenate(arrays).tobytes(), sync=False)
    return untold


@lru_cache(maxsize=1)
def _encoder(tokenizer: str) -> WordwiseTokenizer:
    """The same for all units of a process: it remembers words."""
    return WordwiseTokenizer(Tokenizer.from_str(tokenizer))


def _is_complete(unit: Path, count: int, dtype: np.dtype[Any]) -> bool:
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
            write_header(file, dtype, 0)
        offsets.write(np.zeros(1, dtype=np.int64).tobytes())
        for unit in units:
            lengths = np.fromfile(unit.with_suffix(".lengths"), dtype=np.int32)
            offsets.write((total + np.cumsum(lengths, dtype=np.int64)).tobytes())
            for suffix, file in ((".ids", ids), (".keys", keys)):
                with unit.with_suffix(suffix).open("rb") as part:
                    shutil.copyfileobj(part, file, 1 << 20)
            total += int(lengths.sum())
            sentences += len(lengths)
        write_header(ids, dtype, total)
        write_header(offsets, np.dtype(np.int64), sentences + 1)
        write_header(keys, np.dtype(np.int64), sentences)
    _sweep(folder)


def _sweep(folder: Path) -> None:
    """Delete the unit files, which are joined by now."""
    for unit in folder.glob("*[0-9].*"):
        unit.unlink(missing_ok=True)
