"""Positive pairs out of sentences: neighbours, one sentence twice, augmentations, labelled rows (table PAIRS)."""

from sentemb.pairs.augmentations import Noise, Words
from sentemb.pairs.builders import (
    PAIRS,
    Pairs,
    augment,
    contiguous,
    draw,
    drop_unusable_pairs,
    dropout,
    joined,
    labelled,
    neighbours,
    sample,
)
from sentemb.pairs.lazy import Numbers, Selection
from sentemb.pairs.negatives import PairNegatives
from sentemb.pairs.permutation import Permutation

__all__ = [
    "PAIRS",
    "PairNegatives",
    "Noise",
    "Numbers",
    "Pairs",
    "Permutation",
    "Selection",
    "Words",
    "augment",
    "contiguous",
    "draw",
    "dropout",
    "joined",
    "labelled",
    "neighbours",
    "sample",
    "drop_unusable_pairs",
]
