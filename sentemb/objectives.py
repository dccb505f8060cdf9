"""Training objectives: modules from two views of one batch to a scalar loss.

``x`` and ``y`` are ``[n, d]``, already gathered from every process; row i of ``x`` and row i of ``y`` are a positive
pair. Rows need not have unit length. What else an objective may take is in Extras. To add one: a class with a ``loss``
and a line in OBJECTIVES.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sentemb.geometry import alignment, uniformity, unit
from sentemb.registry import choose


@dataclass(frozen=True)
class Extras:
    """What an objective may take beside the two views: all of it optional, all of it of the global batch."""

    ids: Tensor | None = None  # int64 [n, 2 + k], equal where sentences are the same: of x, of y, of each negative
    negatives: Tensor | None = None  # [n, k, d] hard negatives, k for each anchor
    positions: Tensor | None = None  # int64 [n] of runs, one apart where sentences are neighbours; None: rows in order


class Objective(nn.Module):
    """Base of all objectives: brings both views to the sphere in float32 or wider, whatever the autocast."""

    contrastive = False  # whether the loss is a cross-entropy over candidates, with log(candidates) as its reference
    takes_negatives = False  # whether hard negatives are candidates of its own
    needs_runs = False  # whether a batch must be a run of sentences, x_i and y_i of the same one
    normalise = True  # whether rows get unit length first

    def forward(self, x: Tensor, y: Tensor, extras: Extras | None = None) -> Tensor:
        """Scalar loss of partners ``x``, ``y`` ``[n, d]``; finite, with finite gradient, for any finite input."""
        extras = extras or Extras()
        with torch.autocast(x.device.type, enabled=False):
            if extras.negatives is not None:
                flat = self._rows(extras.negatives.flatten(0, 1))
                extras = replace(extras, negatives=flat.view(*extras.negatives.shape))
            return self.loss(self._rows(x), self._rows(y), extras)

    def _rows(self, x: Tensor) -> Tensor:
        if self.normalise:
            return unit(x)
        return x if x.dtype == torch.float64 else x.float()

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """The paper's formula, of rows of unit length (``normalise``)."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def candidates(self, n: int, hard: int = 0) -> int:
        """Rows an anchor picks its partner from, in a global batch of ``n`` pairs with ``hard`` negatives each."""
        return n * (1 + hard * self.takes_negatives)

    def negatives(self, n: int, hard: int = 0) -> str:
        """What each anchor is contrasted with in a global batch of ``n`` pairs, for the first log line."""
        return f"{self.candidates(n, hard) - 1} in-batch negatives per anchor (copies of a sentence are none)"


class InfoNCE(Objective):
    """Pick each row's partner among all n candidates: mean_i -log(exp(x_i.y_i / tau) / sum_j exp(x_i.y_j / tau)).

    Candidates are the other side's n rows and, where there are hard negatives, the hard negatives of all n pairs (of
    SimCSE's supervised loss and of DPR). A candidate that is a copy of the anchor or of its partner is left out.

    Args:
        temperature: tau, > 0.
        symmetric: the mean of both directions (x picks among y, y picks among x, without hard negatives) instead of
            the first.
        score: cosine, or dot (the plain inner product; DPR's, with temperature 1).
        hard_weight: log-weight of an anchor's own hard negatives among its candidates (SimCSE's alpha = exp of it).

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4, with cosine over temperature as the score; symmetric:
    Radford et al. 2021, arXiv 2103.00020, figure 3; hard negatives: Gao et al. 2021, arXiv 2104.08821, eq. 5 and
    table 4; dot, asymmetric, negatives shared by the batch: Karpukhin et al. 2020, arXiv 2004.04906, eq. 2.
    """

    contrastive = True
    takes_negatives = True

    def __init__(
        self, temperature: float = 0.05, symmetric: bool = False, score: str = "cosine", hard_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.temperature = _positive("temperature", temperature)
        self.symmetric = symmetric
        self.normalise = choose("score", score, ("cosine", "dot")) == "cosine"
        if not abs(hard_weight) <= 1e4:
            raise ValueError(f"hard_weight must be a number between -1e4 and 1e4, got {hard_weight}")
        self.hard_weight = hard_weight

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """InfoNCE of rows."""
        ids, hard = extras.ids, extras.negatives
        partner = torch.arange(len(x), device=x.device)
        scores = x @ y.T / self.temperature  # [n, n], partners on the diagonal
        if ids is not None:
            scores = scores.masked_fill(copies(ids), -torch.inf)
        forth = scores
        if hard is not None and hard.shape[1]:
            forth = torch.cat([scores, self._hard_scores(x, hard, ids)], dim=1)  # [n, n + n * k]
        loss = cross_entropy(forth, partner)
        if not self.symmetric:
            return loss
        back = y @ x.T / self.temperature
        if ids is not None:
            back = back.masked_fill(copies(ids[:, [1, 0]]), -torch.inf)
        return (loss + cross_entropy(back, partner)) / 2

    def _hard_scores(self, x: Tensor, hard: Tensor, ids: Tensor | None) -> Tensor:
        """Scores of every anchor with every hard negative of the batch, ``[n, n * k]``."""
        n, k, _ = hard.shape
        scores = x @ hard.flatten(0, 1).T / self.temperature
        if self.hard_weight:
            own = torch.eye(n, dtype=x.dtype, device=x.device).repeat_interleave(k, dim=1)
            scores = scores + self.hard_weight * own
        if ids is None:
            return scores
        theirs = ids[:, 2:].flatten()
        return scores.masked_fill((theirs == ids[:, :1]) | (theirs == ids[:, 1:2]), -torch.inf)


class JointInfoNCE(Objective):
    """Pick both neighbours of each sentence out of a run: mean_i CE(softmax_j(x_i.y_j / tau), 1/2 on j = i - 1, i + 1).

    A sentence with one neighbour in the batch (at the ends of a run or of a document) has that one as its target; one
    without any is a candidate only. With two encoders x_i = f(s_i) and y_i = g(s_i), with one they are the same.

    Args:
        temperature: tau, > 0.
        score: cosine, or dot (the papers' own: unnormalised, with temperature 1).
        diagonal: what x_i.y_i is: out (no candidate, the default: with one encoder it is the largest of all), zero
            (its score is 0, as in the authors' code of Quick-Thoughts), in (a candidate like others, Wang & Isola).

    Source: Logeswaran & Lee 2018, arXiv 1803.02893; Wang & Isola 2020, arXiv 2005.10242, appendix B.3.
    """

    contrastive = True
    needs_runs = True

    def __init__(self, temperature: float = 0.05, score: str = "cosine", diagonal: str = "out") -> None:
        super().__init__()
        self.temperature = _positive("temperature", temperature)
        self.normalise = choose("score", score, ("cosine", "dot")) == "cosine"
        self.diagonal = choose("diagonal", diagonal, ("out", "zero", "in"))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Cross-entropy with the neighbours' shares."""
        positions = torch.arange(len(x), device=x.device) if extras.positions is None else extras.positions
        scores = x @ y.T / self.temperature  # [n, n]
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        near = (positions[:, None] - positions).abs() == 1  # [n, n]
        if self.diagonal == "zero":
            scores = scores.masked_fill(itself, 0)
        out = itself if self.diagonal == "out" else torch.zeros_like(itself)
        if extras.ids is not None:  # a copy of the anchor or of one of its targets is no negative of it
            same = extras.ids[:, :1] == extras.ids[:, 0]
            out = out | ((same | (near.float() @ same.float() > 0)) & ~itself & ~near)
        logs = scores.masked_fill(out, -torch.inf).log_softmax(dim=1)
        targets = near.sum(dim=1)
        chosen = logs.masked_fill(~near, 0).sum(dim=1) / targets.clamp_min(1)
        return -chosen.sum() / (targets > 0).sum().clamp_min(1)

    def candidates(self, n: int, hard: int = 0) -> int:
        """All sentences of the run, or all others."""
        return n - (self.diagonal == "out")

    def negatives(self, n: int, hard: int = 0) -> str:
        """Two of the candidates are targets."""
        return f"{self.candidates(n) - 2} in-batch negatives per sentence, its two neighbours are its targets"


class AlignUniform(Objective):
    """Pull partners together, spread all rows over the sphere: align(alpha) + weight * mean of both sides' uniform(t).

    Args:
        alpha: exponent of the distance of partners, > 0.
        t: sharpness of the Gaussian kernel, > 0.
        weight: of the uniformity term, >= 0.

    Source: Wang & Isola 2020, arXiv 2005.10242, figure 6 (the uniformity of the two sides is averaged).
    """

    def __init__(self, alpha: float = 2.0, t: float = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.t = _positive("alpha", alpha), _positive("t", t)
        self.weight = _weight("weight", weight)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Alignment plus weighted uniformity of unit rows."""
        return alignment(x, y, self.alpha) + self.weight * _both_sides_uniformity(x, y, self.t, extras.ids)

    def negatives(self, n: int, hard: int = 0) -> str:
        """As :meth:`Objective.negatives`: every pair of a side repels."""
        return f"uniformity over {n * (n - 1) // 2} pairs a side"


class Mix(Objective):
    """The paper's sweep: contrastive * InfoNCE(tau) + align * alignment(alpha) + uniform * uniformity(t).

    Args:
        contrastive, align, uniform: weights, >= 0, not all zero.
        temperature, alpha, t: of the three terms, > 0.

    Source: Wang & Isola 2020, arXiv 2005.10242, section 5 and appendix B (uniformity of the two sides averaged).
    """

    def __init__(
        self,
        contrastive: float = 1.0,
        align: float = 0.0,
        uniform: float = 0.0,
        temperature: float = 0.05,
        alpha: float = 2.0,
        t: float = 2.0,
    ) -> None:
        super().__init__()
        self.weights = _weight("contrastive", contrastive), _weight("align", align), _weight("uniform", uniform)
        if not any(self.weights):
            raise ValueError("contrastive, align and uniform are all 0; give at least one of them a weight")
        self.alpha, self.t = _positive("alpha", alpha), _positive("t", t)
        self.infonce = InfoNCE(temperature)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Weighted sum of the terms that have a weight."""
        contrastive, align, uniform = self.weights
        total = x.new_zeros(())
        if contrastive:
            total = total + contrastive * self.infonce.loss(x, y, extras)
        if align:
            total = total + align * alignment(x, y, self.alpha)
        if uniform:
            total = total + uniform * _both_sides_uniformity(x, y, self.t, extras.ids)
        return total


def copies(ids: Tensor) -> Tensor:
    """Which candidates are no negatives of an anchor: copies of it or of its partner, its partner itself left out.

    Args:
        ids: int64 ``[n, 2 or more]``, equal where sentences are the same: of the anchors, of the candidates, ...

    Returns:
        bool ``[n, n]``, False on the diagonal.
    """
    anchors, candidates = ids[:, :1], ids[:, 1]
    same = (anchors == candidates) | (candidates[:, None] == candidates)
    return same.fill_diagonal_(False)


def _both_sides_uniformity(x: Tensor, y: Tensor, t: float, ids: Tensor | None) -> Tensor:
    first, second = (ids[:, 0], ids[:, 1]) if ids is not None else (None, None)
    return (_spread_out(x, t, first) + _spread_out(y, t, second)) / 2


def _spread_out(x: Tensor, t: float, ids: Tensor | None) -> Tensor:
    """Uniformity of rows; where all are copies of one sentence, a zero that still has a gradient."""
    if len(x) < 2 or (ids is not None and bool((ids == ids[0]).all())):
        return 0 * x.sum()
    return uniformity(x, t, ids=ids)


def _positive(name: str, value: float) -> float:
    if not 1e-8 <= value <= 1e8:  # beyond, float32 overflows
        raise ValueError(f"{name} must be a positive number (1e-8 to 1e8), got {value}")
    return value


def _weight(name: str, value: float) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be 0 or a positive number, got {value}")
    return value


OBJECTIVES = {"infonce": InfoNCE, "joint": JointInfoNCE, "align_uniform": AlignUniform, "mix": Mix}
