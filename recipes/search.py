"""Find the sentences of a corpus that are nearest to yours: before training on the left, after it on the right.

    sentemb search runs/first --ask "It was a dark night."      # over the run's corpus
    sentemb search runs/first --queries questions.txt --page    # a query a line; also into the run's page
    sentemb search runs/first --queries questions.txt --after   # the trained encoder alone: half the time
    echo "It was a dark night." | sentemb search runs/first --queries - --corpus BOOKS --k 5
    sentemb search MODEL --embeddings OUT --ask "It was a dark night."   # embeddings that sentemb encode has written

`python recipes/search.py` is the same command. Below each query it prints the k nearest distinct sentences, nearest
first, with their cosine (the inner product, for a model that was trained with it). With two towers the query goes
through the first and the corpus through the second. Prompts are those of training. Exit code 0: done; 2: an invalid
argument.
"""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from sentemb.errors import InputError, exit_codes
from sentemb.program import command_parser

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from sentemb.corpus import Corpus

BLOCK = 2048  # sentences that are encoded at a time; of others only the k nearest are held
LEAST_COLUMN = 30  # characters
Nearest = list[tuple[float, str]]  # similarity and sentence, the nearest first


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__)
    add = made.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a training run; with --embeddings, the model's")
    add("--queries", metavar="FILE", help="a text file with a query a line; - is standard input")
    add("--ask", action="append", default=[], metavar="TEXT", help="a query; may be given several times")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--before", action="store_true", help="search only with the encoder before training")
    which.add_argument("--after", action="store_true", help="search only with the trained encoder")
    which.add_argument("--page", action="store_true", help="also put both rankings into RUN/report.html")
    add("--corpus", help="the text to search, like --corpus of the recipes (default: the run's own)")
    add(
        "--embeddings",
        type=Path,
        metavar="OUT",
        help="search the folder that recipes/encode.py has written by this model, instead of encoding the text again",
    )
    add("--k", type=int, default=3, help="sentences shown for each query (default 3)")
    add("--max-sentences", type=int, metavar="N", help="search only N sentences, evenly spread over the corpus")
    add("--batch-size", type=int, default=128, help="sentences in a forward pass (default 128)")
    add("--device", help="cpu, cuda, mps, ...; default: the fastest of this machine")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    with exit_codes():
        queries = read_queries(options)
        try:
            if options.embeddings is not None:
                search_embeddings(options, queries)
            else:
                search(options, queries, corpus_spec(options))
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, for example head, has all it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_queries(options: argparse.Namespace) -> list[str]:
    """The queries, blank lines left out. Whatever can be seen to be wrong is refused before torch is imported.

    Raises:
        InputError: an option out of range, no run, or no query.
    """
    from sentemb.runs import RunFolder

    for name in ("k", "max_sentences", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if options.embeddings is not None:
        refuse_with_embeddings(options)
    elif not RunFolder(options.run).config.is_file():
        raise InputError(f"{options.run} is not a run: it has no config.json; give the folder of a training run")
    if options.page and not RunFolder(options.run).log.is_file():
        raise InputError(f"{options.run} has no log.jsonl, so it has no page; leave out --page")
    if options.queries is None and not options.ask:
        raise InputError('there is no query; give one with --ask "...", or a file with a query a line with --queries')
    queries = [text.strip() for text in options.ask]
    if "" in queries:
        raise InputError("--ask is empty; write a query after it")
    return list(dict.fromkeys(queries + (lines_of_file(options.queries) if options.queries is not None else [])))


def refuse_with_embeddings(options: argparse.Namespace) -> None:
    """InputError for a flag that says what is encoded, where nothing is."""
    for name in ("before", "page", "corpus", "max_sentences"):
        if getattr(options, name):
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} is for a search that encodes the text; leave out {flag} or --embeddings")


def lines_of_file(name: str) -> list[str]:
    """The lines of a text file (- is standard input) that are not blank.

    Raises:
        InputError: it cannot be read, is not UTF-8, or has no such line.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"--queries {name} cannot be read ({error.strerror}); give a text file") from None
    except UnicodeDecodeError:
        raise InputError(f"--queries {name} is not UTF-8 text; save it as UTF-8") from None
    queries = [line.strip() for line in text.splitlines() if line.strip()]
    if not queries:
        raise InputError(f"--queries {name} holds no query; write one a line")
    return queries


def corpus_spec(options: argparse.Namespace) -> str:
    """The corpus that is searched. What can be seen to be wrong with it is refused before torch is imported.

    Raises:
        InputError: it is unknown or not there, a folder without a book, or was an object of a Python program.
    """
    from recipes.runner import import_file
    from sentemb.corpus import check_corpus
    from sentemb.runs import RunFolder

    settings = RunFolder(options.run).read_settings()["settings"]
    for script in settings.get("imports") or []:
        import_file(script)
    spec = str(options.corpus or settings.get("corpus"))
    if spec.startswith("<"):
        raise InputError(f"{options.run} was trained on {spec} of a Python program; name the text with --corpus")
    check_corpus(spec)
    return spec


def search(options: argparse.Namespace, queries: list[str], spec: str) -> None:
    """Load the encoders, search the corpus, print."""
    from sentemb.corpus import open_corpus
    from sentemb.encoders import refuse_missing_device  # torch and the rest: they take seconds
    from sentemb.languages import DEFAULT
    from sentemb.runs import RunFolder

    if options.device is not None:
        refuse_missing_device(options.device)
    settings = RunFolder(options.run).read_settings()["settings"]
    corpus = open_corpus(spec, language=str(settings.get("language", DEFAULT)))
    rows = rows_of(corpus, options.max_sentences)
    if len(rows) < len(corpus):
        print(f"note: {len(rows):,} of the {len(corpus):,} sentences are searched", file=sys.stderr)
    results = nearest_sentences(encoders(options, settings), queries, corpus, rows, options.k, options.batch_size)
    print(f"model: {' | '.join(results)}   corpus: {corpus.name}")
    for query, *nearest in zip(queries, *results.values(), strict=True):
        print(f"\n{query}")
        print("\n".join(lines_of(nearest[0]) if len(nearest) == 1 else side_by_side(*nearest)))
    if options.page:
        write_page(options.run, corpus.name, len(rows), queries, results)


def search_embeddings(options: argparse.Namespace, queries: list[str]) -> None:
    """Search the sentences of an encoded corpus, print.

    Raises:
        InputError: it is none, is damaged, or was made by another model.
    """
    from sentemb.encoders import fingerprint_of, folder_of_pretrained, read_model, refuse_missing_device
    from sentemb.encoding import EncodedCorpus, nearest_rows

    if options.device is not None:
        refuse_missing_device(options.device)
    encoded = EncodedCorpus(options.embeddings, check=True)
    folder = folder_of_pretrained(str(options.run))
    made_by = encoded.meta["model"]  # ("" where it was an object of a program)
    if made_by and fingerprint_of(folder) != encoded.meta["model_fingerprint"]:
        raise InputError(
            f"{options.embeddings} was made by {made_by}, and {options.run} is another model; give that one"
        )
    rows, scores = nearest_rows(encoded, read_model(folder, options.device), queries, options.k)
    print(f"model: {options.run}   corpus: {encoded.meta['corpus_name']}   embeddings: {options.embeddings}")
    for query, numbers, line in zip(queries, rows, scores, strict=True):
        places = numbers >= 0
        texts = encoded.texts(numbers[places])
        print(f"\n{query}")
        print("\n".join(lines_of(list(zip(line[places].tolist(), texts, strict=True)))))


def encoders(options: argparse.Namespace, settings: Mapping[str, object]) -> "dict[str, SentenceTransformer]":
    """The encoder that training began with, and the trained one, by name.

    Raises:
        InputError: one of them cannot be loaded. The first is left out, with a note, where nothing asks for it alone.
    """
    from sentemb.encoders import load
    from sentemb.pipeline import initial_model, initial_name

    models: dict[str, SentenceTransformer] = {}
    if not options.after:
        try:
            model = initial_model(options.run)
            models[initial_name(settings)] = model if options.device is None else model.to(options.device)
        except InputError as error:
            if options.before or options.page:
                raise
            print(f"note: the encoder before training is left out: {error}", file=sys.stderr)
    if not options.before:
        models["trained"] = load(options.run, device=options.device)
    return models


def write_page(run: Path, corpus: str, sentences: int, queries: list[str], results: "dict[str, list[Nearest]]") -> None:
    """Put the rankings into the run's page, instead of those of an earlier search."""
    from sentemb.report import write_report, write_search

    answers = [
        {"query": query, "nearest": {name: ranking[i] for name, ranking in results.items()}}
        for i, query in enumerate(queries)
    ]
    write_search(run, {"corpus": corpus, "sentences": sentences, "queries": answers})
    print(f"page: {write_report(run)}")


def lines_of(nearest: Nearest) -> list[str]:
    """A line a sentence."""
    return [f"  {place}  {score:.3f}  {' '.join(text.split())}" for place, (score, text) in enumerate(nearest, 1)]


def side_by_side(first: Nearest, second: Nearest) -> list[str]:
    """Two rankings in two columns, whose sentences are wrapped."""
    width = max(LEAST_COLUMN, (shutil.get_terminal_size((120, 24)).columns - 3) // 2)
    lines = []
    for cells in zip_longest(lines_of(first), lines_of(second), fillvalue=""):
        indent = " " * (len(cells[0]) - len(cells[0].split(None, 2)[-1])) if cells[0] else ""
        left, right = (textwrap.wrap(cell, width, subsequent_indent=indent) for cell in cells)
        lines += [f"{a:<{width}} | {b}".rstrip() for a, b in zip_longest(left, right, fillvalue="")]
    return lines


def rows_of(corpus: "Corpus", most: int | None) -> "np.ndarray":
    """The rows of the sentences that are searched: all, or ``most`` of them, evenly spread; no name of a class."""
    import numpy as np

    rows = np.arange(len(corpus))
    if corpus.classes:
        rows = np.setdiff1d(rows, corpus.documents[1:] - 1)
    if most is not None and most < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return rows


class Distinct:
    """Which texts of a stream are new, by 64-bit hashes: about 8 bytes a distinct text.

    The hashes are in sorted runs, each more than twice as long as the next one.
    """

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> "np.ndarray":
        """The places in ``texts`` of those that are neither there before nor in an earlier call."""
        import numpy as np

        hashes, places = np.unique([hash(text) for text in texts], return_index=True)
        for run in self.runs:
            new = run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] != hashes
            hashes, places = hashes[new], places[new]
        if len(hashes):
            self.runs.append(hashes)
        while len(self.runs) > 1 and len(self.runs[-2]) <= 2 * len(self.runs[-1]):
            self.runs.append(np.sort(np.concatenate([self.runs.pop(), self.runs.pop()])))
        return np.sort(places)


def nearest_sentences(
    models: "Mapping[str, SentenceTransformer]",
    queries: list[str],
    corpus: "Corpus",
    rows: "np.ndarray",
    k: int,
    batch_size: int,
) -> dict[str, list[Nearest]]:
    """The ``k`` nearest distinct sentences of each query by each model, in the memory of one block of embeddings.

    The corpus is read once. Sentences are encoded and compared as held-out pairs are scored
    (:func:`sentemb.validation.sides_of`), a query instead of a pair's first sentence.
    """
    import numpy as np
    from tqdm import tqdm

    from sentemb.retrieval import NearestPassages
    from sentemb.validation import CachedEncoder, sides_of

    nearest = {}
    for name, model in models.items():
        sides = sides_of(model, CachedEncoder(model, batch_size))
        nearest[name] = NearestPassages(sides.first(queries), k, sides.score)
    distinct, searched = Distinct(), []
    with tqdm(total=len(rows), desc="searching", unit=" sentences", file=sys.stderr) as bar:
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            texts = corpus.sentences(block)
            new = distinct.add(texts)
            searched.append(block[new])
            new_texts = [texts[place] for place in new]
            for name, model in models.items():
                if new_texts:
                    sides = sides_of(model, CachedEncoder(model, batch_size))  # (it holds what it has encoded)
                    nearest[name].add((sides.second or sides.first)(new_texts))
            bar.update(len(block))
    numbered = np.concatenate(searched)
    return {name: _with_texts(*each.result(), corpus, numbered) for name, each in nearest.items()}


def _with_texts(numbers: "np.ndarray", scores: "np.ndarray", corpus: "Corpus", rows: "np.ndarray") -> list[Nearest]:
    """Scores and sentences of each query, by the numbers ``[q, k]`` of the sentences among ``rows``; -1 is none."""
    return [
        list(zip(line[ids >= 0].tolist(), corpus.sentences(rows[ids[ids >= 0]]), strict=True))
        for ids, line in zip(numbers, scores, strict=True)
    ]


if __name__ == "__main__":
    main()
