"""Scores of an encoder's search: passages are encoded once, into a file, and ranked exactly."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from sentemb.encoders import max_tokens_of
from sentemb.errors import InputError, disk_full
from sentemb.retrieval import ranking_scores, top_k
from sentemb.search import Passages, SearchTask
from sentemb.storage import key_of, recover, replacing
from sentemb.validation import CachedEncoder, ItemScores, Sides, fingerprint, sides_of

BLOCK = 4096  # passages that are read and encoded at a time
DEPTH = 100  # ranks of MAP and recall
ROWS_OF = "passages"  # what the name of a file in the cache begins with
Rows = NDArray[np.float32]
TITLES = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP", "recall": "recall"}


@dataclass(frozen=True)
class SearchScores:
    """What an encoder made of each query of a task."""

    items: dict[str, ItemScores]  # by metric: "nDCG@10", "MRR@10", "MAP@100", "recall@100"
    max_tokens: int | None  # of a text that the encoder reads; longer ones are cut; None: no limit
    score: str  # by which passages are ranked: cosine or dot
    sides: str  # what encodes queries and passages


def measure_search(
    model: SentenceTransformer,
    task: SearchTask,
    k: int = DEPTH,
    batch_size: int = 128,
    progress: bool = False,
    cache: Path | None = None,
    recall_at: Sequence[int] = (),
) -> SearchScores:
    """Rank all passages for each query, and score the rankings.

    Queries are encoded as the first sentences of held-out pairs are and passages as the second ones
    (:func:`sentemb.validation.sides_of`): with their own prompts, or by the two towers.

    Args:
        model: any SentenceTransformer. task: what is searched.
        k: ranks of MAP and recall, at least 10.
        batch_size: texts a forward pass. progress: show a bar.
        cache: a folder where passages' embeddings stay for the next time; None: they are in a temporary file.
        recall_at: more ranks for recall, at most ``k``.

    Raises:
        InputError: an embedding is not finite, or the disk is full.
    """
    sides = sides_of(model, CachedEncoder(model, batch_size))
    queries = sides.first(task.queries)
    name = f"{ROWS_OF}-{key_of(fingerprint(model), task.passages.fingerprint)}" if cache else ""
    write = partial(_write_rows, model, task.passages, batch_size, progress)
    shape = len(task.passages), queries.shape[1]
    with stored_rows(write, shape, cache / name if cache else None) as rows:
        items = _ranked(queries, rows, task, k, sides.score, recall_at)
    return SearchScores(items, max_tokens_of(model), sides.score, sides.names)


def search_items(sides: Sides, task: SearchTask, k: int = DEPTH) -> dict[str, ItemScores]:
    """The scores of :func:`measure_search` by name, of a task whose passages' texts and embeddings fit in memory.

    Args:
        sides: what encodes queries and passages. task: what is searched. k: ranks of MAP and recall, at least 10.
    """
    passages = (sides.second or sides.first)(task.passages.texts(slice(0, len(task.passages))))
    return _ranked(sides.first(task.queries), passages, task, k, sides.score)


def _ranked(
    queries: Rows, passages: Rows, task: SearchTask, k: int, score: str, recall_at: Sequence[int] = ()
) -> dict[str, ItemScores]:
    ranking, _ = top_k(queries, passages, k, score, task.leave_out or None)
    values = ranking_scores(ranking, task.judgements, recall_at=recall_at)
    return {_title(name): ItemScores(each, documents=task.documents, items="queries") for name, each in values.items()}


def _title(metric: str) -> str:
    name, _, rank = metric.partition("@")
    return f"{TITLES[name]}@{rank}"


@contextmanager
def stored_rows(write: Callable[[IO[bytes]], None], shape: tuple[int, int], cached: Path | None) -> Iterator[Rows]:
    """Rows ``shape`` that ``write`` puts into a file, memory-mapped.

    The file is ``cached``. One process writes it if it is not there yet, and others that need it wait. None: a
    temporary file without a name, of which a killed process leaves nothing.

    Raises:
        InputError: the disk is full, a folder cannot be used, or the file has another size.
    """
    file: IO[bytes]
    with ExitStack() as stack:
        try:
            if cached is None:
                file = stack.enter_context(tempfile.TemporaryFile())
                write(file)
                file.flush()
            else:
                _write_once(write, cached)
                file = stack.enter_context(cached.open("rb"))
            rows = _mapped(file, shape, str(cached or "the temporary file"))
        except OSError as error:
            if disk_full(error):
                mend = (
                    f"make room in {cached.parent}"
                    if cached
                    else "make room, or set TMPDIR to a folder on another disk"
                )
                raise InputError(f"the disk is full, so the passages could not be encoded to the end; {mend}") from None
            where = f"--cache {cached.parent}" if cached else "the folder for temporary files"
            raise InputError(f"{where} cannot be used ({error.strerror}); name another folder") from None
        yield rows


def _write_once(write: Callable[[IO[bytes]], None], path: Path) -> None:
    """Write ``path`` unless it is there, and remove what killed writers have left in its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in {each.name[1:].rpartition(".")[0] for each in path.parent.glob(f".{ROWS_OF}-*")} - {path.name}:
        with suppress(Timeout), _lock_of(path.with_name(name)).acquire(timeout=0):  # (else it is being written)
            recover(path.parent, name)
    held = _lock_of(path)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"waiting: another process is encoding these passages into {path.parent}", file=sys.stderr)
        held.acquire()
    try:
        recover(path.parent, path.name)
        if not path.is_file():
            with replacing(path, sync=False) as unfinished, unfinished.open("wb") as file:
                write(file)
    finally:
        held.release()


def _lock_of(path: Path) -> FileLock:
    """Of who writes ``path``, on any machine that has its folder."""
    return FileLock(path.with_name(f".{path.name}.lock"))


def _write_rows(
    model: SentenceTransformer, passages: Passages, batch_size: int, progress: bool, file: IO[bytes]
) -> None:
    """float32, row after row."""
    with tqdm(total=len(passages), desc="passages", unit=" passages", file=sys.stderr, disable=not progress) as bar:
        for start in range(0, len(passages), BLOCK):
            texts = passages.texts(slice(start, min(start + BLOCK, len(passages))))
            sides: Sides = sides_of(model, CachedEncoder(model, batch_size))  # (it holds what it has encoded)
            file.write(np.ascontiguousarray((sides.second or sides.first)(texts), dtype=np.float32).tobytes())
            bar.update(len(texts))


def _mapped(file: IO[bytes], shape: tuple[int, int], name: str) -> Rows:
    if os.fstat(file.fileno()).st_size != 4 * shape[0] * shape[1]:
        raise InputError(f"{name} is damaged, or the encoder gives passages another dimension than queries; delete it")
    return np.memmap(file, dtype=np.float32, mode="r", shape=shape)
