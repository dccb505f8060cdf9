"""How a .csv or .tsv file is written: its delimiter and encoding, as spreadsheets of several countries save them."""

import itertools
from pathlib import Path
from typing import Any

from sentemb.corpus.readers.text_files import encoding_of

DELIMITERS = ",;\t|"
HEADER = 1 << 16  # characters within which the names of the columns end


def csv_options(path: Path) -> dict[str, Any]:
    """What pandas must know about a .csv or .tsv file, in addition to its path.

    Options that are pandas' defaults are left out: a data set's fingerprint follows those that are named.

    Raises:
        InputError: it cannot be read, or is not text.
    """
    options: dict[str, Any] = {"keep_default_na": False}  # "None" and "NA" are words
    encoding = encoding_of(path)
    if encoding != "utf-8-sig":
        options |= {"encoding": encoding, "encoding_errors": "replace"}
    with path.open(encoding=encoding, errors="replace") as file:
        delimiter = _delimiter(file.read(HEADER), "\t" if path.suffix.lower() == ".tsv" else ",")
    return options | ({"sep": delimiter} if delimiter != "," else {})


def _delimiter(text: str, usual: str) -> str:
    """The delimiter that stands most often in the first line, outside of quotes; the usual one where none does more."""
    unquoted = "".join(text.lstrip().split('"')[::2])  # (a doubled quote leaves an empty part, which changes nothing)
    names = next(iter(unquoted.splitlines()), "")
    return max(itertools.chain(usual, DELIMITERS), key=names.count)
