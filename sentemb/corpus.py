"""Any text -> sentences in documents, prepared once and opened memory-mapped.

A source is read as a stream of sentences with ``None`` after each document, so that a corpus of any size is written
without holding it in memory. To add one: a function that returns a Source, and a line in CORPORA.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from sentemb.cache import FORMAT, cache_dir, digest, key_of, publishing
from sentemb.labelled import CLASSES, labelled_rows, load_data
from sentemb.registry import InputError, build, choose
from sentemb.sample import SAMPLE, sample_documents, sample_files
from sentemb.text import SPLITTER, clean, lines, paragraphs, reading, split_sentences

CHUNK = 10_000  # sentences written, read or tokenized at a time
OFFLINE = "give a folder of .txt books, a file with a sentence a line, or `sample` (needs only a package index)"


@dataclass(frozen=True)
class Tokens:
    """Token ids of every sentence, flat and memory-mapped."""

    ids: NDArray[Any]  # uint16 or int32 [total]
    offsets: NDArray[np.int64]  # [sentences + 1]

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Ids of one sentence, ``[length]``; IndexError outside the corpus."""
        row = range(len(self.offsets) - 1)[row]
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> NDArray[np.int64]:
        """Tokens in each sentence, ``[sentences]``."""
        return np.diff(self.offsets)

    def distinct(self) -> NDArray[np.int64]:
        """For each sentence the first one with the same tokens, ``[sentences]``: equal where sentences are copies."""
        return self._distinct

    @cached_property
    def _distinct(self) -> NDArray[np.int64]:
        ids, bounds = np.asarray(self.ids), self.offsets.tolist()
        first: dict[bytes, int] = {}
        found = (first.setdefault(ids[a:b].tobytes(), i) for i, (a, b) in enumerate(pairwise(bounds)))
        return np.fromiter(found, dtype=np.int64, count=len(bounds) - 1)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sentences in documents, prepared once, opened memory-mapped."""

    name: str  # what it truly is, for outputs: "folder books (100 books)"
    fingerprint: str  # hex, of the source's content, the splitter's version and FORMAT
    folder: Path  # where it is cached
    documents: NDArray[np.int64] = field(repr=False)  # [n_documents + 1], offsets into the sentences
    progress: bool = field(default=True, repr=False)  # whether to show a bar while tokenizing

    @property
    def labelled(self) -> bool:
        """Whether its documents are the rows of a labelled data set."""
        return self.name.startswith("labelled ")

    @property
    def classes(self) -> bool:
        """Whether the last sentence of each of its documents is a class."""
        return self.labelled and self.name.endswith(f"{CLASSES})")

    def __len__(self) -> int:
        """Number of sentences."""
        return int(self.documents[-1])

    @cached_property
    def _texts(self) -> Any:
        from datasets import Dataset  # over a second to import, and training needs only the tokens

        return Dataset.from_file(str(self.folder / "sentences.arrow"))

    def sentences(self, rows: slice | Sequence[int] | NDArray[Any]) -> list[str]:
        """Texts of these rows, in the order given. For looking: training reads tokens()."""
        return list(self._texts[rows if isinstance(rows, slice) else [int(row) for row in rows]]["text"])

    def tokens(self, tokenizer: Tokenizer, max_length: int) -> Tokens:
        """Every sentence as the tokenizer encodes it, special tokens included, cut to ``max_length`` ids.

        Kept beside the corpus for each tokenizer and length. The tokenizer's own padding and truncation are ignored.

        Raises:
            InputError: ``max_length`` leaves no room beside the special tokens, or nothing was encoded at all.
        """
        own = Tokenizer.from_str(tokenizer.to_str())
        own.no_padding()
        own.no_truncation()
        if max_length <= (special := own.num_special_tokens_to_add(False)):
            raise InputError(f"max-length must be more than the {special} special tokens, got {max_length}")
        folder = self.folder / f"tokens-{key_of(own.to_str())}-{max_length}"
        if (found := _load_tokens(folder, len(self))) is None:
            own.enable_truncation(max_length)
            with publishing(folder, lambda made: _load_tokens(made, len(self)) is not None) as made:
                self._encode(own, made)
            found = _load_tokens(folder, len(self))
        if found is None:
            raise InputError(f"the tokenizer gives no token for any sentence of {self.name}")
        return found

    def _encode(self, tokenizer: Tokenizer, folder: Path) -> None:
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
        lengths = [np.zeros(1, dtype=np.int64)]
        bar = tqdm(total=len(self), desc="tokenizing", unit=" sentences", unit_scale=True, disable=not self.progress)
        with open(folder / "ids.npy", "wb") as file, bar:
            _npy_header(file, dtype, 0)
            for start in range(0, len(self), CHUNK):
                encodings = tokenizer.encode_batch_fast(self.sentences(slice(start, start + CHUNK)))
                rows = [encoding.ids for encoding in encodings]
                lengths.append(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
                file.write(np.fromiter((i for row in rows for i in row), dtype=dtype).tobytes())
                bar.update(len(rows))
            offsets = np.cumsum(np.concatenate(lengths))
            _npy_header(file, dtype, int(offsets[-1]))
        np.save(folder / "offsets.npy", offsets)

    def split(self, held_out: float = 0.1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents for training and held-out, as ranges of sentence rows ``[n, 2]`` (start, stop).

        Held out is the last share of the documents (at least one), moved just so far that both sides have a
        neighbour pair. If only one document has two sentences, it is the end of that one (at least two sentences),
        and below four sentences there is nothing to hold out: both sides are then the same.

        Raises:
            ValueError: ``held_out`` is not between 0 and 1.
        """
        if not 0 < held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {held_out}")
        ranges = np.stack([self.documents[:-1], self.documents[1:]], axis=1)  # [n, 2]
        paired = np.flatnonzero(np.diff(self.documents) >= 2)
        if len(paired) >= 2:
            wanted = len(ranges) - max(1, round(held_out * len(ranges)))
            cut = min(max(wanted, int(paired[0]) + 1), int(paired[-1]))
            return ranges[:cut], ranges[cut:]
        start, stop = (int(row) for row in ranges[paired[0]])
        if stop - start < 4:
            return ranges, ranges
        middle = stop - min(max(2, round(held_out * (stop - start))), stop - start - 2)
        ranges[paired[0], 1] = middle
        return ranges, np.array([[middle, stop]], dtype=np.int64)


@dataclass(frozen=True)
class Source:
    """Text that can become a corpus."""

    name: str  # as Corpus.name
    key: str  # hex digest of the content and of how it is read
    read: Callable[[], Iterator[str | None]]  # sentences in order, None after each document


def open_corpus(spec: str, progress: bool = True) -> Corpus:
    """The corpus ``spec`` names: prepared at the first call, opened from the cache after it.

    Args:
        spec: a name in CORPORA with its options (``sample``, ``hub:name=...,column=text``), or the path of a folder
            (each .txt or .txt.gz below it is a book) or of a file (a sentence a line, blank lines between
            documents). A path that reads like a name is written ``./sample``.
        progress: show progress on stderr.

    Raises:
        InputError: no such name or path; not text; no sentence, or no document with two; the data cannot be fetched.
    """
    source = _source(spec, progress)
    folder = cache_dir() / "corpora" / source.key
    if (documents := _load(folder)) is None:
        with publishing(folder, lambda made: _load(made) is not None) as made:
            _write(source, spec, made, progress)
        documents = _load(folder)
    if documents is None:
        raise InputError(f"the prepared corpus in {folder} cannot be read back; remove that folder and try again")
    return Corpus(source.name, source.key, folder, documents, progress)


def _source(spec: str, progress: bool) -> Source:
    path = Path(spec).expanduser()
    if spec.partition(":")[0].strip() in CORPORA:
        return cast(Source, build(CORPORA, spec, what="corpus", progress=progress))
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return Source(f"file {path.name}", key_of("lines", digest(path)), partial(lines, path))
    forms = ["a folder of .txt or .txt.gz books", "a file with a sentence a line", "hub:name=OWNER/DATASET"]
    choose("corpus, and no file or folder has that path:", spec.partition(":")[0], [*CORPORA, *forms])
    raise InputError(f"corpus {spec!r} is neither a file nor a folder; valid: {', '.join(forms)}")  # a device, say


def _load(folder: Path) -> NDArray[np.int64] | None:
    """The documents' offsets of a prepared corpus; None if it is missing or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        documents: NDArray[np.int64] = np.load(folder / "documents.npy")
        size = (folder / "sentences.arrow").stat().st_size
        return documents if (size, int(documents[-1])) == (meta["bytes"], meta["sentences"]) else None
    except (OSError, ValueError, LookupError, EOFError, TypeError):
        return None


def _load_tokens(folder: Path, sentences: int) -> Tokens | None:
    try:
        tokens = Tokens(*(np.load(folder / name, mmap_mode="r") for name in ("ids.npy", "offsets.npy")))
        return tokens if (len(tokens.offsets), tokens.offsets[-1]) == (sentences + 1, len(tokens.ids)) else None
    except (OSError, ValueError, EOFError):
        return None


def _npy_header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """Write the header at the file's start; numpy leaves room in it for any length, so it can be written again."""
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


def _write(source: Source, spec: str, folder: Path, progress: bool) -> None:
    from datasets import Features, Value  # over a second to import, needed only once per corpus
    from datasets.arrow_writer import ArrowWriter

    offsets, count, texts = [0], 0, folder / "sentences.arrow"
    writer = ArrowWriter(features=Features({"text": Value("string")}), path=str(texts))
    bar = tqdm(desc=f"preparing {source.name}", unit=" sentences", unit_scale=True, disable=not progress)
    with writer, bar:
        batch: list[str] = []
        for text in source.read():
            if text is not None:
                batch.append(text)
            elif count + len(batch) > offsets[-1]:
                offsets.append(count + len(batch))
            if len(batch) == CHUNK:
                writer.write_batch({"text": batch})
                count += len(batch)
                bar.update(len(batch))
                batch = []
        count += len(batch)
        if count == 0:
            raise InputError(f"corpus {spec!r} holds no sentence; {OFFLINE}")
        writer.write_batch({"text": batch})
        bar.update(len(batch))
        if count > offsets[-1]:
            offsets.append(count)
        if max(np.diff(offsets)) < 2:
            raise InputError(
                f"corpus {spec!r} has no neighbour pair: none of its documents ({len(offsets) - 1}) has two sentences;"
                " blank lines (or rows) separate documents, so keep them out from between neighbouring sentences"
            )
        writer.finalize()
    np.save(folder / "documents.npy", np.array(offsets, dtype=np.int64))
    meta = {"name": source.name, "source": spec, "sentences": count, "documents": len(offsets) - 1}
    meta |= {"bytes": texts.stat().st_size, "splitter": SPLITTER, "format": FORMAT}
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")


def _folder(folder: Path) -> Source:
    books = [path for path in folder.rglob("*") if path.name.lower().endswith((".txt", ".txt.gz")) and path.is_file()]
    books.sort(key=lambda path: path.relative_to(folder).as_posix())
    if not books:
        raise InputError(f"folder {folder} holds no book: no *.txt or *.txt.gz in it or below; give another --corpus")
    name = f"folder {folder.resolve().name} ({len(books)} book{'s' if len(books) > 1 else ''})"
    return Source(name, key_of("books", SPLITTER, *map(digest, books)), partial(_books, books))


def _books(books: list[Path]) -> Iterator[str | None]:
    for book in books:
        with reading(book) as text:
            found = paragraphs(text.read())
        if not found:
            warnings.warn(f"{book} is empty and left out of the corpus", stacklevel=2)
        for paragraph in found:
            yield from split_sentences(paragraph)
        yield None


def sample(progress: bool = True) -> Source:
    """Film dialogue, plot summaries and editorials of the built-in sample; never its review snippets."""
    folder = sample_files(progress)
    return Source(
        "sample (film dialogue, plots, editorials)", key_of(SPLITTER, SAMPLE), partial(sample_documents, folder)
    )


def hub(name: str, config: str = "", split: str = "train", column: str = "text", progress: bool = True) -> Source:
    """A data set of the Hugging Face hub (or a local path that `datasets` loads): a row is a sentence.

    A blank row separates documents; without any, the whole is one document.

    Raises:
        InputError: it cannot be loaded, or has no such column of text.
    """
    data = load_data(name, progress, config, split)
    kinds = {key: str(getattr(kind, "dtype", kind)) for key, kind in data.features.items()}
    if kinds.get(column) not in ("string", "large_string"):
        listed = ", ".join(f"{key} ({kind})" for key, kind in kinds.items())
        raise InputError(f"data set {name!r} has no text column {column!r}; its columns: {listed}")
    # the fingerprint of a loaded data set follows its files and split: hashing 5 GB at each start would be slow
    key = key_of("hub", data._fingerprint, column)
    return Source(f"hub {name} ({split})", key, partial(_rows, data.select_columns(column), column))


def _rows(data: Any, column: str) -> Iterator[str | None]:
    for batch in data.iter(CHUNK):
        for text in batch[column]:
            yield clean(text or "") or None


def bookcorpus(progress: bool = True) -> Source:
    """BookCorpus from the hub: 74 million sentences, lower case, in order; about 5 GB."""
    # bookcorpus/bookcorpus, the first copy there, is a loading script, which `datasets` refuses since version 4.
    # This one and rojagtap/bookcorpus are plain files: 74,004,228 rows, column text, no book boundaries.
    return hub("SamuelYang/bookcorpus", progress=progress)


def labelled(
    path: str,
    anchor: str = "",
    positive: str = "",
    negatives: str = "",
    label: str = "",
    split: str = "train",
    progress: bool = True,
) -> Source:
    """A labelled data set: each row (anchor, positive and any hard negatives) becomes a document of as many sentences.

    Args:
        path: a .jsonl, .json, .csv, .tsv or .parquet file with named columns, or a hub name.
        anchor, positive: their columns; by default those of these names, else the first two columns of text.
        negatives: columns of hard negatives, joined by +; by default those whose names begin with ``negative`` or
            ``hard_neg``, else all further columns of text where anchor and positive were the first two; ``none``.
        label: column of each row's class (for supcon); it becomes a last sentence of the document.
        split: of a hub data set.
        progress: show bars.

    Raises:
        InputError: it cannot be loaded, has no such columns, or a cell is empty; the row is named.
    """
    name, key, rows = labelled_rows(path, anchor, positive, negatives, label, split, progress)
    return Source(name, key, rows)


CORPORA: dict[str, Callable[..., Source]] = {
    "sample": sample,
    "hub": hub,
    "bookcorpus": bookcorpus,
    "labelled": labelled,
}
