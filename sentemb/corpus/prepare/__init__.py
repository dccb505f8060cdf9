"""Preparing a corpus: sentences into Arrow shards, token ids into flat arrays, in parallel and restartably."""

from sentemb.corpus.prepare.shards import prepare_sentences, refuse_without_pairs
from sentemb.corpus.prepare.tokenize import tokenize_sentences
from sentemb.corpus.prepare.word_cache import CHECKED, WordwiseTokenizer

__all__ = [
    "CHECKED",
    "WordwiseTokenizer",
    "prepare_sentences",
    "refuse_without_pairs",
    "tokenize_sentences",
]
