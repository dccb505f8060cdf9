"""Find the hard negatives of all pairs once. They are memory-mapped in the cache; finished chunks survive a crash.

``negatives.i32`` holds the rows of each pair's hard negatives, ``meta.json`` their shape; -1 is none.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sentemb.corpus import Corpus, Tokens
from sentemb.errors import InputError
from sentemb.mining.candidates import DRAWN, ExcludedCandidates
from sentemb.mining.spec import MinedSpec
from sentemb.pairs import Numbers, Pairs
from sentemb.storage import DONE, append_chunks, build_once, key_of, rows_done, write_text
from sentemb.teacher import size_in_words, time_in_words

CHUNK = 4096  # pairs that are searched for, and whose negatives are put onto the disk, together
MEASURED = 2048  # pairs that are measured for the estimate
ROWS, META = "negatives.i32", "meta.json"


class Search(Protocol):
    """Finds hard negatives of pairs among a pool."""

    def places(self, rows: Numbers, left_out: Sequence[Numbers]) -> Numbers:
        """Places in the pool ``[n, per_anchor]``, the nearest first; -1 where there are fewer.

        ``rows``: int64 ``[n, 2]``, anchors and positives. ``left_out``: for each the places that do not count.
        """


class Excluded(Protocol):
    """The places of a pool that a pair must not have."""

    def of(self, rows: Numbers) -> list[Numbers]:
        """Places for each of the pairs ``rows`` ``[n, 2]``, without a copy."""


class MinedNegatives:
    """The hard negatives of pairs, memory-mapped (a :class:`sentemb.pairs.PairNegatives`).

    Args:
        folder: where they are.

    Raises:
        OSError, ValueError: they are not there, or not complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        shape = int(meta["pairs"]), int(meta["per_anchor"])
        self.missing = int(meta["missing"])  # negatives that there are not
        if (folder / ROWS).stat().st_size != 4 * shape[0] * shape[1]:
            raise ValueError(f"{folder / ROWS} does not have the size of {shape[0]} x {shape[1]} numbers")
        self.rows = np.asarray(np.memmap(folder / ROWS, dtype="<i4", mode="r", shape=shape))

    def __reduce__(self) -> tuple[type["MinedNegatives"], tuple[Path]]:  # another process maps the same file
        return MinedNegatives, (self.folder,)

    @property
    def per_pair(self) -> int:
        """Hard negatives a pair."""
        return int(self.rows.shape[1])

    def of(self, numbers: Numbers) -> Numbers:
        """As :meth:`sentemb.pairs.PairNegatives.of`."""
        return self.rows[numbers].astype(np.int64)


@dataclass(frozen=True)
class MiningTask:
    """The task of finding hard negatives: pairs, pool and settings."""

    corpus: Corpus
    tokens: Tokens  # copies of a sentence have the same
    pairs: Pairs
    pool: Numbers  # sentence rows of the candidates
    spec: MinedSpec

    unit: ClassVar[str] = "sentences"  # what candidates are

    def __post_init__(self) -> None:
        refuse_small_pool(len(self.pool), self.spec, self.corpus, self.unit)

    @property
    def sentence_rows(self) -> Numbers:
        """Of anchors and positives, ``[m, 2]``."""
        blocks = [self.pairs.rows[start : start + DRAWN][:, :2] for start in range(0, len(self.pairs), DRAWN)]
        return np.concatenate(blocks)

    def excluded(self) -> Excluded:
        """The candidates that a pair must not have."""
        return ExcludedCandidates(self.pairs, self.pool, self.tokens.distinct())

    def key(self, miner: str) -> str:
        """Hex digest of all that decides the hard negatives; ``miner``: of what finds them."""
        digest = hashlib.blake2b(self.pool.tobytes(), digest_size=16)
        for start in range(0, len(self.pairs), DRAWN):
            digest.update(np.ascontiguousarray(self.pairs.rows[start : start + DRAWN]).tobytes())
        spec, tokens = self.spec, str(getattr(self.tokens.folder, "name", ""))
        asked = f"{spec.per_anchor} {spec.skip} {spec.relative_margin} {CHUNK}"
        return key_of(miner, self.corpus.fingerprint, tokens, asked, digest.hexdigest())


def refuse_small_pool(size: int, spec: MinedSpec, corpus: Corpus, unit: str) -> None:
    """InputError if a pool of ``size`` distinct sentences or passages cannot hold what is asked for."""
    if size < spec.least_pool:
        raise InputError(
            f"the pool for hard negatives has {size:,} distinct {unit} of {corpus.name}, and "
            f"per_anchor={spec.per_anchor} with skip={spec.skip} needs {spec.least_pool}; give more text, or lower "
            "per_anchor= or skip="
        )


def mine_negatives(task: MiningTask, miner: str, make_search: Callable[[], Search]) -> MinedNegatives:
    """The hard negatives of a task: from the cache, or found and put there.

    What a killed process has finished stays, and the next one continues after it; the bytes are those of a process that
    ran to the end. Never is a sentence with the tokens of the anchor, or of a positive of it, among them.

    Args:
        task: the pairs and the pool.
        miner: hex digest of what finds them.
        make_search: makes what finds them, where they are not in the cache.

    Raises:
        InputError: the disk is full, or what ``make_search`` raises.
    """
    corpus, spec = task.corpus, task.spec
    target = corpus.folder / f"negatives-{task.key(miner)}"
    if (mined := _opened(target)) is not None:
        return mined
    size = size_in_words(4 * len(task.pairs) * spec.per_anchor)
    what = f"the hard negatives of {corpus.name} ({size})"
    with build_once(target, lambda made: _opened(made) is not None, what, corpus.progress) as work:
        if work is not None and _opened(work) is None:
            _write(task, make_search(), work)
    return MinedNegatives(target)


def _opened(folder: Path) -> MinedNegatives | None:
    try:
        return MinedNegatives(folder)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(task: MiningTask, search: Search, folder: Path) -> None:
    """Append the chunks that are not on the disk yet; their shape comes last."""
    spec, total, path = task.spec, len(task.pairs), folder / ROWS
    row_bytes = 4 * spec.per_anchor
    excluded = task.excluded()

    def find(numbers: Numbers) -> NDArray[np.int32]:
        rows = task.pairs.rows[numbers][:, :2]
        places = search.places(rows, excluded.of(rows))
        return np.where(places < 0, -1, task.pool[places]).astype("<i4")

    def chunk(first: int) -> NDArray[np.int32]:
        rows = find(np.arange(first, min(first + CHUNK, total)))
        bar.update(len(rows))
        return rows

    done, show = rows_done(path, row_bytes), task.corpus.progress
    if done < total and show:
        tqdm.write(_estimate(task, find, total - done), file=sys.stderr)
    with tqdm(total=total, initial=done, desc="negatives", unit=" pairs", unit_scale=True, disable=not show) as bar:
        append_chunks(path, row_bytes, total, CHUNK, chunk)
    missing = int((np.memmap(path, dtype="<i4", mode="r") < 0).sum())
    content = {"pairs": total, "per_anchor": spec.per_anchor, "missing": missing}
    write_text(folder / META, json.dumps(content))
    (folder / DONE).unlink()


def _estimate(task: MiningTask, find: Callable[[Numbers], object], left: int) -> str:
    """Estimate the time for all pairs from some pairs, measured after a warm-up, and print it first."""
    total, spec = len(task.pairs), task.spec
    sample = np.linspace(0, total - 1, min(MEASURED, total)).astype(np.int64)
    find(sample[: len(sample) // 8 + 1])
    start = time.perf_counter()
    find(sample)
    rate = len(sample) / max(time.perf_counter() - start, 1e-9)
    part = "" if left == total else f"{left:,} left of "
    return (
        f"negatives: {spec.per_anchor} of each of {part}{total:,} pairs, out of {len(task.pool):,} {task.unit}: "
        f"{size_in_words(4 * total * spec.per_anchor)}, about {time_in_words(left / rate)} ({rate:,.0f} pairs/s)"
    )
