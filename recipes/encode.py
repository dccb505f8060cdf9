"""Embed a corpus: a folder with a vector for each sentence, and which sentence it is of.

    sentemb encode runs/first BOOKS vectors                         # float32, a NumPy memory map
    sentemb encode minilm BOOKS vectors --precision int8 --format parquet --text
    sentemb encode runs/two BOOKS vectors --tower g                 # of two towers: that of documents
    sentemb search runs/first --embeddings vectors --ask "It was dark."

`python recipes/encode.py` is the same command. MODEL is a run, a model's folder, a hub name or minilm. IN is any text
that the recipes take: a folder of books, a file with a sentence a line, a .parquet, .jsonl, .csv or .tsv file. OUT is a
new folder. The numbers equal those of encode in sentence-transformers. After a kill or an interrupt, run the same
command again to continue. Exit code 0: done; 2: an invalid argument, or the disk is full; 130: interrupted.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sentemb.errors import exit_codes
from sentemb.program import command_parser


def parser() -> argparse.ArgumentParser:
    """The command line's options; only what is given is set."""
    from recipes.runner import add_flag
    from sentemb.encoding import EncodingSettings

    made = command_parser(__doc__, argument_default=argparse.SUPPRESS)
    made.add_argument("model", metavar="MODEL", help="a run, a model's folder, a hub name, or minilm")
    made.add_argument("corpus", metavar="IN", help="the text, as --corpus of the other recipes")
    made.add_argument("out", metavar="OUT", type=Path, help="a new folder, or an empty one; nothing is overwritten")
    for each in fields(EncodingSettings):
        add_flag(made, each, each.default)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = vars(parser().parse_args(arguments))
    with exit_codes("interrupted; run the same command again to continue"):
        encode(options)


def encode(options: dict[str, Any]) -> None:
    """Look at what can be seen to be wrong, then encode, and say what was written."""
    from sentemb.corpus import check_corpus
    from sentemb.encoding import EncodingSettings, refuse_used_out

    model, corpus, out = (options.pop(name) for name in ("model", "corpus", "out"))
    EncodingSettings(**options)
    refuse_used_out(out)
    check_corpus(corpus)

    import sentemb  # torch and the rest: they take seconds
    from sentemb.teacher import size_in_words, time_in_words

    start = time.monotonic()
    encoded = sentemb.encode(model, corpus, out, **options)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(
        f"{out}: {len(encoded):,} sentences x {encoded.dimension:,} in {encoded.precision.name}, "
        f"{size_in_words(size)}, in {time_in_words(time.monotonic() - start)}"
    )


if __name__ == "__main__":
    main()
