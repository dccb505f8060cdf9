"""Positive pairs out of sentences: neighbours, one sentence twice, passages, labelled rows (table PAIRS)."""

from sentemb.pairs.augmentations import Noise, Words
from sentemb.pairs.builders import (
    PAIRS,
    Pairs,
    augment,
    contiguous,
    draw,
    drop_unusable_pairs,
    dropout,
    evenly_spread,
    joined,
    labelled,
    neighbours,
    passages,
    sample,
)
from sentemb.pairs.lazy import Numbers, Selection
from sentemb.pairs.negatives import PairNegatives
from sentemb.pairs.passages import PassagePairs, PassageSettings, PassageText, draw_chances, passage_text
from sentemb.pairs.permutation import Permutation

__all__ = [
    "PAIRS",
    "PairNegatives",
    "Noise",
    "Numbers",
    "Pairs",
    "PassageSettings",
    "PassageText",
    "PassagePairs",
    "Permutation",
    "Selection",
    "Words",
    "augment",
    "contiguous",
    "draw",
    "draw_chances",
    "dropout",
    "evenly_spread",
    "joined",
    "labelled",
    "neighbours",
    "passage_text",
    "passages",
    "sample",
    "drop_unusable_pairs",
]
