"""A corpus to a folder of embeddings: in windows of sentences, each complete on the disk before it counts.

Next to OUT the folder ``.OUT.unfinished`` is filled, and named OUT at the end. A killed encoding leaves it; the same
call continues after the last complete window and ends with the bytes of one that was never killed.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from sentemb.corpus import Corpus, absolute_corpus, check_corpus, files_of_documents, open_corpus
from sentemb.encoders import fingerprint_of, folder_of_pretrained, read_model, refuse_missing_device
from sentemb.encoding.corpus_encoder import ROLE, CorpusEncoder
from sentemb.encoding.formats import (
    EMBEDDINGS,
    FINAL,
    IDS,
    IDS_FILE,
    META,
    RANGES,
    TEXTS,
    convert,
    npy_header,
    write_texts,
)
from sentemb.encoding.precision import Precision, ranges_of
from sentemb.encoding.settings import EncodingSettings, refuse_used_out
from sentemb.encoding.stored import EncodedCorpus
from sentemb.errors import InputError, PreparationInterrupted, disk_full
from sentemb.registry import choose
from sentemb.storage import (
    DONE,
    MANIFEST,
    append_chunks,
    finish_folder,
    replacing,
    rows_done,
    write_text,
    writes_alone,
)
from sentemb.teacher import Estimate, distinct_sentences, seconds_left, size_in_words
from sentemb.training import tune_memory, use_threads
from sentemb.validation import fingerprint

VERSION = 2  # of the folder's layout, and of how batches are made: another one does not continue the folder
# sentences that are put into batches of like length, and then onto the disk, together: a kill costs one window at most
WINDOW, WINDOW_STATIC = 4096, 16_384
SAMPLE = 10_000  # sentences whose embeddings give the ranges of int8, and by whose lengths the time is estimated
BLOCK = 1_000_000  # ids that are made at a time


def encode(model: str | Path | SentenceTransformer, corpus: Any, out: str | Path, **settings: Any) -> EncodedCorpus:
    """Embed each sentence of a corpus, and write the embeddings and which sentence each is of into a folder.

        encoded = sentemb.encode("runs/first", "books/", "vectors")
        encoded.embeddings  # a memory map float32 [n, d]: row i is of encoded.texts([i])

    The numbers are those of ``model.encode``, to rounding. Copies of a sentence are embedded once. It needs the memory
    of the model and of a window of some thousand sentences. After a kill the same call continues.

    Args:
        model: a folder, a run, a hub name, ``minilm``, or a SentenceTransformer.
        corpus: the text, as :func:`sentemb.open_corpus` takes it.
        out: a new folder, or an empty one.
        **settings: ``precision``, ``format``, ``truncate``, ``prompt``, ``prompt_name``, ``tower``, ``text``,
            ``language``, ``device``, ``threads`` (:class:`sentemb.encoding.EncodingSettings`).

    Returns:
        The folder, opened.

    Raises:
        InputError: something that was given cannot be used, ``out`` is in use, or the disk is full; one sentence.
    """
    names = [each.name for each in fields(EncodingSettings)]
    for name in settings:
        choose("setting of encode", name, names)
    chosen, target = EncodingSettings(**settings), Path(out).absolute()
    refuse_used_out(target)
    if isinstance(corpus, str | Path):
        check_corpus(str(corpus))
    if chosen.device is not None:
        refuse_missing_device(chosen.device)
    tune_memory()
    text = open_corpus(corpus, language=chosen.language, needs_pairs=False)
    with _threads(chosen.threads):  # (an ONNX session takes their number when it is opened)
        source = _Source.of(model, chosen.device)
        training = source.model.training
        try:
            encoder = CorpusEncoder(source.model, text, chosen, source.card)
            about = _meta(source, corpus, encoder, chosen)
            _Writer(encoder, chosen, target, about).write()
        finally:
            source.model.train(training)
    return EncodedCorpus(target)


@dataclass(frozen=True)
class _Source:
    """The model that embeds, what distinguishes it from others, and its card."""

    model: SentenceTransformer
    name: str
    fingerprint: str
    card: str

    @classmethod
    def of(cls, model: str | Path | SentenceTransformer, device: str | None) -> "_Source":
        """A model, or what is read from its folder."""
        if isinstance(model, SentenceTransformer):
            return cls(model if device is None else model.to(device), "", fingerprint(model), "")
        folder = folder_of_pretrained(str(model))
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        return cls(read_model(folder, device), str(model), fingerprint_of(folder), text)


def _meta(source: _Source, corpus: Any, encoder: CorpusEncoder, settings: EncodingSettings) -> dict[str, Any]:
    """What an encoding is; equal where its bytes are to be."""
    text, device = encoder.corpus, encoder.parts[0].model.device
    return {
        "version": VERSION,
        "format": settings.format,
        "precision": settings.precision,
        "sentences": _count(text),
        "dimension": encoder.dimension,
        "unit_length": encoder.unit_length,
        "truncate": settings.truncate,
        "score": "dot" if source.model.similarity_fn_name == "dot" else "cosine",
        "tower": encoder.tower,
        "prompts": encoder.prompts,
        "text": settings.text,
        "model": source.name,
        "model_fingerprint": source.fingerprint,
        "corpus": absolute_corpus(str(corpus)) if isinstance(corpus, str | Path) else None,
        "corpus_name": text.name,
        "corpus_fingerprint": text.fingerprint,
        "language": text.language,
        "files": files_of_documents(str(corpus), text) if isinstance(corpus, str | Path) else [],
        # (each kind of device rounds differently: what is computed on one is not continued on another)
        "device": device.type,
        "window": WINDOW_STATIC if encoder.parts[0].is_static else WINDOW,
    }


def _count(corpus: Corpus) -> int:
    """Sentences that are embedded: names of classes are none."""
    return len(corpus) - (len(corpus.documents) - 1 if corpus.classes else 0)


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Use this number of threads of torch, by default all cores; then restore the former number."""
    before = torch.get_num_threads()
    use_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Writer:
    """One encoding into its unfinished folder."""

    encoder: CorpusEncoder
    settings: EncodingSettings
    target: Path
    meta: dict[str, Any]

    @property
    def work(self) -> Path:
        """Where it is written until it is complete."""
        return self.target.with_name(f".{self.target.name}.unfinished")

    @property
    def progress(self) -> bool:
        """Whether to show how far it is."""
        return self.encoder.corpus.progress

    def write(self) -> None:
        """Everything, and then the name.

        Raises:
            InputError: as :func:`encode`.
        """
        refusal = f"another process is writing {self.target}; wait for it, or give another folder"
        with writes_alone(self.target, refusal):
            try:
                refuse_used_out(self.target)  # (again: another process may have finished it)
                self._claim()
                self._fill()
                finish_folder(self.work, self.target, (DONE,))
            except OSError as error:
                if disk_full(error):
                    raise PreparationInterrupted(
                        f"the disk of {self.target.absolute().parent} is full; make room, and run the same "
                        f"command again to continue, or remove {self.work}"
                    ) from None
                where = error.filename or self.work
                raise InputError(f"cannot write to {where} ({error.strerror or error})") from None

    def _claim(self) -> None:
        """Begin the folder, or continue with the one that is there."""
        begun = self.work / META
        wanted = json.dumps(self.meta, indent=1) + "\n"
        if begun.is_file():
            if begun.read_text(encoding="utf-8") != wanted:
                raise InputError(
                    f"{self.work} is an unfinished encoding by another model, of another text or with other settings; "
                    "give its command again, remove it, or name another folder"
                )
            for leftover in self.work.glob(".*"):  # being written when a process was killed
                leftover.unlink(missing_ok=True)
            return
        self._refuse_small_disk()
        self.work.mkdir(parents=True, exist_ok=True)
        write_text(begun, wanted)

    def _refuse_small_disk(self) -> None:
        precision = Precision(self.settings.precision, self.encoder.dimension)
        each = precision.row_bytes * (1 if self.settings.format == "numpy" else 2) + IDS.itemsize
        needed = each * self.meta["sentences"] + (self.encoder.corpus.stored.size if self.settings.text else 0)
        above = next(folder for folder in self.target.absolute().parents if folder.exists())
        if (free := shutil.disk_usage(above).free) < needed:
            raise InputError(
                f"{self.target} needs {size_in_words(needed)}, and its disk has {size_in_words(free)}; make room, give "
                "a folder on another disk, or choose --precision float16, int8 or binary"
            )

    def _fill(self) -> None:
        """What the folder holds, but for the manifest."""
        if (self.work / MANIFEST).is_file():
            return
        kind, read = self.settings.format, self.encoder.corpus.sentences
        is_converted = kind != "numpy" and (self.work / FINAL[kind]).is_file()
        if not is_converted:
            try:
                self._embed()
            except PreparationInterrupted:
                raise
            except InputError:
                shutil.rmtree(self.work, ignore_errors=True)
                raise
        if self.settings.text and kind != "parquet" and not (self.work / TEXTS).is_file():
            write_texts(self.work, np.load(self.work / IDS_FILE, mmap_mode="r"), read)
        if kind != "numpy":
            convert(self.work, kind, read if self.settings.text else None)

    def _embed(self) -> None:
        """The rows that are not on the disk yet."""
        ids_file, rows_file = self.work / IDS_FILE, self.work / EMBEDDINGS
        if not ids_file.is_file():
            with replacing(ids_file) as partial:
                write_ids(partial, self.encoder)
        ids = np.load(ids_file, mmap_mode="r")
        total, plain = len(ids), Precision(self.settings.precision, self.encoder.dimension)
        header = npy_header(plain.dtype, (total, plain.width))
        done = rows_done(rows_file, plain.row_bytes, header)
        if done == total:
            return
        self._tell(ids, done)
        precision = Precision(plain.name, plain.dimension, self._ranges(ids))
        bar = tqdm(
            total=total, initial=done, desc="encoding", unit=" sentences", unit_scale=True, disable=not self.progress
        )
        with bar:
            windows = _Windows(self.encoder, precision, ids, rows_file, len(header), self.meta["window"], bar)
            append_chunks(rows_file, precision.row_bytes, total, windows.size, windows.rows, header)

    def _tell(self, ids: NDArray[Any], done: int) -> None:
        """Say what is to come, by batches that are measured."""
        for note in [*self.encoder.corpus.notes, *self.encoder.notes] if self.progress else []:
            tqdm.write(f"note: {note}", file=sys.stderr)
        places = np.linspace(done, len(ids) - 1, min(SAMPLE, len(ids) - done)).astype(np.int64)
        sample = places[ids["first"][places] == places]
        if not self.progress or not len(sample):
            return
        rows = ids["sentence"][sample]
        size = self.encoder.batch_tokens
        seconds = seconds_left(
            self.encoder.tokens[0], rows, size, lambda part: self.encoder.embed(part.astype(np.int64))
        )
        seconds *= (len(ids) - done) / len(places)
        name = self.settings.precision
        estimate = Estimate(len(ids) - done, len(ids), self.encoder.dimension, seconds, ROLE, name)
        tqdm.write(str(estimate), file=sys.stderr)

    def _ranges(self, ids: NDArray[Any]) -> NDArray[np.float32] | None:
        """Of int8, from a sample, kept in the folder."""
        if self.settings.precision != "int8":
            return None
        file = self.work / RANGES
        if not file.is_file():
            sample = np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).astype(np.int64)
            rows = np.unique(ids["sentence"][ids["first"][sample]].astype(np.int64))
            ranges = [ranges_of(self.encoder.embed(rows[places])) for places in self.encoder.batches(rows)]
            with replacing(file) as partial, partial.open("wb") as opened:
                np.save(opened, ranges_of(np.concatenate(ranges)))
        ranges_read: NDArray[np.float32] = np.load(file)
        return ranges_read


@dataclass(frozen=True)
class _Windows:
    """The stored rows of windows of sentences, a copy of an earlier sentence taken from the file."""

    encoder: CorpusEncoder
    precision: Precision
    ids: NDArray[Any]
    file: Path
    offset: int  # bytes before its first row
    size: int  # sentences of a window
    bar: Any

    def rows(self, start: int) -> NDArray[Any]:
        """Rows ``[m, width]`` from number ``start`` on, at most ``size``."""
        window = np.array(self.ids[start : start + self.size])
        first = window["first"].astype(np.int64)
        out = np.empty((len(window), self.precision.width), dtype=self.precision.dtype)
        new = np.flatnonzero(first == np.arange(start, start + len(window)))
        sentences = window["sentence"][new].astype(np.int64)
        for places in self.encoder.batches(sentences):
            out[new[places]] = self.precision.stored(self.encoder.embed(sentences[places]))
            self.bar.update(len(places))
        earlier = np.flatnonzero(first < start)
        if len(earlier):
            shape = start, self.precision.width
            written = np.memmap(self.file, dtype=self.precision.dtype, mode="r", offset=self.offset, shape=shape)
            out[earlier] = written[first[earlier]]
        again = np.flatnonzero((first >= start) & (first < np.arange(start, start + len(window))))
        out[again] = out[first[again] - start]
        self.bar.update(len(window) - len(new))
        return out


def write_ids(path: Path, encoder: CorpusEncoder) -> None:
    """Write the ids of all sentences that are embedded (:data:`sentemb.encoding.formats.IDS`) as a .npy file."""
    corpus = encoder.corpus
    documents = np.asarray(corpus.documents)
    ends = documents[1:] - (1 if corpus.classes else 0)
    keys = encoder.keys()
    ranges = np.stack([documents[:-1], ends], axis=1) if corpus.classes else np.array([[0, len(corpus)]])
    first_rows, numbers = distinct_sentences(keys, ranges)
    with path.open("wb") as file:
        file.write(npy_header(IDS, (_count(corpus),)))
        for start in range(0, len(corpus), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(corpus)))
            document = np.searchsorted(documents, rows, side="right") - 1
            if corpus.classes:
                chosen = rows < ends[document]
                rows, document = rows[chosen], document[chosen]
            first = first_rows[numbers[rows]].astype(np.int64)
            if corpus.classes:  # each document before has a row that is left out
                first -= np.searchsorted(documents, first, side="right") - 1
            block = np.empty(len(rows), dtype=IDS)
            columns = (rows, document, rows - documents[document], first)
            for name, column in zip(IDS.names or (), columns, strict=True):
                block[name] = column
            file.write(block.tobytes())
