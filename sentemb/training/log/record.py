"""The records of ``log.jsonl``: what each one holds, and how it is measured."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from sentemb.geometry import alignment, l2_normalize, mean_cosine, spread, uniformity, uniformity_optimum
from sentemb.objectives import Objective
from sentemb.pairs import Pairs
from sentemb.training.step import Update


@dataclass(frozen=True)
class BatchGeometry:
    """How the embeddings of an update's positive pairs lie on the sphere (Wang & Isola 2020, arXiv 2005.10242)."""

    alignment: float  # mean squared distance of positive pairs, 0 to 4
    uniformity: float  # nats, the mean of both sides'; 0: all embeddings are one point
    uniformity_optimum: float  # nats, the least possible in these dimensions
    uniformity_used: float  # uniformity / uniformity_optimum
    mean_cosine: float  # of all pairs of embeddings
    spread: float  # standard deviation of a coordinate, mean over them, times sqrt(d); 1: even, 0: one point

    @classmethod
    @torch.no_grad()
    def of(cls, update: Update) -> "BatchGeometry":
        """Measure the positive pairs of an update."""
        x, y = (l2_normalize(side) for side in update.positives)
        both = torch.cat([x, y])
        optimum = uniformity_optimum(x.shape[1])
        even = (uniformity(x) + uniformity(y)).item() / 2 if len(x) > 1 else 0.0
        return cls(
            alignment=alignment(x, y).item(),
            uniformity=even,
            uniformity_optimum=optimum,
            uniformity_used=even / optimum,
            mean_cosine=mean_cosine(both).item(),
            spread=spread(both).item(),
        )


@dataclass
class StepRecord:
    """One record of ``log.jsonl``. Fields that are None, False or empty are left out of the file.

    A skipped update's record has ``step``, ``loss`` (null), ``skipped``, ``batch``, ``warnings`` and held-out scores.
    """

    step: int  # updates done; 0: before the first one
    loss: float | None  # of the global batch; None: the update was skipped
    loss_reference: float | None = None  # of guessing, where the objective has such a loss
    geometry: BatchGeometry | None = None  # each of its fields stands in the record
    mutual_information: float | None = None  # nats, a lower bound: loss_reference - loss
    guide_masked: float | None = None  # share of the negatives that the guide has left out, 0 to 1
    batch: str = ""  # hex digest of the indices of the update's pairs, on all processes
    lr: float | None = None  # learning rate; not at step 0
    gradient_norm: float | None = None  # before clipping; not at step 0, nor after an overflow
    overflow: bool = False  # the loss scaler left the update out (fp16)
    skipped: bool = False  # the loss or the gradient was not finite (--on-nan skip)
    metrics: dict[str, float] = field(default_factory=dict)  # the objective's own; each stands in the record
    scores: dict[str, float] = field(default_factory=dict)  # held out, where the model was scored; each in the record
    warnings: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)  # attention, compile, precision, threads; at step 0
    pairs_seen: int | None = None  # since the beginning of the run
    pairs_per_second: float | None = None  # since the record before, without scoring and saving
    seconds: float | None = None  # since the beginning of the run, those of earlier sessions included
    peak_memory_mib: float | None = None  # of the main process, on its accelerator if it trains there

    def to_json(self) -> dict[str, Any]:
        """The record as the file has it: one flat object."""
        always = {"step", "loss"} | (set() if self.skipped else {"loss_reference"})
        flat: dict[str, Any] = {}
        for name, value in vars(self).items():
            empty = value is None or value is False or value == "" or value == []
            if isinstance(value, BatchGeometry):
                flat |= asdict(value)
            elif isinstance(value, dict):
                flat |= value
            elif name in always or not empty:
                flat[name] = value
        return flat


def describe_update(update: Update, objective: Objective, pairs: Pairs) -> dict[str, Any]:
    """The fields of a :class:`StepRecord` that follow from an update: loss, reference, geometry and metrics.

    With a guide each anchor has as many candidates as the guide leaves: there is no one loss of guessing.
    """
    n = len(update.objective_inputs[0]) if update.objective_inputs else 1
    guide = update.objective_inputs[2].guide if update.objective_inputs else None
    reference = None if guide else objective.chance_loss(n, pairs.num_hard_negatives, pairs.are_contiguous)
    bounds = objective.bounds_mutual_information and not pairs.num_hard_negatives
    return {
        "loss": update.loss,
        "loss_reference": reference,
        "geometry": BatchGeometry.of(update),
        "mutual_information": reference - update.loss if reference is not None and bounds else None,
        "guide_masked": guide.counts.share if guide else None,
        "metrics": objective.log_metrics(*update.positives),
    }
