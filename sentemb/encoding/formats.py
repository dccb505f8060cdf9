"""The files of an encoded corpus: a NumPy array that grows a window at a time, and what is made of it at the end.

``numpy``: ``embeddings.npy`` ``[n, width]`` and ``ids.npy`` ``[n]`` with the fields of IDS, both to be mapped; with the
sentences ``texts.parquet``. ``parquet``: ``embeddings.parquet`` with the columns of IDS, ``embedding`` and ``text``.
``safetensors``: ``embeddings.safetensors`` with ``embeddings`` and a tensor for each of IDS; ``texts.parquet``.
``meta.json`` says what they are; ``ranges.npy`` ``[2, dimension]`` are int8's.
"""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentemb.storage import DONE, replacing

EMBEDDINGS, IDS_FILE, TEXTS, META, RANGES = "embeddings.npy", "ids.npy", "texts.parquet", "meta.json", "ranges.npy"
PARQUET, SAFETENSORS = "embeddings.parquet", "embeddings.safetensors"
FINAL = {"numpy": EMBEDDINGS, "parquet": PARQUET, "safetensors": SAFETENSORS}
# of each row: the sentence of the corpus, its document, its place in that, and the first row of the same tokens
IDS = np.dtype([(name, "<i4") for name in ("sentence", "document", "position", "first")])
GROUP = 16_384  # rows that are converted at a time

ReadTexts = Callable[[NDArray[np.int64]], list[str]]  # of sentences of the corpus


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What a .npy file of an array begins with."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def write_texts(folder: Path, ids: NDArray[Any], read: ReadTexts) -> None:
    """Write ``texts.parquet``, whose column ``text`` has the sentence of each row."""
    schema = pa.schema([("text", pa.string())])
    batches = (
        pa.record_batch([pa.array(read(ids["sentence"][rows].astype(np.int64)), pa.string())], schema=schema)
        for rows in _groups(len(ids))
    )
    _write_parquet(folder / TEXTS, schema, batches)


def write_parquet(folder: Path, ids: NDArray[Any], read: ReadTexts | None) -> None:
    """Write ``embeddings.parquet`` of ``embeddings.npy``; with ``read`` also the sentences."""
    stored = np.load(folder / EMBEDDINGS, mmap_mode="r")
    kind = pa.list_(pa.from_numpy_dtype(stored.dtype), stored.shape[1])
    names = [(name, pa.int32()) for name in IDS.names or ()]
    schema = pa.schema([*names, *([("text", pa.string())] if read else []), ("embedding", kind)])

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in _groups(len(ids)):
            columns = [pa.array(np.ascontiguousarray(ids[rows][name])) for name in IDS.names or ()]
            if read:
                columns.append(pa.array(read(ids["sentence"][rows].astype(np.int64)), pa.string()))
            flat = pa.array(np.array(stored[rows]).ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, stored.shape[1]))
            yield pa.record_batch(columns, schema=schema)

    _write_parquet(folder / PARQUET, schema, batches())


def write_safetensors(folder: Path, ids: NDArray[Any]) -> None:
    """Write ``embeddings.safetensors`` of ``embeddings.npy`` and the ids.

    The library writes tensors that are in memory; its format is the length of a JSON header in 8 bytes, the header, and
    the tensors one after the other.
    """
    stored = np.load(folder / EMBEDDINGS, mmap_mode="r")
    kinds = {"f4": "F32", "f2": "F16", "i1": "I8", "u1": "U8", "i4": "I32"}
    tensors = {"embeddings": stored} | {name: ids[name] for name in IDS.names or ()}
    described, end = {}, 0
    for name, array in tensors.items():
        size = array.dtype.itemsize * array.size
        offsets = [end, end + size]
        described[name] = {"dtype": kinds[array.dtype.str[1:]], "shape": list(array.shape), "data_offsets": offsets}
        end += size
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)
    with replacing(folder / SAFETENSORS) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        with (folder / EMBEDDINGS).open("rb") as rows:
            rows.seek(-stored.nbytes, 2)
            shutil.copyfileobj(rows, file, 1 << 22)
        for name in IDS.names or ():
            for group in _groups(len(ids)):
                file.write(ids[group][name].tobytes())


def convert(folder: Path, kind: str, read: ReadTexts | None) -> None:
    """Make the files of another format than NumPy's, and remove those of NumPy's; ``read``: with the sentences."""
    if not (folder / FINAL[kind]).is_file():
        ids = np.load(folder / IDS_FILE, mmap_mode="r")
        if kind == "parquet":
            write_parquet(folder, ids, read)
        else:
            write_safetensors(folder, ids)
    for name in (EMBEDDINGS, IDS_FILE, DONE):
        (folder / name).unlink(missing_ok=True)


def _groups(count: int) -> Iterator[slice]:
    return (slice(start, min(start + GROUP, count)) for start in range(0, count, GROUP))


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with replacing(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=GROUP)
