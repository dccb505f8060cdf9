"""Positive pairs out of sentences: neighbours, one sentence twice, augmentations, labelled rows (table PAIRS)."""

from sentemb.pairs.augment import Words
from sentemb.pairs.builders import PAIRS, Pairs, contiguous, draw, joined, labelled, neighbours, sample, usable
from sentemb.pairs.lazy import Numbers, Selection
from sentemb.pairs.permutation import Permutation

__all__ = [
    "PAIRS",
    "Numbers",
    "Pairs",
    "Permutation",
    "Selection",
    "Words",
    "contiguous",
    "draw",
    "joined",
    "labelled",
    "neighbours",
    "sample",
    "usable",
]
