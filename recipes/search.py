"""Find the sentences of a corpus that are nearest to yours, with a trained model or with the one it began with.

    python recipes/search.py runs/first --queries questions.txt                # over the run's corpus
    python recipes/search.py runs/first --queries questions.txt --before       # the encoder before training
    python recipes/search.py runs/first --queries questions.txt --compare      # both, side by side
    echo "It was a dark night." | python recipes/search.py runs/first --queries - --corpus BOOKS --k 5

A query a line. Below each query stand the k nearest distinct sentences, nearest first, with their cosine (the inner
product, for a model that was trained with it). With two towers the query goes through the first and the corpus through
the second; prompts are those of training. Exit code 0: done; 2: something given cannot be used.
"""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from sentemb.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from sentemb.corpus import Corpus

BLOCK = 2048  # sentences that are encoded at a time; of others only the k nearest are held
LEAST_COLUMN = 30  # characters
Nearest = list[tuple[float, str]]  # similarity and sentence, the nearest first


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a training run")
    add("--queries", required=True, metavar="FILE", help="a text file with a query a line; - is standard input")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--before", action="store_true", help="search with the encoder that training began with")
    which.add_argument("--compare", action="store_true", help="search with both, and print them side by side")
    add("--corpus", help="the text that is searched, as of the recipes (default: the run's own)")
    add("--k", type=int, default=3, help="sentences shown for each query (default 3)")
    add("--max-sentences", type=int, metavar="N", help="search N sentences, evenly spread over the corpus, not all")
    add("--batch-size", type=int, default=128, help="sentences a forward pass (default 128)")
    add("--device", help="cpu, cuda, mps, ...; default: the best there is")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    try:
        search(options, read_queries(options), corpus_spec(options))
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, head say, has all it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)


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
    if not RunFolder(options.run).config.is_file():
        raise InputError(f"{options.run} is no run: it has no config.json; give the folder of a training run")
    try:
        data = sys.stdin.buffer.read() if options.queries == "-" else Path(options.queries).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"--queries {options.queries} cannot be read ({error.strerror}); give a text file") from None
    except UnicodeDecodeError:
        raise InputError(f"--queries {options.queries} is not UTF-8 text; save it as UTF-8") from None
    queries = [line.strip() for line in text.splitlines() if line.strip()]
    if not queries:
        raise InputError(f"--queries {options.queries} holds no query; write one a line")
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
    """Load the model, search the corpus, print."""
    from sentemb.corpus import open_corpus
    from sentemb.encoders import load, refuse_missing_device  # torch and the rest: they take seconds
    from sentemb.languages import DEFAULT
    from sentemb.pipeline import initial_model, initial_name
    from sentemb.runs import RunFolder

    if options.device is not None:
        refuse_missing_device(options.device)
    settings = RunFolder(options.run).read_settings()["settings"]
    corpus = open_corpus(spec, language=str(settings.get("language", DEFAULT)))
    rows = rows_of(corpus, options.max_sentences)
    if len(rows) < len(corpus):
        print(f"note: {len(rows):,} of the {len(corpus):,} sentences are searched", file=sys.stderr)
    rows = distinct(corpus, rows)
    results: dict[str, list[Nearest]] = {}
    if options.before or options.compare:
        model = initial_model(options.run)
        if options.device is not None:
            model.to(options.device)
        name = initial_name(settings)
        results[name] = nearest_sentences(model, queries, corpus, rows, options.k, options.batch_size)
    if not options.before:
        model = load(options.run, device=options.device)
        results["trained"] = nearest_sentences(model, queries, corpus, rows, options.k, options.batch_size)
    print(f"model: {' | '.join(results)}   corpus: {corpus.name}")
    for query, *nearest in zip(queries, *results.values(), strict=True):
        print(f"\n{query}")
        print("\n".join(lines_of(nearest[0]) if len(nearest) == 1 else side_by_side(*nearest)))


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


def distinct(corpus: "Corpus", rows: "np.ndarray") -> "np.ndarray":
    """The rows of the first of equal sentences, by 64-bit hashes of them all."""
    import numpy as np

    parts = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    hashes = [np.array([hash(text) for text in corpus.sentences(part)], dtype=np.int64) for part in parts]
    return rows[np.sort(np.unique(np.concatenate(hashes), return_index=True)[1])]


def nearest_sentences(
    model: "SentenceTransformer", queries: list[str], corpus: "Corpus", rows: "np.ndarray", k: int, batch_size: int
) -> list[Nearest]:
    """The ``k`` nearest sentences of each query, in the memory of one block of embeddings.

    Sentences are encoded and compared as held-out pairs are scored (:func:`sentemb.validation.sides_of`), a query in
    the place of a pair's first sentence.
    """
    from tqdm import tqdm

    from sentemb.retrieval import NearestPassages
    from sentemb.validation import CachedEncoder, sides_of

    sides = sides_of(model, CachedEncoder(model, batch_size))
    nearest = NearestPassages(sides.first(queries), k, sides.score)
    with tqdm(total=len(rows), desc="searching", unit=" sentences", file=sys.stderr) as bar:
        for start in range(0, len(rows), BLOCK):
            texts = corpus.sentences(rows[start : start + BLOCK])
            sides = sides_of(model, CachedEncoder(model, batch_size))  # (it holds what it has encoded)
            nearest.add((sides.second or sides.first)(texts))
            bar.update(len(texts))
    numbers, scores = nearest.result()
    return [
        list(zip(line[numbers_of >= 0].tolist(), corpus.sentences(rows[numbers_of[numbers_of >= 0]]), strict=True))
        for numbers_of, line in zip(numbers, scores, strict=True)
    ]


if __name__ == "__main__":
    main()
