"""What is in a corpus, before hours of training on it: lengths, copies, unknown words, odd characters, an epoch's time.

``python -m sentemb.corpus CORPUS`` prints the sections and makes a page of them. Memory grows with the text by a byte a
sentence: numbers are read a million sentences at a time, texts 10,000, and what would take long on all of it is
measured on an evenly spread sample, which is then said.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sentemb.corpus import (
    CLEANINGS,
    Corpus,
    clean_corpus,
    open_corpus,
)
from sentemb.encoders import embedding_table, resolve_embeddings
from sentemb.errors import InputError
from sentemb.inspection.sections import about, characters, copies, lengths, paired, unknown
from sentemb.inspection.text import Section, Text, texts_of
from sentemb.inspection.timing import timing
from sentemb.languages import DEFAULT
from sentemb.registry import build, check


def inspect(
    spec: str, tokenizer: str = "auto", max_length: int = 40, clean: str = "none",
    encoders: Sequence[str] | None = (), bounds: bool = False, seed: int = 0, language: str = DEFAULT,
) -> Iterator[Section]:  # fmt: skip
    """The report on a corpus, section by section as they are found.

    Args:
        spec, max_length, clean, seed, language: as the recipes take them. tokenizer: as :func:`tokenizer_named`.
        encoders: specs to time; (): each kind there is; None: none. bounds: look for books' ends in any case.

    Raises:
        InputError: something given cannot be used.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must lie between 0 and 2^32, got {seed}")
    if encoders is not None:
        encoders = encoders or ("rnn", "static", "transformer")[: 3 if resolve_embeddings("auto") == "minilm" else 2]
        check_encoders(encoders)
    cleaning, corpus = build(CLEANINGS, clean, "clean"), open_corpus(spec, language=language)
    name, made = tokenizer_named(tokenizer, corpus)
    made.no_truncation()
    made.no_padding()
    tokens, special = corpus.tokens(made, max_length), made.num_special_tokens_to_add(False)
    cleaned = clean_corpus(corpus, tokens, cleaning, special, max_length)
    text = Text(corpus, tokens, made, max_length, special, cleaned)
    alone = bool(np.diff([*corpus.bounds, len(corpus.documents) - 1]).min() == 1)  # a source is one document
    yield about(text, name, alone and not corpus.one_book and "boundaries" not in spec)
    yield lengths(text)
    yield copies(text)
    yield unknown(text)
    yield characters(text)
    yield paired(text, bounds or alone, seed)
    if encoders is not None:
        yield timing(text, encoders, seed)


def check_encoders(specs: Sequence[str]) -> None:
    """InputError if one of these names no encoder, or an option that it has not."""
    from sentemb.encoders import ENCODERS  # sentence-transformers: seconds

    for spec in specs:
        check(ENCODERS, spec, "encoder", ("texts", "max_length"))


def tokenizer_named(name: str, corpus: Corpus) -> tuple[str, Tokenizer]:
    """A tokenizer and its name, ``auto`` spelled out.

    Args:
        name: auto; minilm or a text file of word embeddings (words alone, as encoder rnn has them); learned:SIZE (as
            rnn:embeddings=random learns it, but from held-out documents, too); a folder with a tokenizer.json, a run or
            a hub name, as they are, special tokens included.

    Raises:
        InputError: there is none of that name.
    """
    if name == "auto":
        if resolve_embeddings(name) == "minilm":
            return "minilm", embedding_table(list, name, 1, 1)[0]
        name = "learned:16000"
    path, (kind, _, size) = Path(name).expanduser(), name.partition(":")
    if kind == "learned" and not path.exists():
        if not size.isdecimal() or int(size) < 1:
            raise InputError(f"tokenizer {name!r} lacks the size of its vocabulary; write learned:16000")
        return name, embedding_table(lambda: texts_of(corpus), "random", int(size), 1)[0]
    if name == "minilm" or path.is_file():
        return name, embedding_table(list, str(path), 1, 1)[0]
    if (file := path / "tokenizer.json").is_file():
        try:
            return name, Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises nothing narrower
            raise InputError(f"{file} is not a tokenizer ({error}); copy the file again") from error
    from sentemb.encoders import load, tokenizer_of

    return name, tokenizer_of(load(name, device="cpu"))


# ---- what is read
