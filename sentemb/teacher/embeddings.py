"""A teacher's embeddings of a corpus: memory-mapped float16 in the cache. Finished chunks survive a crash.

``embeddings.f16`` holds a row for each distinct sentence, ``numbers.npy`` the number of each corpus row's among them,
``meta.json`` their shape. While they are computed, the file ``done`` says how many rows are on the disk.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sentemb.corpus import Corpus, Tokens
from sentemb.encoders import all_threads
from sentemb.errors import InputError
from sentemb.storage import DONE, append_chunks, build_once, key_of, rows_done, write_text
from sentemb.teacher.estimate import Estimate, batches_of, seconds_left, size_in_words
from sentemb.teacher.model import TeacherModel
from sentemb.teacher.selection import distinct_sentences

CHUNK = 2048  # sentences that are put into batches of like length, and then onto the disk, together
BATCH = {"cpu": 4096}  # tokens of a batch, by kind of device
BATCH_ELSEWHERE = 32_768
ROWS, NUMBERS, META = "embeddings.f16", "numbers.npy", "meta.json"


class TeacherEmbeddings:
    """A teacher's embeddings by sentence row of the corpus, memory-mapped.

    Args:
        folder: where they are.
        fingerprint: of the teacher and of what was asked of it.

    Raises:
        OSError, ValueError: they are not there, or not complete.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        shape = int(meta["sentences"]), int(meta["dimension"])
        if (folder / ROWS).stat().st_size != 2 * shape[0] * shape[1]:
            raise ValueError(f"{folder / ROWS} does not have the size of {shape[0]} x {shape[1]} numbers")
        self._rows = np.asarray(np.memmap(folder / ROWS, dtype="<f2", mode="r", shape=shape))
        self._numbers = np.asarray(np.load(folder / NUMBERS, mmap_mode="r"))

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the same files
        return TeacherEmbeddings, (self.folder, self.fingerprint)

    def __len__(self) -> int:
        """Distinct sentences."""
        return len(self._rows)

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return int(self._rows.shape[1])

    def distinct(self, numbers: slice) -> NDArray[np.float16]:
        """Embeddings float16 ``[n, dimension]`` of distinct sentences by their numbers, in the order of the file."""
        return self._rows[numbers]

    def has(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether the sentences of these rows have an embedding, an array of the shape of ``numbers``."""
        return self._numbers[np.asarray(numbers, dtype=np.int64)] >= 0

    def rows(self, numbers: NDArray[Any]) -> NDArray[np.float16]:
        """Embeddings float16 ``[n, dimension]`` of the sentences of these rows of the corpus, ``[n]``.

        Raises:
            ValueError: a sentence has none, as it is none of those that were chosen for the teacher.
        """
        places = self._numbers[np.asarray(numbers, dtype=np.int64)]
        if (places < 0).any():
            missing = int(np.asarray(numbers)[places < 0][0])
            raise ValueError(f"sentence {missing} of the corpus has no embedding of the teacher")
        return self._rows[places]


@dataclass(frozen=True)
class _Pass:
    """What one teacher embeds: the distinct sentences, in chunks."""

    model: TeacherModel
    role: str
    tokens: Tokens
    distinct: NDArray[np.int32]  # rows of the corpus
    unit: str  # what they are

    @property
    def batch_tokens(self) -> int:
        """Of a batch."""
        return BATCH.get(self.model.device.type, BATCH_ELSEWHERE)

    def embed(self, rows: NDArray[np.int32]) -> NDArray[np.float16]:
        """Embeddings of the sentences of these corpus rows, in one batch."""
        return self.model.embed(self.tokens.rows(rows.astype(np.int64)), self.tokens.prompt_length)

    def chunk(self, first: int, bar: Any) -> NDArray[np.float16]:
        """Embeddings of the distinct sentences from number ``first`` on, CHUNK of them."""
        rows = self.distinct[first : first + CHUNK]
        out = np.empty((len(rows), self.model.dimension), dtype="<f2")
        for places in batches_of(self.tokens.lengths(rows.astype(np.int64)), self.batch_tokens):
            out[places] = self.embed(rows[places])
            bar.update(len(places))
        if not np.isfinite(out).all():
            raise InputError(
                f"the embeddings of the {self.role} have numbers that float16 cannot hold (infinite, or beyond "
                f"65,504); choose {'other layers or another teacher' if self.role == 'teacher' else 'another model'}"
            )
        return out


class EmbeddingSource(Protocol):
    """A model that embeds a corpus: a :class:`TeacherFolder`, or a model in memory."""

    @property
    def role(self) -> str:
        """What messages call it: teacher, miner."""

    @property
    def fingerprint_of_output(self) -> str:
        """Hex digest of all that decides the embeddings but the corpus."""

    def read(self, device: str | torch.device = "cpu", bf16: bool = False) -> TeacherModel:
        """What embeds."""


def embed_corpus(
    folder: EmbeddingSource,
    corpus: Corpus,
    ranges: NDArray[np.int64],
    max_length: int,
    device: str | torch.device = "cpu",
    bf16: bool = False,
    learned_from: bool = True,
    unit: str = "sentences",
) -> TeacherEmbeddings:
    """The teacher's embeddings of some sentences of a corpus: from the cache, or computed and put there.

    Each distinct sentence is embedded once. What a killed pass has finished stays, and the next one continues after it;
    the bytes are those of a pass in one go.

    Args:
        folder: the teacher.
        corpus: the text.
        ranges: int64 ``[n, 2]``, first and one-past-last row of the sentences.
        max_length: tokens of the teacher's that are read of a sentence, at most; never more than it takes.
        device: where it is computed.
        bf16: matrix products in bfloat16.
        learned_from: whether a student learns from them, and there must be as many sentences as dimensions.
        unit: what the progress calls the corpus's rows.

    Raises:
        InputError: the teacher cannot be used, there are too few sentences to learn from, or the disk is full.
    """
    ranges = np.asarray(ranges, dtype=np.int64)
    fingerprint = folder.fingerprint_of_output
    chosen = hashlib.blake2b(ranges.tobytes(), digest_size=16).hexdigest()
    # Each kind of device rounds differently: what is computed on one is not continued on another.
    computed = torch.device(device).type, "bf16" if bf16 else "float32", str(CHUNK)
    target = corpus.folder / f"teacher-{key_of(fingerprint, corpus.fingerprint, chosen, str(max_length), *computed)}"
    if (embeddings := _opened(target, fingerprint)) is not None:
        return embeddings
    model = folder.read(device, bf16)
    length = min(max_length, model.max_length or max_length)
    tokens = corpus.tokens(model.tokenizer, length, model.prompt)
    distinct, numbers = distinct_sentences(tokens.distinct(), ranges)
    if learned_from and len(distinct) < model.dimension:
        raise InputError(
            f"the teacher's embeddings have {model.dimension:,} dimensions, and there are only {len(distinct):,} "
            "distinct sentences to learn them from; give more text, more --teacher-sentences, or fewer layers"
        )
    size = size_in_words(2 * len(distinct) * model.dimension)
    what = f"the embedding of {corpus.name} by the {folder.role} ({size})"
    with build_once(target, lambda made: _opened(made, fingerprint) is not None, what, corpus.progress) as work:
        if work is not None and _opened(work, fingerprint) is None:
            with all_threads():
                _write_rows(_Pass(model, folder.role, tokens, distinct, unit), work, corpus.progress)
            with (work / NUMBERS).open("wb") as file:
                np.save(file, numbers)
            write_text(work / META, json.dumps({"sentences": len(distinct), "dimension": model.dimension}))
            (work / DONE).unlink()
    return TeacherEmbeddings(target, fingerprint)


def _opened(folder: Path, fingerprint: str) -> TeacherEmbeddings | None:
    """The embeddings in a folder; None if they are not there or not complete."""
    try:
        return TeacherEmbeddings(folder, fingerprint)
    except (OSError, ValueError, LookupError, TypeError, EOFError):
        return None


def _write_rows(work: _Pass, folder: Path, progress: bool) -> None:
    """Append the chunks that are not on the disk yet."""
    path, row_bytes, total = folder / ROWS, 2 * work.model.dimension, len(work.distinct)
    done = rows_done(path, row_bytes)
    if done < total and progress:
        seconds = seconds_left(work.tokens, work.distinct[done:], work.batch_tokens, work.embed)
        estimate = Estimate(total - done, total, work.model.dimension, seconds, work.role, unit=work.unit)
        tqdm.write(str(estimate), file=sys.stderr)
    bar = tqdm(total=total, initial=done, desc=work.role, unit=f" {work.unit}", unit_scale=True, disable=not progress)
    with bar:
        append_chunks(path, row_bytes, total, CHUNK, lambda first: work.chunk(first, bar))
