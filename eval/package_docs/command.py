"""Make a search collection from the documentation of installed Python packages.

    python -m eval.package_docs DIR                         # all installed packages
    python -m eval.package_docs DIR --packages numpy,scipy
    python -m eval.search minilm --data DIR/search

Titles of sections are the queries, and sections are the passages. A passage lacks the words of its title, except for
function words. A docstring is a section, and its summary is the title. So is the text below a heading of a README or of
a page in Markdown or reStructuredText. A fifth of the documents (files) is searched; the others are DIR/train.jsonl,
with the columns document, title and text. Judgements of the queries have two splits: choose by dev, report test. Equal
packages give equal files. The texts belong to their authors, under the licence of each package. Exit code 0: done; 2:
an invalid argument, and nothing was written.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sentemb.errors import InputError, exit_codes
from sentemb.program import command_parser
from sentemb.registry import quoted

SHOWN = 10  # packages, those with the most sections


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__, "eval.package_docs")
    made.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    made.add_argument("--packages", metavar="A,B", help="names of installed packages (default all except sentemb)")
    made.add_argument(
        "--held-out", type=float, default=0.2, help="share of the documents that are searched (default 0.2)"
    )
    made.add_argument("--most", type=int, default=1000, help="most sections of a package (default 1000)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    with exit_codes():
        run(options)


def run(options: argparse.Namespace) -> None:
    """Collect, write, and say what it was made of.

    Raises:
        InputError: an option is out of range, or an error of ``collect`` and ``write_collection``.
    """
    from eval.package_docs.collection import SEARCH, TRAIN, collect, write_collection

    if not 0 < options.held_out < 1:
        raise InputError(f"--held-out must lie between 0 and 1, got {options.held_out}")
    if options.most < 1:
        raise InputError(f"--most must be at least 1, got {options.most}")
    if options.folder.exists():
        raise InputError(
            f"{options.folder} is there already, and is not overwritten; name another folder, or remove it"
        )
    packages = [name.strip() for name in options.packages.split(",") if name.strip()] if options.packages else None
    collection = collect(packages, options.held_out, options.most)
    write_collection(collection, options.folder)
    counts = {name: collection.count(name) for name in collection.versions}
    train, search = (sum(each[side] for each in counts.values()) for side in (0, 1))
    largest = sorted(counts, key=lambda name: (-sum(counts[name]), name))
    named = ", ".join(f"{name} {collection.versions[name]} ({sum(counts[name]):,})" for name in largest[:SHOWN])
    others = f" and {len(largest) - SHOWN} more (packages.json)" if len(largest) > SHOWN else ""
    print(f"{options.folder}: {train:,} sections to train on, {search:,} to search, of {len(counts)} packages")
    print(f"packages (sections): {named}{others}")
    path = quoted(str(options.folder / TRAIN))
    print(
        f"adapt:  sentemb adapt --init minilm --corpus table:path={path},title=title,split_sentences=true "
        f"--search {options.folder / SEARCH} --max-length 128 --budget 15m"
    )
    print(f"search: sentemb evaluate-search minilm --data {options.folder / SEARCH}")
