"""The methods that an adaptation tries. To add one: a line in ARMS.

An arm that trains is a set of settings of :func:`sentemb.train`; an arm in closed form maps the start's embeddings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sentemb.errors import InputError
from sentemb.registry import choose

KEEP = "keep"  # the start as it is, which needs no arm


@dataclass(frozen=True)
class Situation:
    """What decides which arms are offered."""

    ordered: bool  # whether neighbouring sentences belong together
    dropout: bool  # whether the model has any
    towers: int  # encoders of the model
    titles: bool  # whether the text has any
    seconds: float  # the budget


Refusal = Callable[[Situation], str | None]  # why an arm is not offered; None: it is


@dataclass(frozen=True)
class TrainedArm:
    """A method that trains a copy of the start."""

    about: str  # what it does, for the page
    settings: Mapping[str, Any] = field(default_factory=dict)  # of sentemb.train, over those of all arms
    refusal: Refusal = lambda situation: None


@dataclass(frozen=True)
class MappedArm:
    """A method that maps the embeddings of the start (:mod:`sentemb.adaptation.whitening`)."""

    about: str
    refusal: Refusal = lambda situation: None


Arm = TrainedArm | MappedArm


def _no_order(situation: Situation) -> str | None:
    return None if situation.ordered else "the text has no order: neighbouring sentences are no nearer than others"


def _no_titles(situation: Situation) -> str | None:
    return None if situation.titles else "the text has no titles; a table may have a column of them"


def _no_dropout(situation: Situation) -> str | None:
    return None if situation.dropout else "the model has no dropout: both views of a sentence would be the same"


def _no_map(situation: Situation) -> str | None:
    return "the model has two towers" if situation.towers > 1 else _no_order(situation)


ARMS: dict[str, Arm] = {
    "neighbours": TrainedArm(
        "neighbouring sentences are positive pairs", {"pairs": "neighbours", "objective": "infonce"}, _no_order
    ),
    "passages": TrainedArm(
        "a sentence and the passage that it was taken out of are a positive pair (inverse cloze)",
        {"pairs": "passages:kind=inverse_cloze", "objective": "infonce"},
        _no_order,
    ),
    "titles": TrainedArm(
        "a title and the passage below it are a positive pair",
        {"pairs": "passages:kind=title", "objective": "infonce"},
        _no_titles,
    ),
    "dropout": TrainedArm(
        "a sentence twice, dropout the only noise (SimCSE)", {"pairs": "dropout", "objective": "infonce"}, _no_dropout
    ),
    "whiten": MappedArm("the strongest directions of the embeddings are made weaker, nothing is trained", _no_map),
}


def chosen_arms(names: str | None) -> dict[str, Arm]:
    """The arms of a list with commas, or all.

    Raises:
        InputError: there is no such arm, or none is named.
    """
    if names is None:
        return dict(ARMS)
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed:
        raise InputError(f"arms names none; choose from {', '.join(ARMS)}")
    return {choose("method", name, ARMS): ARMS[name] for name in dict.fromkeys(listed)}


def offered(arms: Mapping[str, Arm], situation: Situation) -> tuple[dict[str, Arm], dict[str, str]]:
    """The arms that fit, and why the others do not."""
    reasons = {name: arm.refusal(situation) for name, arm in arms.items()}
    return (
        {name: arm for name, arm in arms.items() if reasons[name] is None},
        {name: reason for name, reason in reasons.items() if reason is not None},
    )
