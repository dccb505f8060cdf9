"""Which prefixes of its embeddings a model was trained for: the setting ``matryoshka``, ``64,128:0.5,256``."""

from collections.abc import Mapping
from typing import Any

from sentemb.errors import InputError
from sentemb.runs.records import as_list

PREFIXES = "prefixes"  # of config.json: the lengths, each shorter than the embedding


def parse_prefixes(spec: str) -> dict[int, float]:
    """The lengths of ``64,128:0.5,256`` with their weights, 1 where none is named; the shortest first.

    Raises:
        InputError: a part is no such length or weight, or a length is there twice.
    """
    weights: dict[int, float] = {}
    for part in spec.split(","):
        length, colon, weight = (text.strip() for text in part.partition(":"))
        try:
            size, value = int(length), float(weight) if colon else 1.0
        except ValueError:
            raise InputError(
                f"matryoshka {spec!r} holds {part.strip()!r}, which is not a number of dimensions; write 64,128,256, "
                "with a weight where you want one (64:0.5)"
            ) from None
        if size < 1 or not 1e-8 <= value <= 1e8:
            raise InputError(
                f"matryoshka {spec!r} holds {part.strip()!r}; dimensions must be at least 1, and a weight a positive "
                "number"
            )
        if size in weights:
            raise InputError(f"matryoshka {spec!r} names {size} dimensions twice; leave one of them out")
        weights[size] = value
    return dict(sorted(weights.items()))


def shorter_prefixes(spec: str | None, dimension: int) -> list[int]:
    """The lengths of a setting that are shorter than the embedding."""
    return [] if spec is None else [size for size in parse_prefixes(spec) if size < dimension]


def prefixes_of(config: Mapping[str, Any]) -> list[int]:
    """Those that config.json of a run has; whatever is not a length is left out."""
    return [size for size in as_list(config.get(PREFIXES)) if type(size) is int and size > 0]
