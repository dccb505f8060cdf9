"""Losses that take the contrastive loss apart: what its temperature does, and what its hardest negatives do.

Source: Wang & Liu 2021, arXiv 2012.09740. Its diagnostics (relative penalty, entropy) are in
:mod:`sentemb.geometry`.
"""

import math

import torch
from torch import Tensor

from sentemb.geometry import CandidateMask, log_sum_exp, nearest, sum_above
from sentemb.objectives.base import Extras, Objective, count, group_numbers, order, positive, share
from sentemb.objectives.guide import guide_scores


class Simple(Objective):
    """Attraction and repulsion without a preference for near negatives: mean_i -s_ii + lambda sum_{j != i} s_ij.

    s is the plain cosine. The limit of the contrastive loss at large temperature, times it and up to a constant.

    Args:
        weight: of the mean of the anchor's negatives, > 0: lambda = weight / their number. 1 is that limit (the paper
            gives no value for lambda).

    Source: Wang & Liu 2021, arXiv 2012.09740, eq. 3.
    """

    formula = "mean_i -s_ii + weight * mean_{j != i} s_ij, s the cosine"
    negatives_per_anchor = "n - 1"
    interchangeable_views = "yes"
    source = "Wang & Liu 2021, eq. 3"
    takes = frozenset({"guide"})
    shares_loss = True

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = positive("weight", weight)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Needs no scores without a guide: a sum of scores is the score of a sum."""
        anchors = extras.anchors
        if extras.guide is not None:
            floor = torch.full_like(anchors(x)[:, 0], -2)  # (below any cosine)
            others_sum, counts = sum_above(anchors(x), y, floor, _others(x, extras))
            repulsion = self.weight * others_sum / counts.clamp_min(1)
            return extras.mean(repulsion - (anchors(x) * anchors(y)).sum(dim=1))
        ids = order(x)[:, None].expand(-1, 2) if extras.ids is None else extras.ids[:, :2]
        anchor, positive_ids = group_numbers(ids.flatten()).view(-1, 2).unbind(dim=1)
        copies = x.new_zeros(2 * len(x), x.shape[1]).index_add(0, positive_ids, y)
        number = anchor.new_zeros(2 * len(x)).index_add(0, positive_ids, torch.ones_like(positive_ids))
        apart = (anchor != positive_ids).long()  # else copies of the anchor are those of its positive
        others = y.sum(dim=0) - copies[positive_ids] - apart[:, None] * copies[anchor]  # [n, d], sums of negatives
        counts = len(y) - number[positive_ids] - apart * number[anchor]
        repulsion = (anchors(x) * anchors(others)).sum(dim=1) / anchors(counts).clamp_min(1)
        return extras.mean(self.weight * repulsion - (anchors(x) * anchors(y)).sum(dim=1))


class Hard(Objective):
    """The contrastive loss over each anchor's nearest negatives only: explicit hardness, whatever the temperature.

    Args:
        temperature: tau, > 0.
        quantile: alpha, in (0, 1]: the share of an anchor's negatives that count, its nearest (rounded up).
        top: this number of them instead of a share; 0: by ``quantile``.

    Source: Wang & Liu 2021, arXiv 2012.09740, eqs. 8, 9; alpha 0.0819 for CIFAR, which was 4,095 negatives.
    """

    formula = "mean_i -log(exp s_ii / (exp s_ii + sum_{s_ij >= the anchor's upper quantile} exp s_ij))"
    negatives_per_anchor = "ceil(quantile * (n - 1))"
    source = "Wang & Liu 2021, eqs. 8, 9"
    takes = frozenset({"guide"})
    contrastive = shares_loss = True

    def __init__(self, temperature: float = 0.3, quantile: float = 0.0819, top: int = 0) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.quantile, self.top = positive("quantile", share("quantile", quantile)), count("top", top, least=0)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """As InfoNCE, of the positive and the nearest others."""
        xs = extras.anchors(x) / self.temperature
        others = _others(x, extras)
        floor = nearest(xs, y, self.num_nearest, others, self.most_nearest(len(y)))

        def far(scores: Tensor, rows: slice, columns: slice) -> None:
            others(scores, rows, columns)
            scores.masked_fill_(scores < floor[rows, None], -torch.inf)

        positive_scores = (xs * extras.anchors(y)).sum(dim=1)
        sums = torch.stack([log_sum_exp(xs, y, far), positive_scores]).logsumexp(dim=0)
        return extras.mean(sums - positive_scores)

    def num_nearest(self, negatives: Tensor) -> Tensor:
        """How many of these negatives count, int64; at least one of any."""
        if self.top:
            return negatives.clamp(max=self.top)
        return (self.quantile * negatives.double() - 1e-9).ceil().long()

    def most_nearest(self, negatives: int) -> int:
        """How many of that many negatives count: as :meth:`num_nearest`, without a tensor."""
        return min(self.top, negatives) if self.top else math.ceil(self.quantile * negatives - 1e-9)

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """The positive and the nearest negatives."""
        return 1 + self.most_nearest(n - 1)


class HardSimple(Hard):
    """L_simple over each anchor's nearest negatives only.

    Args:
        quantile, top: see :class:`Hard`. weight: see :class:`Simple`.

    Source: Wang & Liu 2021, arXiv 2012.09740, section 3.4 and table 1 (the nearest 4,095).
    """

    formula = "mean_i -s_ii + weight * mean of s_ij over the anchor's upper quantile, s the cosine"
    source = "Wang & Liu 2021, sec. 3.4"
    contrastive = False
    shares_loss = True

    def __init__(self, quantile: float = 0.0819, top: int = 0, weight: float = 1.0) -> None:
        super().__init__(1.0, quantile, top)
        self.weight = positive("weight", weight)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """As :class:`Simple`, of the nearest others."""
        others, anchors = _others(x, extras), extras.anchors(x)
        floor = nearest(anchors, y, self.num_nearest, others, self.most_nearest(len(y)))
        near, counts = sum_above(anchors, y, floor, others)
        return extras.mean(self.weight * near / counts.clamp_min(1) - (anchors * extras.anchors(y)).sum(dim=1))


def _others(x: Tensor, extras: Extras) -> CandidateMask:
    """Of each anchor: all rows of the other side but the positive, copies, and what a guide finds nearer."""
    ids, itself, guide = extras.copied_ids, order(x)[:, None], guide_scores(extras.guide, 0, 1)
    if ids is None:
        return extras.anchors(CandidateMask(itself=itself, guide=guide))
    return extras.anchors(CandidateMask(ids[:, :2], ids[:, 1], itself=itself, guide=guide))
