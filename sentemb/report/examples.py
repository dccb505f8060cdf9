"""Sentences with numbers: held-out sentences with their nearest neighbours, before and after training."""

from dataclasses import dataclass
from typing import Any

from sentemb.runs import Record, as_dict, as_list, number, show

CAPTION = """Held-out sentences, drawn by a fixed seed and not by any result, and for each the nearest of {candidates}
candidates: the second sentences of the held-out pairs, the sentence itself left out. Marked: its true neighbour."""


@dataclass(frozen=True)
class Rankings:
    """A section of a page: texts, and for each what several encoders have nearest to it."""

    name: str
    title: str
    caption: str
    head: list[str]
    rows: list[Record]  # ``text``, ``positive`` where there is one, ``rankings``: of each encoder ``nearest``, ``rank``


def nearest_neighbours(examples: Record, initial: str | None) -> Rankings | None:
    """Held-out sentences with their neighbours; None without examples.

    Args:
        examples: of :func:`sentemb.validation.nearest_examples`.
        initial: the encoder that stands under "before"; the others stand under "after".
    """
    sentences = [as_dict(each) for each in as_list(examples.get("sentences"))]
    names = list(dict.fromkeys(name for each in sentences for name in as_dict(each.get("neighbours"))))
    if not names:
        return None
    rows = [
        {
            "text": each.get("sentence", ""),
            "positive": each.get("positive", ""),
            "rankings": [_ranking(each, name) for name in names],
        }
        for each in sentences
    ]
    caption = CAPTION.format(candidates=show(number(examples.get("candidates")), 0))
    return Rankings(
        "neighbours", "Nearest neighbours", caption, ["sentence", *(when(name, initial) for name in names)], rows
    )


def when(name: str, initial: str | None) -> str:
    """What stands over an encoder: whether it is from before or after training."""
    return f"{'before' if name == initial else 'after'}: {name}"


def _ranking(example: Record, name: str) -> dict[str, Any]:
    nearest = [row for row in as_list(as_dict(example.get("neighbours")).get(name)) if is_row(row, 3)]
    return {
        "nearest": [
            {"text": text, "similarity": show(number(score), 2), "is_positive": is_positive is True}
            for text, score, is_positive in nearest
        ],
        "rank": show(number(as_dict(example.get("ranks")).get(name)), 0),
    }


def is_row(value: object, cells: int) -> bool:
    """Whether the value is a list with this number of cells."""
    return isinstance(value, list) and len(value) == cells
