"""Text that a program holds: lists of texts, of documents or of pairs, and data sets of the ``datasets`` library."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sentemb.corpus.books import paragraphs
from sentemb.corpus.multilingual import split_text, splitter_of
from sentemb.corpus.readers.labelled import labelled_data_set
from sentemb.corpus.sentences import clean
from sentemb.corpus.text_source import Reader, Skip, TextSource
from sentemb.errors import InputError
from sentemb.languages import DEFAULT
from sentemb.storage import key_of

LOOKED_AT = 1_000  # texts, to see whether they are sentences or documents
VALID = (
    "a list of texts (sentences in order, or documents), a list of documents (lists of sentences), a list of pairs or "
    "triples (tuples: anchor, positive, hard negatives), or a datasets.Dataset with a column of text or with columns "
    "anchor and positive"
)


def memory_source(texts: Any, language: str = DEFAULT) -> TextSource:
    """A corpus of what a program holds. Documents are split into sentences by the rules of ``language``.

    - A list of texts: documents, which are split into sentences, if most of them hold two sentences or more; else
      sentences of one document, in order.
    - A list of lists of texts: documents of sentences.
    - A list of tuples of texts: labelled rows of anchor, positive and hard negatives, all of one length.
    - A ``datasets.Dataset``: labelled rows where it has two columns of text or more, else a list of texts.

    Raises:
        InputError: it is something else, holds something else, or is empty.
    """
    if type(texts).__module__.partition(".")[0] == "datasets":
        return _data_set_source(texts, language)
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise InputError(f"the corpus is a {type(texts).__name__}; give {VALID}")
    rows = list(texts)
    if not rows:
        raise InputError(f"the corpus is empty; give {VALID}")
    kinds = {tuple if isinstance(row, tuple) else list if isinstance(row, list) else type(row) for row in rows}
    if kinds == {str}:
        return _texts_source(rows, "texts", language)
    if kinds == {tuple}:
        return _pairs_source(rows)
    if kinds == {list}:
        return _documents_source(rows)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(f"the corpus is a list of {names}; give {VALID}")


def _texts_source(texts: Sequence[str], what: str, language: str) -> TextSource:
    looked_at = np.linspace(0, len(texts) - 1, min(LOOKED_AT, len(texts))).astype(int)
    several = sum(len(_sentences(texts[i], language)) > 1 for i in looked_at)
    documents = 2 * several > len(looked_at)
    read: Callable[[Skip], Iterator[str | None]] = partial(_read_texts, texts, language if documents else "")
    kind = "documents" if documents else "sentences"
    how = [kind, *([splitter_of(language)] if documents else [])]
    source = _source(f"{len(texts):,} {what} ({kind})", read, how, texts)
    return replace(source, language=language if documents else "")


def _documents_source(documents: Sequence[list[str]]) -> TextSource:
    for i, document in enumerate(documents):
        _refuse_other_than_text(document, f"document {i}")
    flat = [text for document in documents for text in (*document, "\0")]
    return _source(f"{len(documents):,} documents", partial(_read_documents, documents), ["documents"], flat)


def _pairs_source(rows: Sequence[tuple[str, ...]]) -> TextSource:
    columns = len(rows[0])
    for i, row in enumerate(rows):
        _refuse_other_than_text(row, f"row {i}")
        if len(row) < 2:
            raise InputError(
                f"row {i} of the pairs has {len(row)} text(s); give an anchor, a positive and any negatives"
            )
        if len(row) != columns:
            raise InputError(
                f"row {i} of the pairs has {len(row)} texts, and row 0 {columns}; all need the same number"
            )
        if not all(clean(text) for text in row):
            raise InputError(f"row {i} of the pairs has an empty text; fill it or remove the row")
    negatives = f" with {columns - 2} hard negative(s)" if columns > 2 else ""
    flat = [text for row in rows for text in row]
    source = _source(f"{len(rows):,} pairs{negatives}", partial(_read_documents, rows), ["pairs", str(columns)], flat)
    return TextSource(source.name, source.key, source.parts, labelled=True)


def _data_set_source(data: Any, language: str) -> TextSource:
    if not hasattr(data, "features") or not hasattr(data, "select_columns") or not hasattr(data, "__len__"):
        raise InputError(
            f"the corpus is a {type(data).__name__}; give one split of it, a datasets.Dataset: data['train'], or "
            "data.take(N) as a list"
        )
    kinds = {key: str(getattr(kind, "dtype", kind)) for key, kind in data.features.items()}
    texts = [key for key, kind in kinds.items() if kind in ("string", "large_string")]
    if len(texts) == 1:
        return _texts_source(list(data[texts[0]]), f"texts of {texts[0]!r}", language)
    name, key, read = labelled_data_set(data, "Dataset")
    return TextSource(name, key, lambda: [partial(_unskipped, read)], labelled=True)


def _source(name: str, read: Reader, how: Sequence[str], texts: Iterable[str]) -> TextSource:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", errors="surrogatepass") + b"\0")
    key = key_of("memory", *how, digest.hexdigest())
    return TextSource(name, key, lambda: [read])


def _refuse_other_than_text(row: Sequence[Any], where: str) -> None:
    for text in row:
        if not isinstance(text, str):
            raise InputError(f"{where} of the corpus holds a {type(text).__name__}; give texts")


def _sentences(text: str, language: str) -> list[str]:
    return [sentence for paragraph in paragraphs(text, language) for sentence in split_text(paragraph, language)]


def _read_texts(texts: Sequence[str], language: str, skip: Skip) -> Iterator[str | None]:
    for text in texts:
        if language:  # they are documents
            yield from _sentences(text, language)
            yield None
        elif sentence := clean(text):
            yield sentence


def _read_documents(documents: Sequence[Sequence[str]], skip: Skip) -> Iterator[str | None]:
    for document in documents:
        yield from filter(None, map(clean, document))
        yield None


def _unskipped(read: Callable[[], Iterator[str | None]], skip: Skip) -> Iterator[str | None]:
    return read()
