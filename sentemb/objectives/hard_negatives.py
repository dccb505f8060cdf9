"""How hard negatives enter InfoNCE: as further candidates of every anchor, its own with a weight."""

from dataclasses import replace

import torch
from torch import Tensor

from sentemb.geometry import CandidateMask, log_sum_exp
from sentemb.objectives.base import Extras


def hard_negative_sums(scaled: Tensor, hard: Tensor, extras: Extras, hard_weight: float) -> list[Tensor]:
    """Parts of each anchor's sum over candidates: of other anchors' hard negatives, and of each of its own.

    Args:
        scaled: this process's anchors ``[r, d]`` over the temperature (all n, where the loss is not shared out).
        hard: ``[n, k, d]``, k hard negatives of each of all anchors.
        extras: with ids, a hard negative that is a copy of the anchor or its positive does not count; with a guide,
            none that it finds nearer to the anchor than the positive.
        hard_weight: log-weight of an anchor's own hard negatives (SimCSE's alpha is exp of it).

    Returns:
        log sums of exp, ``[r]`` each: one of the others together, then one of each of its own.
        Source: Gao et al. 2021 (SimCSE), arXiv 2104.08821, eq. 5; Karpukhin et al. 2020, section 3.2 (shared by all).
    """
    n, k, _ = hard.shape
    ids, guide, anchors = extras.ids, extras.guide, extras.anchors
    hard_scores = torch.einsum("nd,nkd->nk", scaled, anchors(hard)) + hard_weight
    places = torch.arange(n * k, device=scaled.device).view(n, k)
    others = CandidateMask(itself=places)
    if ids is not None:
        copies = (ids[:, 2:, None] == ids[:, None, :2]).any(dim=2)
        hard_scores = hard_scores.masked_fill(anchors(copies), -torch.inf)
        others = CandidateMask(ids[:, :2], ids[:, 2:].flatten(), itself=places)
    if guide is not None and guide.negatives is not None:
        scores = guide.scores(0, guide.negatives.flatten(0, 1))
        others = replace(others, guide=scores)
        nearer = anchors(torch.einsum("nd,nkd->nk", guide.x, guide.negatives) > scores.limits[:, None])
        negatives = ~hard_scores.isneginf()
        guide.counts.add(nearer & negatives, negatives)
        hard_scores = hard_scores.masked_fill(nearer, -torch.inf)
    return [log_sum_exp(scaled, hard.flatten(0, 1), anchors(others)), *hard_scores.unbind(dim=1)]
