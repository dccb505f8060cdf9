"""Any text as sentences in documents, prepared once and opened memory-mapped.

``readers/`` turn files of every kind into sentences, ``sources`` says what a corpus can be made of (table CORPORA),
``prepare/`` writes the cache in parallel and restartably, ``corpus`` and ``tokens`` open it, ``cleaning`` says which
sentences are worth training on.
"""

from sentemb.corpus.cleaning import CLEANINGS, SORTED, Cleaning, CleaningResult, clean_corpus, duplicates, letter_rules
from sentemb.corpus.corpus import Corpus
from sentemb.corpus.hashing import splitmix64
from sentemb.corpus.prepare import CHECKED, WordwiseTokenizer
from sentemb.corpus.readers import FORMATS, cut, table_rows
from sentemb.corpus.sample import sample_files
from sentemb.corpus.sources import (
    CORPORA,
    absolute_corpus,
    check_corpus,
    files_of_documents,
    open_corpus,
    source_of,
    with_lines,
)
from sentemb.corpus.text_source import Reader, Skip, TextSource
from sentemb.corpus.tokens import CHUNK, Tokens
from sentemb.corpus.word_pieces import WordPieces, word_pieces

__all__ = [
    "CHECKED",
    "CHUNK",
    "CLEANINGS",
    "CORPORA",
    "FORMATS",
    "SORTED",
    "Cleaning",
    "Corpus",
    "CleaningResult",
    "Reader",
    "Skip",
    "TextSource",
    "Tokens",
    "WordPieces",
    "WordwiseTokenizer",
    "absolute_corpus",
    "check_corpus",
    "clean_corpus",
    "cut",
    "duplicates",
    "files_of_documents",
    "letter_rules",
    "splitmix64",
    "open_corpus",
    "sample_files",
    "source_of",
    "table_rows",
    "with_lines",
    "word_pieces",
]
