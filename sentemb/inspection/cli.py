"""Show what a corpus holds before you train on it: a report here and, with --out, a self-contained page.

    sentemb inspect books/                          # a folder of .txt books
    sentemb inspect lines.txt --clean drop:duplicates=corpus --out lines
    sentemb inspect bookcorpus --no-time --max-length 64

`python -m sentemb.corpus` is the same command. It shows how much text there is and what was left out, how long the
sentences are, and how many --max-length cuts. It lists repeated sentences, words that the vocabulary lacks, lines that
are hardly text, useless pairs of neighbours, and what --clean would drop. It measures how long an epoch takes here.
Training uses what this command prepares: a run with the same --corpus, --max-length and word embeddings starts at once.
Two calls print the same report, except for the timing.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sentemb.errors import exit_codes
from sentemb.inspection.page import refuse_foreign_page, write_corpus_page
from sentemb.languages import DEFAULT, check_language
from sentemb.program import command_parser

if TYPE_CHECKING:
    from sentemb.inspection.text import Section

LABEL, WIDTH, NOTES = 32, 100, 5  # of the terminal: characters of a label, of a line; notes


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__, "sentemb.corpus")
    add = made.add_argument
    add(
        "corpus",
        metavar="CORPUS",
        help="like --corpus of the recipes: sample; a folder of .txt books; a book; a file, a sentence a line; a "
        ".parquet, .jsonl, .csv or .tsv file; hub:name=...; bookcorpus; several as 'A + B'",
    )
    add(
        "--tokenizer",
        default="auto",
        metavar="NAME",
        help="minilm (the words of encoder rnn and static; the default where it is installed), learned:SIZE (as "
        "rnn:embeddings=random learns them; else the default, learned:16000), a text file of word embeddings, a folder "
        "with tokenizer.json, a run, a hub name",
    )
    add("--max-length", type=int, default=40, metavar="N", help="tokens to which sentences are cut (default 40)")
    add("--clean", default="none", metavar="SPEC", help="show what these rules would drop: drop:min_tokens=3,...")
    add("--language", default=DEFAULT, metavar="CODE", help="language of raw text: de, fr, ja, ... (default en)")
    add("--boundaries", action="store_true", help="search for beginnings and ends of books, also in several documents")
    add(
        "--encoder",
        action="append",
        default=[],
        metavar="SPEC",
        help="measure the speed of this encoder, like --encoder of the recipes; may be repeated (default: one of "
        "each kind)",
    )
    add("--time", action=argparse.BooleanOptionalAction, default=True, help="--no-time leaves out the timing")
    add("--seed", type=int, default=0, help="seed of the pairs that are shown and timed (default 0)")
    add("--out", type=Path, metavar="FOLDER", help="also write the report to FOLDER/corpus.html (default: no file)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: 0 done, 2 something given cannot be used."""
    options = parser().parse_args(arguments)
    with contextlib.suppress(AttributeError):  # a terminal may lack characters of the text
        cast(Any, sys.stdout).reconfigure(errors="replace")
    with exit_codes():
        check_language(options.language)
        if options.out:
            refuse_foreign_page(options.out)
        from sentemb.inspection.inspector import check_encoders, inspect  # torch and the rest, seconds

        if options.encoder:
            check_encoders(options.encoder)
        sections = []
        for section in inspect(
            options.corpus, options.tokenizer, options.max_length, options.clean,
            options.encoder if options.time else None, options.boundaries, options.seed, options.language,
        ):  # fmt: skip
            print(as_text(section), flush=True)
            sections.append(section)
        if options.out:
            print(f"page: {write_corpus_page(options.out, sections)}")


def as_text(section: "Section") -> str:
    """A section for the terminal: aligned, long texts cut; what steers a terminal is taken out."""
    wide = max(LABEL, *(len(label) for label, _ in section.facts))
    lines = [section.title, *(f"  {label:<{wide}}  {value}" for label, value in section.facts)]
    lines += [f"  {label:>9} {share:6.1%} {'#' * round(100 * share)}" for label, share in section.bars]
    table = [*([section.head] if section.rows and section.texts == 1 else []), *section.rows]
    numbers = [row[: -section.texts] for row in table]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    for row in table:
        before = "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=False))
        for text in row[-section.texts :]:
            lines.append(f"    {before}  {text}")
            before = " " * len(before)
    lines = [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines]
    left = len(section.notes) - NOTES
    lines += [f"  note: {note}" for note in section.notes[:NOTES]]
    lines += [f"  note: {left:,} more; all of them are on the page that --out FOLDER writes"] if left > 0 else []
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines) + "\n"
