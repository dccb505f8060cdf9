"""Alignment and uniformity as a loss, alone and with a contrastive term (Wang & Isola 2020)."""

from torch import Tensor

from sentemb.geometry import alignment, reads_are_free, uniformity, uniformity_of_rows
from sentemb.objectives.base import Extras, Objective, positive, weight
from sentemb.objectives.contrastive import InfoNCE
from sentemb.registry import choose

SIDES = {"mean": 0.5, "sum": 1.0}  # what the uniformity of both sides is added with: one encoder, two encoders


class AlignUniform(Objective):
    """Pull positives together, spread all rows over the sphere: align * alignment(alpha) + weight * uniformity(t).

    Args:
        alpha: exponent of the distance of positive pairs, > 0.
        t: sharpness of the Gaussian kernel, > 0.
        weight: of the uniformity term, >= 0; 0 is alignment alone.
        align: weight of the alignment term, >= 0; 0 is uniformity alone.
        sides: uniformity is the mean of both sides' (figure 6, one encoder) or their sum (appendix B.3, two encoders).

    Source: Wang & Isola 2020, arXiv 2005.10242, figure 6 and appendix B.3.
    """

    formula = (
        "align * mean_i |u_i - v_i|^alpha + weight * sides(log mean_{i<j} exp(-t |u_i - u_j|^2), the same of v), "
        "sides: mean or sum"
    )
    negatives_per_anchor = "n - 1"
    interchangeable_views = "yes"
    source = "Wang & Isola 2020, fig. 6, app. B.3"
    shares_loss = True

    def __init__(
        self, alpha: float = 2.0, t: float = 2.0, weight: float = 1.0, align: float = 1.0, sides: str = "mean"
    ) -> None:
        super().__init__()
        self.alpha, self.t, self.sides = positive("alpha", alpha), positive("t", t), choose("sides", sides, SIDES)
        self.weight, self.align = _weights(weight=weight, align=align)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """The terms that have a weight."""
        total = x.new_zeros(())
        if self.align:
            total = total + self.align * alignment(x, y, self.alpha)
        if self.weight:
            total = total + self.weight * both_sides_uniformity(x, y, self.t, extras, self.sides)
        return extras.part_of(total)

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """As :meth:`Objective.describe_negatives`: every pair of a side repels."""
        return f"uniformity over {n * (n - 1) // 2} pairs a side, the {self.sides} of both sides"


class Mix(Objective):
    """The paper's sweep: contrastive * InfoNCE(tau) + align * alignment(alpha) + uniform * uniformity(t).

    Args:
        contrastive, align, uniform: weights, >= 0, not all zero.
        temperature, alpha, t: of the three terms, > 0.
        sides: see :class:`AlignUniform`.

    Source: Wang & Isola 2020, arXiv 2005.10242, section 5 and appendix B.
    """

    formula = "contrastive * infonce(temperature) + align * alignment(alpha) + uniform * sides(uniformity(t))"
    negatives_per_anchor = "n - 1"
    source = "Wang & Isola 2020, sec. 5, app. B"
    takes = frozenset({"guide"})
    shares_loss = True

    def __init__(
        self,
        contrastive: float = 1.0,
        align: float = 0.0,
        uniform: float = 0.0,
        temperature: float = 0.05,
        alpha: float = 2.0,
        t: float = 2.0,
        sides: str = "mean",
    ) -> None:
        super().__init__()
        self.weights = _weights(contrastive=contrastive, align=align, uniform=uniform)
        self.alpha, self.t, self.sides = positive("alpha", alpha), positive("t", t), choose("sides", sides, SIDES)
        self.infonce = InfoNCE(temperature)
        self.takes = frozenset({"guide"} if contrastive else ())

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Weighted sum of the terms that have a weight."""
        contrastive, align, uniform = self.weights
        total = x.new_zeros(())
        if contrastive:
            total = total + contrastive * self.infonce.loss(x, y, extras)
        if align:
            total = total + extras.part_of(align * alignment(x, y, self.alpha))
        if uniform:
            spread = both_sides_uniformity(x, y, self.t, extras, self.sides)
            total = total + extras.part_of(uniform * spread)
        return total

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of the terms that have a weight."""
        contrastive, _, uniform = self.weights
        parts = [super().describe_negatives(n, hard, runs)] if contrastive else []
        parts += [f"uniformity over {n * (n - 1) // 2} pairs a side, the {self.sides} of both sides"] if uniform else []
        return " and ".join(parts) or "no negatives"


def both_sides_uniformity(x: Tensor, y: Tensor, t: float, extras: Extras, sides: str) -> Tensor:
    """Mean or sum of the uniformity of unit rows ``x`` and that of ``y``; copies of a sentence do not repel.

    The same number on all processes, where each computes the pairs of its rows.
    """
    return SIDES[sides] * (_spread_out(x, t, extras, 0) + _spread_out(y, t, extras, 1))


def _spread_out(x: Tensor, t: float, extras: Extras, side: int) -> Tensor:
    """Uniformity of rows; where all are copies of one sentence, a zero that still has a gradient."""
    ids = None if extras.ids is None else extras.ids[:, side]
    if len(x) < 2 or (ids is not None and reads_are_free(ids) and bool((ids == ids[0]).all())):
        return 0 * x.sum()
    if extras.rows is None:
        return uniformity(x, t, ids=ids)
    return uniformity_of_rows(x, extras.rows.rows, extras.rows.joined, t, ids=ids)


def _weights(**weights: float) -> tuple[float, ...]:
    if not any(weights.values()):
        raise ValueError(f"{', '.join(weights)} are all 0; give at least one of them a weight")
    return tuple(weight(name, value) for name, value in weights.items())
