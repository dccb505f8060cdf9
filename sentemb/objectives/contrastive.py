"""Contrastive objectives: pick the positive among candidates, -log(exp(s_ii) / sum_j exp(s_ij)), in its many forms.

Sums over candidates are worked out a tile at a time (:mod:`sentemb.geometry.tiled_scores`). A candidate that is
a copy of the anchor or of its positive is not a negative of it, nor is one that a guide finds nearer than the positive.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from sentemb.geometry import (
    CandidateMask,
    log_sum_exp,
    log_sum_exp_both,
    log_sum_exp_for_mean,
    penalty_entropy,
)
from sentemb.objectives.base import Extras, Objective, group_numbers, mean_of, order, positive
from sentemb.objectives.guide import guide_scores
from sentemb.objectives.hard_negatives import hard_negative_sums
from sentemb.registry import choose


class InfoNCE(Objective):
    """Pick each row's positive among candidates: mean_i -log(exp(s_ii) / sum_j exp(s_ij)), s_ij = x_i.y_j / tau.

    Candidates are the other side's n rows and, where there are hard negatives, the hard negatives of all n pairs.

    Args:
        temperature: tau, > 0.
        symmetric: the mean of both directions (x picks among y, y picks among x, without hard negatives) instead of
            the first.
        same_side: the other n - 1 rows of the anchor's side are candidates, too.
        score: cosine, or dot (the plain inner product of rows as they are).
        learn: learn the temperature along, beginning with ``temperature``; it stays between a fifth and a hundred
            times that.
        hard_weight: log-weight of an anchor's own hard negatives among its candidates.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4, with cosine over temperature as the score; symmetric,
    learned temperature: Radford et al. 2021, arXiv 2103.00020, figure 3.
    """

    formula = "mean_i -log(exp s_ii / sum_j exp s_ij)"
    negatives_per_anchor = "n - 1 + n * h + same * (n - 1)"
    interchangeable_views = "option symmetric"
    source = "van den Oord et al. 2018, eq. 4; Radford et al. 2021, fig. 3"
    FORMER_OPTIONS: ClassVar = {"own_side": "same_side"}
    takes = frozenset({"negatives", "guide"})
    contrastive = bounds_mutual_information = shares_loss = True
    remembers = False  # (a temperature within its limits stays there)
    decoupled = False  # whether the positive is left out of the sum
    directions = 1.0  # what the two directions' losses add up to a multiple of

    def __init__(
        self,
        temperature: float = 0.05,
        symmetric: bool = False,
        same_side: bool = False,
        score: str = "cosine",
        learn: bool = False,
        hard_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.symmetric, self.same_side = symmetric, same_side
        self.similarity = choose("score", score, ("cosine", "dot"))
        self.normalise = score == "cosine"
        self.factor = nn.Parameter(torch.zeros(())) if learn else None  # log of the start's temperature over today's
        if not abs(hard_weight) <= 1e4:
            raise ValueError(f"the weight of hard negatives must be a number between -1e4 and 1e4, got {hard_weight}")
        self.hard_weight = hard_weight

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean over anchors of log sum over candidates minus the positive's score."""
        forth, back = self.log_sums(x, y, extras)
        positive_scores = (extras.anchors(self.scaled(x)) * extras.anchors(y)).sum(dim=1)  # of each anchor
        if not self.symmetric:
            return self.mean(forth - positive_scores, extras)
        means = self.mean(forth - positive_scores, extras) + self.mean(back - positive_scores, extras)
        return self.directions * means / 2

    def scaled(self, x: Tensor) -> Tensor:
        """Rows divided by the current temperature."""
        if self.factor is None:
            return x / self.temperature
        return x * (self.factor.exp() / self.temperature)

    def update_state(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Keep a learned temperature above a fifth of what it began with (and below a hundredfold)."""
        if self.factor is not None:
            self.factor.clamp_(-math.log(100), math.log(5))

    @torch.no_grad()
    def log_metrics(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """How evenly the other side's negatives are pushed (entropy, nats), and the temperature where it is learned."""
        metrics = {}
        if len(x) > 1:
            metrics["penalty_entropy"] = penalty_entropy(self.scaled(self._rows(x)), self._rows(y), 1.0).mean().item()
        if self.factor is not None:
            metrics["temperature"] = self.temperature / math.exp(self.factor.item())
        return metrics

    def mean(self, losses: Tensor, extras: Extras) -> Tensor:
        """Over anchors; decoupled ones without any negative have no say."""
        if not self.decoupled:
            return extras.mean(losses)
        counted = ~losses.isneginf()
        return mean_of(losses, counted, extras.total(counted.sum()))

    def log_sums(self, x: Tensor, y: Tensor, extras: Extras) -> tuple[Tensor, Tensor]:
        """log sum of exp of the candidates' scores: of each anchor of x and, where symmetric, of each of y."""
        xs = self.scaled(x)
        if extras.rows is None:
            of_x, of_y = self._sums_of_all(xs, x, y, extras)
        else:
            of_x, of_y = [self._sums_of_rows(xs, x, y, extras, 0)], []
            if self.symmetric:
                of_y = [self._sums_of_rows(self.scaled(y), y, x, extras, 1)]
        if extras.negatives is not None and extras.negatives.shape[1]:
            of_x += hard_negative_sums(extras.anchors(xs), extras.negatives, extras, self.hard_weight)
        return joined(of_x), joined(of_y or of_x)

    def _sums_of_rows(self, scaled: Tensor, a: Tensor, b: Tensor, extras: Extras, side: int) -> Tensor:
        """Of this process's anchors of side ``a``; where that side's rows are candidates, too, they follow ``b``'s."""
        mask = self.candidate_mask(a, extras, side, *(1 - side, side)[: 1 + self.same_side])
        candidates = torch.cat([b, a]) if self.same_side else b
        log_sums = self._log_sums_of(extras)
        return log_sums(extras.anchors(scaled), candidates, None if mask is None else extras.anchors(mask))

    def _log_sums_of(self, extras: Extras) -> Callable[[Tensor, Tensor, CandidateMask | None], Tensor]:
        """For all candidates of an anchor together, whose sums have equal slopes in the mean; else for a part.

        A class with a loss of its own may weigh anchors.
        """
        parts = extras.negatives is not None or (self.same_side and extras.rows is None)
        equal_slopes = type(self).loss is InfoNCE.loss and not (parts or self.decoupled)
        return log_sum_exp_for_mean if equal_slopes else log_sum_exp

    def _sums_of_all(self, xs: Tensor, x: Tensor, y: Tensor, extras: Extras) -> tuple[list[Tensor], list[Tensor]]:
        """Parts of the sums of all x (``xs``: over the temperature) and all y; both directions share their scores."""
        of_x, of_y = [], []
        if self.symmetric:
            forth, back = log_sum_exp_both(
                xs, y, self.candidate_mask(x, extras, 0, 1), self.candidate_mask(x, extras, 1, 0)
            )
            of_x, of_y = [forth], [back]
        else:
            log_sums = self._log_sums_of(extras)
            of_x = [log_sums(xs, y, self.candidate_mask(x, extras, 0, 1))]
        if self.same_side:
            out = self.candidate_mask(x, extras, 0, 0)
            of_x += log_sum_exp_both(xs, x, out, out, above=True)
            if self.symmetric:
                out = self.candidate_mask(x, extras, 1, 1)
                of_y += log_sum_exp_both(self.scaled(y), y, out, out, above=True)
        return of_x, of_y

    def candidate_mask(self, x: Tensor, extras: Extras, anchors: int, *candidates: int) -> CandidateMask | None:
        """Which rows of a side (0: x, 1: y) are not candidates of those of another (of its own: itself is none).

        ``candidates``: a side, or the other side and the anchors' own, one after the other.
        """
        positive_columns = order(x)[:, None] if anchors != candidates[0] else None
        itself = positive_columns if self.decoupled else None
        if len(candidates) > 1:
            same_columns = order(x)[:, None] + len(x)
            itself = same_columns if itself is None else torch.cat([itself, same_columns], dim=1)
        if (ids := extras.copied_ids) is not None:
            ids = ids[:, :2]
        guide = guide_scores(extras.guide, anchors, *candidates)
        if ids is None and guide is None:
            return None if itself is None else CandidateMask(itself=itself)
        labels = None
        if extras.labels is not None and "labels" in self.needs:
            labels = (extras.labels, extras.labels.repeat(len(candidates)))
        other = None if ids is None else torch.cat([ids[:, each] for each in candidates])
        return CandidateMask(ids, other, positive_columns, itself, labels, guide)

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """Both sides' rows but the anchor, and all hard negatives."""
        return n * (1 + hard) + self.same_side * (n - 1) - self.decoupled

    def chance_loss(self, n: int, hard: int = 0, runs: bool = False) -> float | None:
        """Of both directions where symmetric: the second has no hard negatives; one's own count by their weight."""
        plain = max(1, self.num_candidates(n))
        forth = math.log(plain + hard * (n - 1 + math.exp(min(self.hard_weight, 700))))
        return (forth + math.log(plain)) / 2 if self.symmetric else forth


class NTXent(InfoNCE):
    """Pick each of 2n views' positive among all 2n - 1 others: SimCLR's loss.

    Args:
        temperature: tau, > 0. learn: see :class:`InfoNCE`.

    Source: Chen et al. 2020 (SimCLR), arXiv 2002.05709, eq. 1.
    """

    formula = "mean over 2n views of -log(exp s_ip / sum_{j != i} exp s_ij)"
    negatives_per_anchor = "2 * n - 2"
    interchangeable_views = "yes"
    source = "Chen et al. 2020 (SimCLR), eq. 1"
    takes = frozenset({"guide"})

    def __init__(self, temperature: float = 0.1, learn: bool = False) -> None:
        super().__init__(temperature, symmetric=True, same_side=True, learn=learn)


class HardNegatives(InfoNCE):
    """InfoNCE whose candidates are all n positives and all hard negatives of the batch: SimCSE's supervised loss.

    Args:
        temperature: tau, > 0.
        weight: log-weight of an anchor's own hard negatives among its candidates (SimCSE's alpha = exp of it).

    Source: Gao et al. 2021 (SimCSE), arXiv 2104.08821, eq. 5 and table 4.
    """

    formula = "mean_i -log(exp s_ii / (sum_j exp s_ij + sum_jk exp(weight * [i = j]) exp s_ijk))"
    negatives_per_anchor = "n - 1 + n * h"
    interchangeable_views = "no"
    source = "Gao et al. 2021 (SimCSE), eq. 5"
    needs = frozenset({"negatives"})

    def __init__(self, temperature: float = 0.05, weight: float = 0.0) -> None:
        super().__init__(temperature, hard_weight=weight)


class DPR(InfoNCE):
    """InfoNCE of plain inner products, one way, candidates shared by the batch: questions among passages.

    Args:
        temperature: divides the inner products; the paper has none (1).

    Source: Karpukhin et al. 2020, arXiv 2004.04906, eq. 2.
    """

    formula = "mean_i -log(exp x_i.y_i / (sum_j exp x_i.y_j + sum_jk exp x_i.h_jk))"
    negatives_per_anchor = "n - 1 + n * h"
    interchangeable_views = "no"
    source = "Karpukhin et al. 2020, eq. 2"

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(temperature, score="dot")


class DCL(InfoNCE):
    """NT-Xent whose sum leaves the positive out, so that a near positive does not weaken the gradient.

    An anchor without any negative has no say. The loss can be below 0.

    Args:
        temperature: tau, > 0.

    Source: Yeh et al. 2021 (Decoupled Contrastive Learning), arXiv 2110.06848, eq. 6.
    """

    formula = "mean over 2n views of -s_ip + log sum_{j != i, p} exp s_ij"
    negatives_per_anchor = "2 * n - 2"
    interchangeable_views = "yes"
    source = "Yeh et al. 2021, eq. 6"
    takes = frozenset({"guide"})
    decoupled = True
    bounds_mutual_information = False

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__(temperature, symmetric=True, same_side=True)

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """All candidates are."""
        return f"{self.num_candidates(n)} in-batch negatives per anchor (copies of a sentence are none)"


class CMC(InfoNCE):
    """Two encoders, each the other's targets: the sum of both directions. Meant for ``--towers 2``.

    Args:
        temperature: tau, > 0.

    Source: Tian et al. 2019 (Contrastive Multiview Coding), arXiv 1906.05849, eq. 3, with in-batch candidates.
    """

    formula = "mean_i -log(exp s_ii / sum_j exp s_ij) - log(exp s_ii / sum_j exp s_ji)"
    negatives_per_anchor = "n - 1"
    interchangeable_views = "yes"
    source = "Tian et al. 2019 (CMC), eq. 3"
    takes = frozenset({"guide"})
    directions = 2.0
    bounds_mutual_information = False

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__(temperature, symmetric=True)

    def chance_loss(self, n: int, hard: int = 0, runs: bool = False) -> float | None:
        """Of both directions."""
        return 2 * math.log(n)


class SupCon(InfoNCE):
    """Pick all views of the anchor's class among all 2n - 1 others, each for itself (L_out). One class a pair: NT-Xent.

    Args:
        temperature: tau, > 0.

    Source: Khosla et al. 2020 (Supervised Contrastive Learning), arXiv 2004.11362, eq. 2.
    """

    formula = "mean over 2n views of -1/|P(i)| sum_{p in P(i)} log(exp s_ip / sum_{j != i} exp s_ij)"
    negatives_per_anchor = "2 * n - 2"
    interchangeable_views = "yes"
    source = "Khosla et al. 2020 (SupCon), eq. 2"
    needs = frozenset({"labels"})
    takes = frozenset({"guide"})
    bounds_mutual_information = False
    shares_loss = True

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__(temperature, symmetric=True, same_side=True)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean over 2n views; P(i): the other views of i's class, of which its positive is always one."""
        forth, back = self.log_sums(x, y, extras)
        anchors = extras.anchors
        labels = order(x) if extras.labels is None else group_numbers(extras.labels)
        sums = torch.zeros_like(x).index_add(0, labels, x + y)[labels]  # [n, d], of all views of the class
        positives = 2 * torch.zeros_like(labels).index_add(0, labels, torch.ones_like(labels))[labels] - 1
        of_x, of_y = ((anchors(self.scaled(z)) * anchors(sums - z)).sum(dim=1) / anchors(positives) for z in (x, y))
        return extras.mean(forth - of_x + back - of_y) / 2

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Those of other classes."""
        return f"{2 * n - 1} candidates per anchor, those of its own class are its targets"


def joined(parts: list[Tensor]) -> Tensor:
    """log of the sum of the parts' exp, ``[n]``; -inf, with gradient 0, where all are."""
    together = torch.stack(parts)
    nothing = together.isneginf().all(dim=0)
    return together.masked_fill(nothing, 0).logsumexp(dim=0).masked_fill(nothing, -torch.inf)
