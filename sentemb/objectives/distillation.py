"""Learning from a teacher: where it puts each sentence, or how alike it finds the sentences of a batch.

The teacher's embeddings come with the batch (``Extras.teacher``); they are constants.
"""

import torch
from torch import Tensor, nn

from sentemb.errors import InputError
from sentemb.geometry import CandidateMask, expected_scores, l2_normalize, log_sum_exp, log_sum_exp_for_mean
from sentemb.objectives.base import Extras, Objective, order, positive
from sentemb.registry import choose


class Distill(Objective):
    """Put each sentence where the teacher puts it, if need be seen through a linear map that is not part of the model.

    To have the teacher's dimension in the saved model, give the encoder that many (``out=``): then no map is needed.
    Each view is a sentence to itself; copies count as often as they come. Where there is no teacher (outside the
    training loop) the views as they are stand in.

    Args:
        loss: cosine (one minus it) or mse (the mean over the teacher's dimensions of squared differences).
        map: linear (a matrix and a bias, trained along), none, or auto: linear where the dimensions differ.

    Source: mse of sentence embeddings, Reimers & Gurevych 2020, arXiv 2004.09813; a learned map to the
    teacher's dimension, Romero et al. 2015 (FitNets), arXiv 1412.6550, section 2.2.
    """

    formula = (
        "mean over 2n views of 1 - cos(W u + b, t) (loss=cosine) or |W u + b - t|^2 / D (loss=mse), u of any length, "
        "t the teacher's in D dimensions, W and b learned (map=none: u itself)"
    )
    interchangeable_views = "yes"
    source = "Reimers & Gurevych 2020; Romero et al. 2015 (FitNets), sec. 2.2"
    needs = frozenset({"teacher"})
    takes = frozenset({"runs"})
    normalise = False

    def __init__(self, loss: str = "cosine", map: str = "auto") -> None:
        super().__init__()
        self.distance = choose("loss", loss, ("cosine", "mse"))
        self.map = choose("map", map, ("auto", "linear", "none"))
        self.linear: nn.Linear | None = None

    def is_in_space_of_teacher(self, dimension: int, teacher: int) -> bool:
        """Where no map is learned."""
        return self.map == "none" or (self.map == "auto" and dimension == teacher)

    def refuse_dimensions(self, dimension: int, teacher: int) -> None:
        """Without a map both must have as many."""
        if self.map == "none" and dimension != teacher:
            raise InputError(
                f"objective distill:map=none compares embeddings as they are, and the model's have {dimension} "
                f"dimensions and the teacher's {teacher}; give the encoder out={teacher}, or choose map=linear"
            )

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The map, where one is wanted."""
        teacher = self.teacher_dimension or dimension
        self.refuse_dimensions(dimension, teacher)
        if self.linear is None and not self.is_in_space_of_teacher(dimension, teacher):
            self.linear = nn.Linear(dimension, teacher)

    def to_teacher(self, x: Tensor) -> Tensor:
        """Rows ``[n, d]`` through the map, where there is one: ``[n, D]``."""
        return x if self.linear is None else self.linear(x)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean distance of both views from the teacher's."""
        mapped_x, mapped_y = self.to_teacher(x), self.to_teacher(y)
        teacher_x, teacher_y = extras.teacher or (mapped_x.detach(), mapped_y.detach())
        return (self._distances(mapped_x, teacher_x).mean() + self._distances(mapped_y, teacher_y).mean()) / 2

    def _distances(self, mapped: Tensor, teacher: Tensor) -> Tensor:
        """Of each row from the teacher's, ``[n]``."""
        if self.distance == "mse":
            return (mapped - teacher).square().mean(dim=1)
        return 1 - (l2_normalize(mapped) * l2_normalize(teacher)).sum(dim=1)

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """None."""
        return "no negatives, the teacher's embeddings are the targets"


class Anchor(Distill):
    """Stay near the start: put each sentence where the model that training begins from puts it.

    It is :class:`Distill` without a map, and its teacher is the model of ``--init``. As a part of a sum,
    ``infonce + anchor*0.1``, it limits how far training moves the model from what it was.

    Args:
        loss: cosine (one minus it) or mse (the mean over dimensions of squared differences).

    Source: the distance of a network's features from those that it had before, Jung et al. 2016, arXiv 1607.00122.
    """

    formula = "mean over 2n views of 1 - cos(u, t) (loss=cosine) or |u - t|^2 / d (loss=mse), t the start's embedding"
    source = "Jung et al. 2016 (Less-forgetting Learning)"
    teacher_is_start = True

    def __init__(self, loss: str = "cosine") -> None:
        super().__init__(loss, map="none")

    def refuse_dimensions(self, dimension: int, teacher: int) -> None:
        """Both come from one model, unless a head stands before the objective."""
        if dimension != teacher:
            raise InputError(
                f"objective anchor compares the model's embeddings with the start's, which have {teacher} dimensions, "
                f"and it sees {dimension}; leave the head out"
            )

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """None."""
        return "no negatives, the start's embeddings are the targets"


class DistillSimilarity(Objective):
    """Spread each sentence's similarity over the other side's sentences of the batch as the teacher does.

    KL divergence of the student's softmax from the teacher's, each sentence of a side among all of the other side,
    both ways. Student and teacher may have any dimensions. A candidate that is a copy of the anchor or of its positive
    is left out. Where there is no teacher (outside the training loop) the views as they are stand in.

    Args:
        temperature: of the student's cosines, > 0.
        teacher_temperature: of the teacher's, > 0.

    Source: Fang et al. 2021 (SEED), arXiv 2101.04731, with the batch in place of a queue; the softened
    distributions of Hinton et al. 2015, arXiv 1503.02531, section 2.
    """

    formula = (
        "mean over both sides and i of sum_j p_ij log(p_ij / q_ij), q_ij = exp s_ij / sum_k exp s_ik, p the same of "
        "the teacher's embeddings over teacher_temperature"
    )
    negatives_per_anchor = "n - 1"
    interchangeable_views = "yes"
    source = "Fang et al. 2021 (SEED); Hinton et al. 2015, sec. 2"
    needs = frozenset({"teacher"})
    shares_loss = True

    def __init__(self, temperature: float = 0.05, teacher_temperature: float = 0.05) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.teacher_temperature = positive("teacher_temperature", teacher_temperature)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean over anchors and directions."""
        teacher_x, teacher_y = extras.teacher or (x.detach(), y.detach())
        teacher_x, teacher_y = l2_normalize(teacher_x), l2_normalize(teacher_y)
        anchors = extras.anchors
        forth = self._divergences((anchors(x), y), (anchors(teacher_x), teacher_y), self._mask(x, extras, 1))
        back = self._divergences((anchors(y), x), (anchors(teacher_y), teacher_x), self._mask(x, extras, 0))
        return (extras.mean(forth) + extras.mean(back)) / 2

    def _divergences(
        self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: CandidateMask | None
    ) -> Tensor:
        """Of each anchor; each argument has anchors and candidates.

        sum_j p_j log(p_j / q_j) = sum_j p_j t_j - log sum_j exp t_j - sum_j p_j s_j + log sum_j exp s_j, of the
        teacher's scores t and the student's s.
        """
        (a, b), (target_a, target_b) = student, teacher
        a, target_a = a / self.temperature, target_a / self.teacher_temperature
        with torch.no_grad():
            negative_entropy = expected_scores(target_a, target_b, target_a, target_b, mask)
            negative_entropy = negative_entropy - log_sum_exp(target_a, target_b, mask)
        return negative_entropy - expected_scores(a, b, target_a, target_b, mask) + log_sum_exp_for_mean(a, b, mask)

    @staticmethod
    def _mask(x: Tensor, extras: Extras, candidates: int) -> CandidateMask | None:
        """Copies of an anchor or of its positive, among the rows of a side (0: x, 1: y)."""
        ids = extras.copied_ids
        if ids is None:
            return None
        return extras.anchors(CandidateMask(ids[:, :2], ids[:, candidates], order(x)[:, None]))

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """No target is right or wrong."""
        return f"{n} candidates per anchor, the teacher's similarities are the targets (copies of a sentence are none)"
