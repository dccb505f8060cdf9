"""Notes about the settings of a run, printed before it starts."""

import numpy as np

from sentemb.corpus import Corpus
from sentemb.encoders import LoraAdapters, Prompts
from sentemb.pairs import Pairs
from sentemb.training import TrainingSettings

NOTES = 5  # on the corpus that are printed
LOOKED_AT = 10_000  # passages, evenly spread, for their medians


def corpus_notes(corpus: Corpus) -> list[str]:
    """Notes from reading a corpus: the first ones, and where to see the others."""
    more = len(corpus.notes) - NOTES
    rest = [f"{more} more of this kind; sentemb inspect lists all of them"] if more > 0 else []
    return [*corpus.notes[:NOTES], *rest]


def prompt_notes(prompts: Prompts) -> list[str]:
    """A note of the prompts before the texts; none where there are none."""
    if prompts == Prompts():
        return []
    anchor, positive = repr(prompts.anchor), repr(prompts.positive)
    texts = anchor if prompts.alike else f"{anchor} (anchor), {positive} (positive)"
    return [f"prompts before the texts: {texts}"]


def passage_notes(pairs: Pairs) -> list[str]:
    """How long the passages of pairs are; none for pairs of sentences."""
    if pairs.passages is None:
        return []
    rows = pairs.rows[np.linspace(0, len(pairs) - 1, min(LOOKED_AT, len(pairs))).astype(int)]
    sentences = np.median(rows[:, 1] - rows[:, 0] + (pairs.passages.settings.kind != "title"))
    tokens, room = np.median(pairs.passages.lengths(rows)), pairs.passages.text.room
    return [
        f"passages of {sentences:g} sentences and {tokens:g} tokens (medians); a text holds {room} tokens, which "
        "--max-length sets"
    ]


def adapter_notes(adapters: LoraAdapters | None) -> list[str]:
    """A note of how much a model with adapters trains; none where it has none."""
    if adapters is None:
        return []
    share = f"{100 * adapters.trained / adapters.all:.2g} %"
    return [
        f"LoRA in {adapters.layers} linear layers: {adapters.trained:,} of {adapters.all:,} parameters are trained "
        f"({share})"
    ]


def long_warmup(training: TrainingSettings, steps: int) -> list[str]:
    """A note where the learning rate rises for more than half of the run; else none."""
    warmup = training.warmup_updates(steps)
    if 2 * warmup <= steps:
        return []
    many, lowest = f"{warmup} of {steps}", "more than half"
    if warmup > steps:
        many = f"all {steps}"
        lowest = f"and the learning rate ends at {training.lr * steps / warmup:.2g}, below --lr {training.lr:g}"
    return [
        f"{many} updates are warm-up (--warmup {training.warmup:g}), {lowest}; give a shorter warm-up (0.1: a tenth of "
        "the run) or more updates"
    ]
