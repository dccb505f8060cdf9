"""Contrastive objectives of runs of consecutive sentences: predict what stands before and behind each."""

import math

import torch
from torch import Tensor, nn

from sentemb.geometry import CandidateMask, log_sum_exp
from sentemb.objectives.base import Extras, Objective, count, mean_of, order, positive
from sentemb.objectives.guide import GuideEmbeddings
from sentemb.registry import choose


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

    formula = "mean_i -sum_j q_ij log(exp s_ij / sum_k exp s_ik), q_ij = 1/2 on j = i - 1, i + 1"
    negatives_per_anchor = "n - 3 + (diagonal != 'out')"
    source = "Logeswaran & Lee 2018 (Quick-Thoughts); Wang & Isola 2020, app. B.3"
    contrastive = bounds_mutual_information = shares_loss = True
    needs = frozenset({"runs"})
    takes = frozenset({"guide"})

    def __init__(self, temperature: float = 0.05, score: str = "cosine", diagonal: str = "out") -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.similarity = choose("score", score, ("cosine", "dot"))
        self.normalise = score == "cosine"
        self.diagonal = choose("diagonal", diagonal, ("out", "zero", "in"))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Cross-entropy with the neighbours' shares."""
        positions = order(x) if extras.positions is None else extras.positions
        itself = order(x)[:, None]
        near = torch.stack([follower(positions, 1), follower(positions, -1)], dim=1)  # [n, 2], -1 for none
        never = None if self.diagonal == "in" else itself
        exempt_columns, guide = torch.cat([near, itself], dim=1), None
        if extras.guide is not None:  # no negative is what it finds nearer than both targets
            guide = extras.guide.scores(0, extras.guide.y, nearest_cosines(extras.guide, near))
        out = CandidateMask(exempt_columns=exempt_columns, itself=never, guide=guide)
        if (ids := extras.copied_ids) is not None:
            ids = ids[:, 0]  # a copy of the anchor or of one of its targets is not a negative of it
            kin = torch.cat([ids[:, None], torch.where(near >= 0, ids[near], -1)], dim=1)
            out = CandidateMask(kin, ids, exempt_columns, never, guide=guide)
        xs, near_rows = extras.anchors(x) / self.temperature, extras.anchors(near)
        sums = log_sum_exp(xs, y, extras.anchors(out))
        if self.diagonal == "zero":
            sums = torch.logaddexp(sums, torch.zeros_like(sums))
        targets = (near_rows >= 0).sum(dim=1)
        scores = torch.where(near_rows >= 0, torch.einsum("nd,nkd->nk", xs, y[near_rows]), 0).sum(dim=1)
        number = (near >= 0).any(dim=1).sum()
        return mean_of(sums - scores / targets.clamp_min(1), targets > 0, number)

    def chance_loss(self, n: int, hard: int = 0, runs: bool = False) -> float | None:
        """A score of 0 is small compared with others of 1 / temperature."""
        if self.diagonal != "zero":
            return super().chance_loss(n, hard, runs)
        return math.log(max(1, n - 1) + (math.exp(-1 / self.temperature) if self.normalise else 1))

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """All sentences of the run, or all others."""
        return n - (self.diagonal == "out")

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Two of the candidates are targets."""
        return f"{self.num_candidates(n) - 2} in-batch negatives per sentence, its two neighbours are its targets"


class CPC(Objective):
    """Pick the k-th next sentence by a bilinear score, a matrix W_k for each offset: s_ij = y_j . W_k x_i.

    Candidates are all y_j; in runs, where y_i is the anchor's own sentence, all but that one. The matrices begin as the
    identity.

    Args:
        offsets: how many next sentences are predicted, k = 1, 2, ...; more than one needs runs.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 3 and 4; its text experiment predicts 3.
    """

    formula = "mean_k mean_i -log(exp y_{i+k}.W_k x_i / sum_j exp y_j.W_k x_i)"
    negatives_per_anchor = "n - 1"
    source = "van den Oord et al. 2018 (CPC), eqs. 3, 4"
    takes = frozenset({"runs", "guide"})
    contrastive = bounds_mutual_information = shares_loss = True
    normalise = False

    def __init__(self, offsets: int = 1) -> None:
        super().__init__()
        self.offsets = count("offsets", offsets, most=100)
        self.needs = frozenset({"runs"}) if offsets > 1 else frozenset()
        self.maps: nn.Parameter | None = None  # [offsets, d, d]

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The matrices."""
        if self.maps is None:
            self.maps = nn.Parameter(torch.eye(dimension).repeat(self.offsets, 1, 1))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean of the offsets' InfoNCE, each over the sentences that have such a follower."""
        positions, ids, itself = extras.positions, extras.copied_ids, order(x)[:, None]
        if positions is None and self.offsets > 1:
            positions = order(x)
        losses = []
        for number, matrix in enumerate(self.maps if self.maps is not None else (), start=1):
            target, never = order(x), None
            if positions is not None:
                target, never = follower(positions, number), itself
            guide = None
            if extras.guide is not None:
                guide = extras.guide.scores(0, extras.guide.y, nearest_cosines(extras.guide, target[:, None]))
            out = CandidateMask(exempt_columns=target[:, None], itself=never, guide=guide)
            if ids is not None:
                other = ids[:, 1] if positions is None else ids[:, 0]
                kin = torch.stack([ids[:, 0], torch.where(target >= 0, other[target], -1)], dim=1)
                out = CandidateMask(kin, other, target[:, None], never, guide=guide)
            predicted, targets = extras.anchors(x) @ matrix.T, extras.anchors(target)
            sums = log_sum_exp(predicted, y, extras.anchors(out))
            losses.append(mean_of(sums - (predicted * y[targets]).sum(dim=1), targets >= 0, (target >= 0).sum()))
        return torch.stack(losses).mean()

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """All sentences; in runs all others."""
        return n - (runs or self.offsets > 1)


def nearest_cosines(guide: GuideEmbeddings, targets: Tensor) -> Tensor:
    """The guide's cosines of each x_i and the nearest of its targets, ``[n]``; inf where it has none.

    ``targets``: int64 ``[n, p]``, rows of y; -1 for none.
    """
    cosines = torch.einsum("nd,npd->np", guide.x, guide.y[targets])
    nearest = cosines.masked_fill(targets < 0, -torch.inf).amax(dim=1)
    return nearest.masked_fill(nearest.isneginf(), torch.inf)


def follower(positions: Tensor, offset: int) -> Tensor:
    """For each row the row whose position is ``offset`` further on, ``[n]``; -1 where there is none."""
    ordered, rows = positions.sort()
    wanted = positions + offset
    place = torch.searchsorted(ordered, wanted).clamp(max=len(rows) - 1)
    return torch.where(ordered[place] == wanted, rows[place], -1)
