"""False negatives by a guide model: candidates that it finds nearer to an anchor than the positive are not negatives.

Source: Solatorio 2024 (GISTEmbed), arXiv 2402.16829, section 3; the margins are those of sentence-transformers.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sentemb.geometry import GuideScores, MaskCounts, l2_normalize

ROUNDING = 1e-5  # of a cosine: candidates as near as the positive stay, whichever way their products are rounded


@dataclass(frozen=True)
class GuideMargin:
    """How near a candidate may come: up to the positive's cosine c, less ``absolute`` and less ``relative`` * |c|.

    Args:
        absolute: of the cosine, -2 to 2.
        relative: a share of the positive's cosine, -1 to 1.

    Raises:
        ValueError: a margin outside of its bounds.
    """

    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        for name, value, bound in (("margin", self.absolute, 2), ("relative_margin", self.relative, 1)):
            if not abs(value) <= bound:
                raise ValueError(f"{name} must lie in [-{bound}, {bound}], got {value}")

    @property
    def masks_self_pairs(self) -> bool:
        """Whether anything is left out where the positive is the anchor's own sentence, and c is 1."""
        return self.absolute + self.relative > ROUNDING

    def limits(self, cosines: Tensor) -> Tensor:
        """The cosine beyond which a candidate is not a negative, ``[n]``, from the positives' cosines ``[n]``."""
        return cosines - self.absolute - self.relative * cosines.abs() + ROUNDING


@dataclass(frozen=True)
class GuideEmbeddings:
    """A guide's embeddings of a global batch.

    Args:
        x: ``[n, D]`` and y ``[n, D]``, any D: the sentences of both views, without dropout or noise.
        negatives: ``[n, k, D]``, of the hard negatives; None: there are none, or they all stay negatives.
        margin: how near candidates may come.
        counts: how many negatives objectives have left out.
    """

    x: Tensor
    y: Tensor
    negatives: Tensor | None = None
    margin: GuideMargin = GuideMargin()
    counts: MaskCounts = field(default_factory=MaskCounts, compare=False)

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Of x and of y."""
        return self.x, self.y

    @property
    def cosines(self) -> Tensor:
        """Of the positive pairs, ``[n]``."""
        return (self.x * self.y).sum(dim=1)

    def normalised(self, like: Tensor) -> "GuideEmbeddings":
        """Rows of unit length, constants of the type and on the device of ``like``."""
        x, y = (l2_normalize(rows.detach().to(like.device, like.dtype)) for rows in self.sides)
        negatives = None
        if self.negatives is not None:
            flat = l2_normalize(self.negatives.detach().to(like.device, like.dtype).flatten(0, 1))
            negatives = flat.view(self.negatives.shape)
        return replace(self, x=x, y=y, negatives=negatives)

    def scores(self, side: int, candidates: Tensor, cosines: Tensor | None = None) -> GuideScores:
        """For a mask: of the anchors of a side (0: x, 1: y) and candidates ``[m, D]``.

        ``cosines``: of anchors and positives, ``[n]``, where these are not rows i of both sides.
        """
        limits = self.margin.limits(self.cosines if cosines is None else cosines)
        return GuideScores(self.sides[side], candidates, limits, self.counts)


def guide_scores(guide: GuideEmbeddings | None, side: int, *candidates: int) -> GuideScores | None:
    """As :meth:`GuideEmbeddings.scores`, of the rows of one or both sides as candidates; None without a guide."""
    if guide is None:
        return None
    rows = [guide.sides[each] for each in candidates]
    return guide.scores(side, rows[0] if len(rows) == 1 else torch.cat(rows))
