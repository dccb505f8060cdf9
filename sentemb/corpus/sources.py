"""The sources of a corpus, and ``open_corpus``.

To add a kind: a function that returns a TextSource (its readers give sentences in order and None after each document),
and a line in CORPORA.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, cast

from sentemb.corpus.corpus import Corpus, open_folder
from sentemb.corpus.multilingual import splitter_of
from sentemb.corpus.prepare import prepare_sentences, refuse_without_pairs
from sentemb.corpus.readers import (
    BOOKS,
    BOUNDARY,
    FORMATS,
    RowLayout,
    books,
    check_columns,
    complaining,
    file_rows,
    grouped,
    hub_rows,
    identity_of,
    labelled_rows,
    line_parts,
    load_data,
    memory_source,
    packing_of,
    shape_of,
    stream,
)
from sentemb.corpus.sample import SAMPLE, sample_documents, sample_files
from sentemb.corpus.sentences import SPLITTER
from sentemb.corpus.text_source import Reader, Skip, TextSource
from sentemb.errors import InputError
from sentemb.languages import DEFAULT, check_language
from sentemb.registry import (
    PathText,
    absolute,
    absolute_paths,
    build,
    check,
    options_of,
    path_exists,
    path_suggestion,
    quoted,
    shadowing_note,
    weighted_parts,
)
from sentemb.storage import cache_dir, digests, key_of, shows_progress

FORMS = ["a folder of .txt books", "a book or a file with a sentence a line", "a .parquet, .jsonl, .csv or .tsv file"]


def open_corpus(spec: Any, progress: bool = True, language: str = DEFAULT, needs_pairs: bool = True) -> Corpus:
    """The corpus that ``spec`` names or holds: prepared at the first call, opened from the cache after it.

    Args:
        spec: a name in CORPORA with its options (``sample``, ``hub:name=...,column=text``), or a path: of a folder
            (each .txt below it, also packed as .gz, .zst or .xz, is a book), of a file with a sentence a line and blank
            lines between documents (packed or not), or of a .parquet, .jsonl, .csv or .tsv file with a column ``text``.
            A text file whose lines are not sentences but wrapped prose or paragraphs is a book, and a note says so.
            The built-in name wins over a file or folder of that name, which is written ``./sample``. Several are
            joined by `` + ``, each with ``*WEIGHT`` after it if its pairs are to be seen more or less than once an
            epoch: ``books + notes.txt*3``. Or what a program holds: a list of texts, of documents or of pairs, or a
            ``datasets.Dataset`` (:func:`sentemb.corpus.readers.memory.memory_source`), or a TextSource. A Corpus is
            returned as it is.
        progress: show progress on stderr.
        language: whose rules split raw text into sentences, a code of :data:`sentemb.languages.LANGUAGES`: books,
            tables with ``split_sentences``, documents. A Corpus and the built-in sample (English) are as they are.
        needs_pairs: refuse a text none of whose documents has two sentences, which nothing can be learned from.

    Raises:
        InputError: no such name, path or language; not text; no sentence, or no document with two; the data cannot be
            fetched.
    """
    if isinstance(spec, Corpus):
        return spec
    check_language(language)
    if isinstance(spec, TextSource):
        return _open([spec], (1.0,), spec.name, progress, language, needs_pairs)
    if not isinstance(spec, str | Path):
        return _open([memory_source(spec, language)], (1.0,), "the corpus", progress, language, needs_pairs)
    spec = str(spec)
    parts = weighted(spec)
    if not all(part for part, _ in parts):
        raise InputError(f"a part of corpus {spec!r} is empty; write A + B, each a name or a path")
    # (each process of a run reads its sources; whichever then prepares them shows how far it is)
    sources = [source_of(part, progress and shows_progress(), language) for part, _ in parts]
    weights = tuple(float(weight or 1) for _, weight in parts)
    if min(weights) <= 0:
        raise InputError(f"a weight in {spec!r} is 0; leave that corpus out, or give it a weight above 0")
    if (len(sources) > 1 or weights != (1,)) and any(source.labelled for source in sources):
        raise InputError("a labelled corpus stands alone, without a weight; join its files into one")
    corpus = _open(sources, weights, spec, progress, language, needs_pairs)
    notes = [note for part, _ in parts if built_in(part) and (note := shadowing_note(part, "the built-in corpus"))]
    return replace(corpus, notes=(*notes, *corpus.notes))


def _open(
    sources: list[TextSource], weights: tuple[float, ...], spec: str, progress: bool, language: str, needs_pairs: bool
) -> Corpus:
    """The corpus of these sources, prepared if it is not in the cache."""
    key = sources[0].key if len(sources) == 1 else key_of("several", *(source.key for source in sources))
    folder, name = cache_dir() / "corpora" / key, " + ".join(source.name for source in sources)
    corpus = open_folder(folder, name, key, weights, progress)
    if corpus is None:
        prepare_sentences(sources, folder, spec, progress, needs_pairs)
        corpus = open_folder(folder, name, key, weights, progress)
    if corpus is None:
        raise InputError(f"the prepared corpus in {folder} cannot be read back; remove that folder and try again")
    if needs_pairs:
        refuse_without_pairs(corpus.documents, spec)
    first = sources[0]  # (what is labelled stands alone)
    unused = language != DEFAULT and all(source.language != language for source in sources)
    notes = [note for source in sources for note in source.notes]
    notes += [f"language {language} has no effect: no text of {name} is split by it"] if unused else []
    corpus = replace(corpus, language=language, notes=(*notes, *corpus.notes))
    return replace(corpus, labelled=first.labelled, classes=first.classes, one_book=first.one_book)


def weighted(spec: str) -> list[tuple[str, str]]:
    """The parts of ``A + B*0.5`` with their weights as they are written, "" where there is none."""
    return weighted_parts(spec, single=spec.startswith("labelled:"))  # (negatives=a + b)


def absolute_corpus(spec: str) -> str:
    """``spec`` with its paths absolute, so that it means the same from any folder; built-in names stay."""
    parts = [
        (absolute_paths(CORPORA, part) if built_in(part) else absolute(part)) + (f"*{weight}" if weight else "")
        for part, weight in weighted(spec)
    ]
    return " + ".join(parts)


def with_lines(spec: str) -> str:
    """``spec`` with each text file read as a sentence a line, as in versions that did not detect raw text."""
    parts = []
    for part, weight in weighted(spec):
        path = Path(part).expanduser()
        is_text = not built_in(part) and os.path.isfile(path) and path.suffix.lower() not in FORMATS
        parts.append((f"lines:path={quoted(part)}" if is_text else part) + (f"*{weight}" if weight else ""))
    return " + ".join(parts)


def built_in(spec: str) -> bool:
    """Whether a spec is a name in CORPORA, and no path.

    A name that means nothing without options, for example ``books``, is a path where it stands alone and there is one.
    """
    name, colon, _ = spec.partition(":")
    if name.strip() not in CORPORA:
        return False
    options = options_of(CORPORA[name.strip()]).values()
    return bool(colon) or not path_exists(spec) or all(option.default is not option.empty for option in options)


def check_corpus(spec: str) -> None:
    """InputError for a corpus of an unknown name or option, or a path that is not there. No text is read.

    Likewise for a folder without a book.
    """
    for part, _ in weighted(spec):
        if not built_in(part):
            if part and not path_exists(part):
                _refuse_missing(part)
            if os.path.isdir(folder := Path(part).expanduser()):
                _book_files(folder)
            continue
        factory, values = check(CORPORA, part, "corpus", ("progress", "language"))
        path = values.get("path")
        a_hub_name = factory is labelled and Path(path or "").suffix.lower() not in FORMATS
        if path is not None and not a_hub_name and not path_exists(path):
            near = path_suggestion(path)
            raise InputError(f"corpus {part!r}: there is no file or folder {path}{near}; check the path")
        if factory is folder_of_books:
            _book_files(Path(values["path"]).expanduser())


def files_of_documents(spec: str, corpus: Corpus) -> list[tuple[str, int]]:
    """The files that a corpus was read from, in order, each with the first of its documents.

    A folder stands for its books where one of them was left out, and a built-in corpus without a path for itself.
    """
    starts: list[tuple[str, int]] = []
    bounds = pairwise([*corpus.bounds, len(corpus.documents) - 1])
    for (part, _), (first, last) in zip(weighted(spec), bounds, strict=True):
        values = check(CORPORA, part, "corpus", ("progress", "language"))[1] if built_in(part) else {"path": part}
        path = Path(values["path"]).expanduser() if "path" in values else None
        books_inside = _book_files(path) if path is not None and path.is_dir() else []
        if len(books_inside) == last - first:
            starts += [(str(file), first + number) for number, file in enumerate(books_inside)]
        else:
            starts.append((part if path is None else str(path), first))
    return starts


def _refuse_missing(spec: str) -> NoReturn:
    if path_exists(spec):  # (a device, for example)
        raise InputError(f"corpus {spec!r} is neither a file nor a folder; valid: {', '.join(FORMS)}")
    name = spec.partition(":")[0]
    raise InputError(
        f"unknown corpus, and no file or folder has that path: {name!r}{path_suggestion(name, CORPORA)}; "
        f"valid: {', '.join(sorted([*CORPORA, *FORMS]))}"
    )


def source_of(spec: str, progress: bool, language: str = DEFAULT) -> TextSource:
    """What a spec without weights names: a built-in corpus, or the file or folder of that path."""
    if built_in(spec):
        options = options_of(CORPORA[spec.partition(":")[0].strip()])
        supplied = {"progress": progress, "language": language}
        passed = {name: value for name, value in supplied.items() if name in options}
        return cast(TextSource, build(CORPORA, spec, "corpus", **passed))
    path = Path(spec).expanduser()
    if os.path.isdir(path):
        return folder_of_books(spec, language=language)
    if os.path.isfile(path):
        return table(spec, language=language) if path.suffix.lower() in FORMATS else text_file(path, language)
    _refuse_missing(spec)


def text_file(path: Path, language: str = DEFAULT) -> TextSource:
    """A text file as its lines look: sentences (:func:`lines_of`), or raw text, which is a book and noted as one."""
    lines, shape = lines_of(str(path)), shape_of(path)
    if shape == "sentences":
        return lines
    looks = "is wrapped prose" if shape == "wrapped" else "has a paragraph a line"
    note = f"{path} {looks}: it is read as a book and split into sentences; lines:path={quoted(str(path))} reads a "
    return replace(folder_of_books(str(path), language=language), notes=(note + "sentence a line",))


def folder_of_books(path: PathText, keep_matter: bool = False, language: str = DEFAULT) -> TextSource:
    """Raw books: each .txt file in a folder or below it (also .txt.gz, .txt.zst, .txt.xz), in order of their names.

    Args:
        path: of the folder, or of one book.
        keep_matter: keep Project Gutenberg's header and licence.
        language: of the books.
    """
    folder = Path(path).expanduser()
    files = _book_files(folder)
    keys, sizes = digests(files), [file.stat().st_size for file in files]
    kind = "folder" if folder.is_dir() else "book"
    name = f"{kind} {folder.resolve().name} ({len(files)} book{'s' if len(files) > 1 else ''})"
    parts = [partial(books, group, len(files) == 1, keep_matter, language) for group in grouped(files, sizes)]
    key = key_of("books", splitter_of(language), str(keep_matter), *keys)
    return TextSource(name, key, lambda: parts, sum(sizes), language=language, one_book=folder.is_file())


def _book_files(folder: Path) -> list[Path]:
    """The books in a folder or below it, in order of their names; of a file, itself."""
    if not folder.exists():
        raise InputError(f"there is no folder {folder}{path_suggestion(str(folder))}; check the path")
    inside = folder.rglob("*") if folder.is_dir() else [folder]
    files = [file for file in inside if (file == folder or file.name.lower().endswith(BOOKS)) and file.is_file()]
    if not files:
        raise InputError(f"folder {folder} holds no book: no *.txt, *.txt.gz, .zst or .xz in it; give another --corpus")
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def lines_of(path: PathText, boundaries: bool = False) -> TextSource:
    """A file with a sentence a line and blank lines between documents; plain, .gz, .zst or .xz.

    Args:
        path: of the file.
        boundaries: end a document before each line that looks like the beginning or end of a book.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"there is no file {file}{path_suggestion(str(file))}; check the path")
    if Path(file.stem).suffix.lower() in FORMATS and packing_of(file):
        raise InputError(f"{file} is a packed table; unpack it first, and give {file.stem}")
    (key,) = digests([file])
    key = key_of("lines", key, _cuts(boundaries))
    return TextSource(f"file {file.name}", key, partial(line_parts, file, boundaries), file.stat().st_size)


def table(path: PathText, layout: RowLayout = RowLayout(), language: str = DEFAULT) -> TextSource:
    """A column of a .parquet, .jsonl, .json, .csv or .tsv file: a row is a sentence, a blank row ends a document.

    Args:
        path: of the file.
        layout: how its rows become documents, as options of the spec.
        language: of raw text in its rows.
    """
    file = Path(path).expanduser()
    if not file.is_file() or file.suffix.lower() not in FORMATS:
        raise InputError(f"{file} is not a file that ends in {', '.join(FORMATS)}; check the path, or convert it")
    (key,) = digests([file])

    def parts() -> list[Reader]:
        with complaining(file):
            data = stream(file, layout.column, layout.document, layout.title)
            check_columns(data, str(file), layout, f"table:path={quoted(str(file))}")
        return [partial(file_rows, file, layout, language)]

    key = key_of("table", key, file.suffix.lower(), *_layout_key(layout, language))
    split_by = language if layout.split_sentences else ""
    return TextSource(f"file {file.name} ({layout.column})", key, parts, language=split_by)


def sample(progress: bool = True) -> TextSource:
    """Film dialogue, plot summaries and editorials of the built-in sample; never its review snippets."""
    folder = sample_files(progress)
    reader = partial(_unskipped, partial(sample_documents, folder))
    name = "sample (film dialogue, plots, editorials)"
    return TextSource(name, key_of(SPLITTER, SAMPLE), lambda: [reader], language=DEFAULT)


def _unskipped(read: Callable[[], Iterator[str | None]], skip: Skip) -> Iterator[str | None]:
    return read()


def hub(
    name: PathText,
    layout: RowLayout = RowLayout(),
    config: str = "",
    split: str = "train",
    streaming: bool = False,
    rows: int = 0,
    progress: bool = True,
    language: str = DEFAULT,
) -> TextSource:
    """A data set of the Hugging Face hub (or a local path that `datasets` loads): a row is a sentence.

    A blank row separates documents; without any, all of it is one document.

    Args:
        name, config, split: of the data set.
        layout: as for ``table``.
        streaming: read it from the hub without keeping a copy of it.
        rows: at most this number; 0: all.
        progress: show bars.
        language: of raw text in its rows.

    Raises:
        InputError: it cannot be loaded, or has no such column of text.
    """
    if rows < 0:
        raise ValueError(f"rows must be at least 0, got {rows}")
    data = load_data(name, progress, config, split, streaming)
    more = f",config={quoted(config)}" * bool(config) + f",split={split}" * (split != "train")
    check_columns(data, name, layout, f"hub:name={quoted(name)}{more}{',streaming=true' * streaming}")
    options = _layout_key(layout, language, str(rows))
    reader = partial(hub_rows, data, name, layout, language, rows)
    key = key_of("hub", identity_of(data, name, config, split), *options)
    split_by = language if layout.split_sentences else ""
    return TextSource(f"hub {name} ({split})", key, lambda: [reader], language=split_by)


def _layout_key(layout: RowLayout, language: str, *more: str) -> tuple[str, ...]:
    """What rows become, for a key; ``more`` stands where earlier versions had it."""
    options = (layout.column, layout.document, _cuts(layout.boundaries), *more, _splits(layout, language))
    return (*options, *([f"title {layout.title}"] if layout.title else []))


def _splits(layout: RowLayout, language: str) -> str:
    """How rows become sentences, for a key."""
    return (splitter_of(language) + " of several rows" * bool(layout.document)) if layout.split_sentences else ""


def _cuts(boundaries: bool) -> str:
    """What decides where documents end, for a key."""
    return BOUNDARY.pattern if boundaries else ""


def bookcorpus(boundaries: bool = False, streaming: bool = False, rows: int = 0, progress: bool = True) -> TextSource:
    """BookCorpus from the hub: 74 million sentences, lower case, in order; about 5 GB, and no mark between its books.

    Args:
        boundaries: end a document before each sentence that looks like the beginning or the end of a book; else all of
            it is one document, and some 11,000 of the 74 million neighbouring pairs cross from one book to the next.
        streaming, rows, progress: as for ``hub``.
    """
    # bookcorpus/bookcorpus, the first copy there, is a loading script, which `datasets` refuses since version 4.
    # This one and rojagtap/bookcorpus are plain files: 74,004,228 rows, column text, no book boundaries.
    layout = RowLayout(boundaries=boundaries)
    return hub("SamuelYang/bookcorpus", layout, streaming=streaming, rows=rows, progress=progress)


def labelled(
    path: PathText,
    anchor: str = "",
    positive: str = "",
    negatives: str = "",
    label: str = "",
    split: str = "train",
    progress: bool = True,
) -> TextSource:
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
    name, key, read = labelled_rows(path, anchor, positive, negatives, label, split, progress)
    return TextSource(name, key, lambda: [partial(_unskipped, read)], labelled=True, classes=bool(label))


CORPORA: dict[str, Callable[..., TextSource]] = {
    "sample": sample,
    "books": folder_of_books,
    "lines": lines_of,
    "table": table,
    "hub": hub,
    "bookcorpus": bookcorpus,
    "labelled": labelled,
}
