"""Any text -> sentences in documents, prepared once and opened memory-mapped.

``sources`` says what a corpus can be made of (table CORPORA), ``formats`` reads files, ``prepare`` writes the cache in
parallel and restartably, ``store`` opens it, ``cleaning`` says which sentences are worth training on.
"""

from sentemb.corpus.cleaning import CLEANINGS, Cleaning, clean_corpus
from sentemb.corpus.sources import CORPORA, open_corpus
from sentemb.corpus.store import Corpus, Tokens

__all__ = ["CLEANINGS", "CORPORA", "Cleaning", "Corpus", "Tokens", "clean_corpus", "open_corpus"]
