"""Prompts: text before each text, by its side of a pair; the same in training and in scoring.

A model's default prompt is sentence-transformers': ``encode`` puts it before each text. A model that was trained with
``--prompts`` has one for each side, under the names ``anchor`` and ``positive``, and under ``query`` and ``document``,
the names by which sentence-transformers knows them (``encode(texts, prompt_name="query")``).
"""

from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from sentemb.encoders.two_tower import default_prompt, towers_of
from sentemb.registry import choose, parse_options

SIDES = {"anchor": "query", "positive": "document"}  # and the names that sentence-transformers gives them


@dataclass(frozen=True)
class Prompts:
    """The text before the texts of each side of a pair; "" for none."""

    anchor: str = ""
    positive: str = ""  # before hard negatives, too

    @property
    def alike(self) -> bool:
        """Whether both sides have the same one."""
        return self.anchor == self.positive


def parse_prompts(spec: str) -> Prompts:
    """Prompts from ``anchor="query: ",positive="passage: "``; a side that is left out has none.

    Raises:
        InputError: another side, or no such options.
    """
    options = parse_options(spec, spec, 'write anchor="query: ",positive="passage: "', strip=False)
    for side in options:
        choose("side of prompts", side, SIDES)
    return Prompts(**options)


def prompts_of(model: SentenceTransformer) -> Prompts:
    """The prompts for training and scoring: each side's own if the model has them, else its default for both.

    With two towers f's default prompt and g's.
    """
    towers = towers_of(model)
    if len(towers) == 1 and SIDES.keys() <= model.prompts.keys():
        return Prompts(*(model.prompts[side] or "" for side in SIDES))
    return Prompts(default_prompt(towers[0]), default_prompt(towers[-1]))


def set_prompts(model: SentenceTransformer, prompts: Prompts) -> None:
    """Give a model the prompts of both sides; ``encode`` then takes the anchor's (of two towers, g the positive's)."""
    texts = dict(zip(SIDES, (prompts.anchor, prompts.positive), strict=True))
    towers = towers_of(model)
    for tower, side in zip(towers, SIDES, strict=False):
        tower.prompts = tower.prompts | texts | {SIDES[name]: text for name, text in texts.items()}
        tower.default_prompt_name = SIDES[side] if texts[side] else None
