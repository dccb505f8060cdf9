"""Embed a corpus: a folder with a vector for each sentence, and which sentence it is of.

    python recipes/encode.py runs/first BOOKS vectors                             # float32, a NumPy memory map
    python recipes/encode.py minilm BOOKS vectors --precision int8 --format parquet --text
    python recipes/encode.py runs/two BOOKS vectors --tower g                     # of two towers: that of documents
    python recipes/search.py runs/first --embeddings vectors --ask "It was dark."

MODEL is a run, a model's folder, a hub name or minilm; IN any text that the recipes take: a folder of books, a file
with a sentence a line, a .parquet, .jsonl, .csv or .tsv file; OUT a new folder. The numbers are those of encode of
sentence-transformers. A killed or interrupted encoding goes on with the same command. Exit code 0: done; 2: something
given cannot be used, or the disk is full; 130: interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sentemb.errors import InputError


def parser() -> argparse.ArgumentParser:
    """The command line's options; only what is given is set."""
    from recipes.runner import add_flag
    from sentemb.encoding import EncodingSettings

    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("model", metavar="MODEL", help="a run, a model's folder, a hub name, or minilm")
    made.add_argument("corpus", metavar="IN", help="the text, as --corpus of the other recipes")
    made.add_argument("out", metavar="OUT", type=Path, help="a new folder, or an empty one; nothing is overwritten")
    for each in fields(EncodingSettings):
        add_flag(made, each, each.default)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = vars(parser().parse_args(arguments))
    try:
        encode(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there", file=sys.stderr)
        sys.exit(130)


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
    from sentemb.training import tune_malloc

    tune_malloc()
    start = time.monotonic()
    encoded = sentemb.encode(model, corpus, out, **options)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(
        f"{out}: {len(encoded):,} sentences x {encoded.dimension:,} in {encoded.precision.name}, "
        f"{size_in_words(size)}, in {time_in_words(time.monotonic() - start)}"
    )


if __name__ == "__main__":
    main()
