"""``--negatives mined:by=,per_anchor=,pool=,skip=,margin=,refresh=``, read without anything heavy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from sentemb.registry import PathUnless, build

BM25, SELF = "bm25", "self"
MARGIN = 0.05  # of scores by a model: the "95 %" of Moreira et al. 2024


@dataclass(frozen=True)
class MinedSpec:
    """Hard negatives of each pair: the nearest sentences of a pool that are skip ranks down and below the positive.

    Of pairs of passages they are passages (:mod:`sentemb.mining.passages`).

    Args:
        by: what finds them: a finished model (a folder, a name of the hub, minilm); self, the model that is trained;
            or bm25, words in common.
        per_anchor: hard negatives of each pair.
        pool: sentences that they are chosen from, drawn with the seed of the run from the positives of all pairs; 0:
            all of these.
        skip: this number of the nearest is left out, as they often are positives without a label.
        margin: a sentence whose score is above p - margin * |p|, where p is the score of the pair's positive, is left
            out; none: no such limit. auto: 0.05, and none by bm25, whose scores are not comparable across sentences.
        refresh: after this number of updates the model that is trained finds them again; 0: never.

    Sources: the margin: Moreira et al. 2024 (NV-Retriever, arXiv 2407.15831), TopK-PercPos, at 95 % of the positive's
    score. skip: Qu et al. 2021 (RocketQA, 2010.08191): many of the nearest are positives without a label. refresh:
    Xiong et al. 2021 (ANCE, 2007.00808). bm25: Karpukhin et al. 2020 (DPR, 2004.04906).

    Raises:
        ValueError: a number out of range; a pool that cannot hold what is asked for.
    """

    by: Annotated[str, PathUnless((SELF, BM25, "minilm"))]
    per_anchor: int = 4
    pool: int = 50_000
    skip: int = 10
    margin: float | Literal["auto", "none"] = "auto"
    refresh: int = 0

    def __post_init__(self) -> None:
        if not self.by:
            raise ValueError("by is empty; give a model, self or bm25")
        for name, least in (("per_anchor", 1), ("pool", 0), ("skip", 0), ("refresh", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not isinstance(self.margin, str) and not 0 <= self.margin <= 1:
            raise ValueError(f"margin must lie in [0, 1], or be none, got {self.margin}")
        if self.by == BM25 and not isinstance(self.margin, str):
            raise ValueError("margin is for scores by a model, and by=bm25 has none; leave it out")
        if self.pool and self.pool < self.least_pool:
            raise ValueError(
                f"a pool of {self.pool} is too small for per_anchor={self.per_anchor} and skip={self.skip}; give at "
                f"least pool={self.least_pool}"
            )

    @property
    def least_pool(self) -> int:
        """Sentences that a pool needs, the pair itself among them."""
        return self.per_anchor + self.skip + 2

    @property
    def relative_margin(self) -> float | None:
        """The margin as a number; None: there is no limit."""
        if self.margin == "auto":
            return None if self.by == BM25 else MARGIN
        return None if isinstance(self.margin, str) else self.margin


def none() -> None:
    """No hard negatives but those of the corpus."""


NEGATIVES: dict[str, Callable[..., MinedSpec | None]] = {"none": none, "mined": MinedSpec}


def parse_negatives(spec: str) -> MinedSpec | None:
    """Which hard negatives a spec asks for; None: none. Nothing is opened.

    Raises:
        InputError: it names nothing, or an option that there is not, or a value out of range.
    """
    made: MinedSpec | None = build(NEGATIVES, spec, "negatives")
    return made
