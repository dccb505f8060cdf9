"""An encoded corpus, opened: embeddings as they are stored or in float32, which sentence each is of, its text."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentemb.corpus import Corpus, open_corpus
from sentemb.encoding.formats import EMBEDDINGS, FINAL, IDS, IDS_FILE, META, PARQUET, RANGES, SAFETENSORS, TEXTS
from sentemb.encoding.precision import Precision
from sentemb.errors import InputError
from sentemb.storage import verify

BLOCK = 4096  # rows that are read at a time
KINDS = {"F32": "<f4", "F16": "<f2", "I8": "|i1", "U8": "|u1", "I32": "<i4"}  # of safetensors


class EncodedCorpus:
    """A folder that :func:`sentemb.encode` has written.

    ``len()`` is its number of sentences, ``meta`` what was encoded and how (``meta.json``).

    Args:
        folder: where it is.
        check: compare all files with the manifest, byte for byte; without it, only what is read is read.

    Raises:
        InputError: it is no such folder. CorruptFolder: it is not what its manifest lists.
    """

    def __init__(self, folder: str | Path, check: bool = False) -> None:
        self.folder = Path(folder)
        try:
            self.meta: dict[str, Any] = json.loads((self.folder / META).read_text(encoding="utf-8"))
            self._format, self._count = str(self.meta["format"]), int(self.meta["sentences"])
            name, dimension = str(self.meta["precision"]), int(self.meta["dimension"])
            if not (self.folder / FINAL[self._format]).is_file():
                raise ValueError(f"it has no {FINAL[self._format]}")
            ranges = np.load(self.folder / RANGES) if name == "int8" else None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self.folder} holds no embeddings of a corpus ({error}); give a folder that recipes/encode.py "
                "has made"
            ) from None
        if check:
            verify(self.folder)
        self.precision = Precision(name, dimension, ranges)

    def __len__(self) -> int:
        return self._count

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return self.precision.dimension

    @cached_property
    def embeddings(self) -> NDArray[Any]:
        """The stored rows ``[n, width]``, memory-mapped: of binary ones, bytes of eight signs.

        Raises:
            InputError: they are in a Parquet file, which cannot be mapped.
        """
        if self._format == "parquet":
            raise InputError(f"{self.folder / PARQUET} cannot be mapped; read it with blocks(), or by pyarrow")
        return self._mapped("embeddings", EMBEDDINGS)

    @cached_property
    def ids(self) -> NDArray[Any]:
        """Of each row: ``sentence`` (its number in the corpus), ``document``, ``position`` in that, and ``first``.

        ``first`` is the first row of the same tokens, and so of the same embedding: its own number, but for copies.
        """
        if self._format == "numpy":
            return self._mapped("", IDS_FILE)
        out = np.empty(len(self), dtype=IDS)
        table = pq.read_table(self.folder / PARQUET, columns=list(IDS.names or ())) if self._format == "parquet" else {}
        for name in IDS.names or ():
            out[name] = self._mapped(name, "") if self._format == "safetensors" else table[name].to_numpy()
        return out

    def blocks(self, size: int = BLOCK) -> Iterator[NDArray[np.float32]]:
        """Embeddings float32 ``[m, dimension]``, block after block of at most ``size``, in order."""
        if self._format != "parquet":
            for start in range(0, len(self), size):
                yield self.precision.floats(self.embeddings[start : start + size])
            return
        for batch in pq.ParquetFile(self.folder / PARQUET).iter_batches(size, columns=["embedding"]):
            flat = batch.column(0).flatten().to_numpy()
            yield self.precision.floats(flat.reshape(len(batch), self.precision.width))

    def texts(self, rows: NDArray[np.int64] | list[int]) -> list[str]:
        """The sentences of these rows: from the folder, or from the corpus that was encoded.

        Raises:
            InputError: the folder has none, and the corpus is not there any more, or is another now.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if self.meta["text"]:
            return self._stored_texts(rows)
        return self._corpus.sentences(self.ids["sentence"][rows])

    def files(self, rows: NDArray[np.int64] | list[int]) -> list[str]:
        """The file of each of these rows' sentences; "" for the text of a program."""
        if not self.meta["files"]:
            return [""] * len(rows)
        names, starts = zip(*self.meta["files"], strict=True)
        documents = self.ids["document"][np.asarray(rows, dtype=np.int64)]
        return [names[place] for place in np.searchsorted(starts, documents, side="right") - 1]

    @cached_property
    def _corpus(self) -> Corpus:
        spec = self.meta["corpus"]
        mend = "encode it again with --text, so that the sentences are in the folder"
        if spec is None:
            raise InputError(f"{self.folder} has no sentences, and their text was an object of a program; {mend}")
        corpus = open_corpus(spec, language=str(self.meta["language"]), needs_pairs=False)
        if corpus.fingerprint != self.meta["corpus_fingerprint"]:
            raise InputError(f"{spec} is not the text any more that {self.folder} was made of; {mend}")
        return corpus

    def _stored_texts(self, rows: NDArray[np.int64]) -> list[str]:
        file = pq.ParquetFile(self.folder / (PARQUET if self._format == "parquet" else TEXTS))
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.searchsorted(ends, rows, side="right")
        texts: dict[int, str] = {}
        for group in np.unique(groups).tolist():
            column = file.read_row_group(group, columns=["text"]).column(0)
            inside = rows[groups == group]
            texts |= {int(row): column[int(row) - int(ends[group]) + sizes[group]].as_py() for row in inside}
        return [texts[row] for row in rows.tolist()]

    def _mapped(self, name: str, file: str) -> NDArray[Any]:
        """An array of a NumPy file, or a tensor of the safetensors file, memory-mapped."""
        if self._format == "numpy":
            return np.load(self.folder / file, mmap_mode="r")
        path = self.folder / SAFETENSORS
        with path.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            about = json.loads(opened.read(size))[name]
        kind, shape = np.dtype(KINDS[about["dtype"]]), tuple(about["shape"])
        return np.memmap(path, dtype=kind, mode="r", offset=8 + size + about["data_offsets"][0], shape=shape)
