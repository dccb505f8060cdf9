"""The settings of an adaptation. Nothing heavy is imported, so that ``--help`` answers at once."""

import re
from dataclasses import dataclass

from sentemb.errors import InputError
from sentemb.languages import DEFAULT, check_language
from sentemb.settings import check_settings, setting

UNITS = {"s": 1, "m": 60, "h": 3600}  # of a budget, in seconds
LEAST_SECONDS = 5
STSB_LOSS, AGREEMENT_LOSS = 0.5, 5.0  # points of general quality that may be lost, by how it is measured


@dataclass(frozen=True)
class AdaptationSettings:
    """The adaptation."""

    budget: str = setting(
        "30m",
        "time for trying methods, for example 90s, 30m or 2h, without the final scores; MiniLM on two cores needs "
        "10m or more",
    )
    max_general_loss: float | None = setting(
        None,
        f"points of general quality that the model may lose; default {STSB_LOSS:g} of STS-B dev, or without its data "
        f"{AGREEMENT_LOSS:g} of the correlation with the start's similarities",
        at_least=0,
    )
    arms: str | None = setting(
        None,
        "methods to try, separated by commas: neighbours, passages, titles, dropout, whiten; default all that fit the "
        "text",
    )
    language: str = setting(DEFAULT, "language of raw text, for splitting it into sentences: de, fr, ja, ...")
    max_length: int = setting(64, "longest training sentence in tokens; longer ones are cut", at_least=4)
    batch_size: int = setting(64, "pairs of an update; all other pairs of it are negatives", at_least=2)
    lr: float | None = setting(
        None, "highest learning rate; default 2e-5 for transformers, 5e-4 for other encoders", above=0
    )
    seed: int = setting(0, "seed of order, dropout and samples", at_least=0, below=2**32)
    threads: int | None = setting(None, "CPU threads; default: OMP_NUM_THREADS, else all cores", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)
        check_language(self.language)
        seconds_of(self.budget)


def seconds_of(budget: str) -> float:
    """Seconds of a budget: a number with s, m or h after it.

    Raises:
        InputError: it is none, or less than five seconds.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", budget.strip())
    if match is None:
        raise InputError(f"budget {budget!r} is not a time; write 90s, 30m or 2h")
    seconds = float(match[1]) * UNITS[match[2]]
    if seconds < LEAST_SECONDS:
        raise InputError(f"budget must be at least {LEAST_SECONDS}s, got {budget}")
    return seconds
