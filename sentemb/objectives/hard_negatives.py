"""How hard negatives enter InfoNCE: as further candidates of every anchor, its own with a weight."""

from dataclasses import replace

import torch
from torch import Tensor

from sentemb.geometry import CandidateMask, log_sum_exp
from sentemb.objectives.guide import GuideEmbeddings


def hard_negative_sums(
    scaled: Tensor, hard: Tensor, ids: Tensor | None, hard_weight: float, guide: GuideEmbeddings | None = None
) -> list[Tensor]:
    """Parts of each anchor's sum over candidates: of other anchors' hard negatives, and of each of its own.

    Args:
        scaled: anchors ``[n, d]`` over the temperature. hard: ``[n, k, d]``, k hard negatives of each anchor.
        ids: int64 ``[n, 2 + k]`` or None; a hard negative that is a copy of the anchor or its positive does not count.
        hard_weight: log-weight of an anchor's own hard negatives (SimCSE's alpha is exp of it).
        guide: those that it finds nearer to the anchor than the positive do not count.

    Returns:
        log sums of exp, ``[n]`` each: one of the others together, then one of each of its own.
        Source: Gao et al. 2021 (SimCSE), arXiv 2104.08821, eq. 5; Karpukhin et al. 2020, section 3.2 (shared by all).
    """
    n, k, _ = hard.shape
    hard_scores = torch.einsum("nd,nkd->nk", scaled, hard) + hard_weight
    places = torch.arange(n * k, device=scaled.device).view(n, k)
    others = CandidateMask(itself=places)
    if ids is not None:
        hard_scores = hard_scores.masked_fill((ids[:, 2:, None] == ids[:, None, :2]).any(dim=2), -torch.inf)
        others = CandidateMask(ids[:, :2], ids[:, 2:].flatten(), itself=places)
    if guide is not None and guide.negatives is not None:
        scores = guide.scores(0, guide.negatives.flatten(0, 1))
        others = replace(others, guide=scores)
        nearer = torch.einsum("nd,nkd->nk", guide.x, guide.negatives) > scores.limits[:, None]
        negatives = ~hard_scores.isneginf()
        guide.counts.add(nearer & negatives, negatives)
        hard_scores = hard_scores.masked_fill(nearer, -torch.inf)
    return [log_sum_exp(scaled, hard.flatten(0, 1), others), *hard_scores.unbind(dim=1)]
