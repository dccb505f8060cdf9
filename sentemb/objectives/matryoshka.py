"""Matryoshka: an objective of prefixes of the embedding, too, so that the trained embeddings can be cut."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sentemb.errors import InputError
from sentemb.geometry import alignment, l2_normalize, uniformity
from sentemb.objectives.base import Extras, Objective, count, positive
from sentemb.objectives.custom import as_objective


class Matryoshka(Objective):
    """The weighted mean of an objective's losses on prefixes of the embedding and on the embedding itself.

    sum_m c_m loss(x[:, :m], y[:, :m]) / sum_m c_m, over the prefixes and all d dimensions. Each prefix has the
    objective to itself: it is brought to unit length as the objective does that, and what the objective learns (a
    temperature, a predictor, a classifier, a map to the teacher) or remembers (a queue, a bank) is there once for each
    prefix, in the prefix's dimensions. So each term is the loss that an encoder of m dimensions would have.

    Hard negatives and the momentum encoder's embeddings are cut as the views are. A guide's embeddings are not. A
    teacher's are cut only where they are compared with the model's coordinate by coordinate (``anchor``, ``distill``
    without a map): then the full embedding already decides what each coordinate is to be.

    Args:
        objective: an objective (or module, or function of two views) that has learned nothing yet; copied for each
            prefix.
        prefixes: lengths of the prefixes, each with its weight c_m, > 0, or lengths alone, which have weight 1. The
            full dimension may be among them; otherwise its weight is 1.

    Raises:
        InputError: no length, one twice, one below 1, a weight that is not positive, or an objective of this kind.

    Source: Kusupati et al. 2022 (Matryoshka Representation Learning), arXiv 2205.13147, eq. 1, divided by the weights.
    """

    normalise = False  # (each prefix is as the objective has it)
    shares_loss = True  # (as the objective does, of each prefix)

    def __init__(
        self,
        objective: nn.Module | Callable[[Tensor, Tensor], Tensor],
        prefixes: Mapping[int, float] | Iterable[int],
    ) -> None:
        super().__init__()
        self.full = full = as_objective(objective)
        if isinstance(full, Matryoshka):
            raise InputError("the objective is applied to prefixes already; name all of them at once")
        self.weights = _checked(prefixes)
        self.parts = nn.ModuleDict({str(size): copy.deepcopy(full) for size in self.weights})
        self.dimension = 0  # of the embedding; 0: not known yet
        self.cuts_teacher = False
        self.part_losses: dict[int, Tensor] = {}  # of the last batch, by length
        self.needs, self.takes = full.needs, full.takes
        self.contrastive, self.bounds_mutual_information = full.contrastive, full.bounds_mutual_information
        self.needs_sentence_ids, self.teacher_is_start = full.needs_sentence_ids, full.teacher_is_start
        self.remembers = full.remembers
        self.requires_shared_encoder, self.similarity = full.requires_shared_encoder, full.similarity

    def terms(self) -> list[Objective]:
        """Of the objective."""
        return self.full.terms()

    def refuse_too_short(self, dimension: int) -> None:
        """InputError for a prefix longer than the embedding, and where none is shorter."""
        sizes = list(self.weights)
        if sizes[-1] > dimension:
            raise InputError(
                f"matryoshka {','.join(map(str, sizes))} names a prefix of {sizes[-1]} dimensions, and the model's "
                f"embeddings have {dimension}; name shorter ones"
            )
        if sizes[0] == dimension:
            raise InputError(
                f"matryoshka {sizes[0]} is the whole embedding, which is trained anyway; name prefixes of fewer than "
                f"{dimension} dimensions"
            )

    def refuse_dimensions(self, dimension: int, teacher: int) -> None:
        """As the objective does; and InputError where the teacher's embeddings are to be cut for a part of it only."""
        self.full.refuse_dimensions(dimension, teacher)
        taught = [term for term in self.terms() if "teacher" in term.needs | term.takes]
        in_its_space = [term for term in taught if term.is_in_space_of_teacher(dimension, teacher)]
        if in_its_space and len(in_its_space) < len(taught):
            raise InputError(
                "matryoshka cuts the teacher's embeddings for objectives that compare coordinates with it (distill "
                "without a map) and not for others, and this sum has both; leave one of them out, or choose map=linear"
            )

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """Of each prefix, in its dimensions: a bank or queue takes memory for all lengths together."""
        if not self.dimension:
            self.refuse_too_short(dimension)
            if self.teacher_dimension:
                self.refuse_dimensions(dimension, self.teacher_dimension)
            self.dimension = dimension
            self.weights.setdefault(dimension, 1.0)
            if str(dimension) in self.parts:
                del self.parts[str(dimension)]
        taught = [term for term in self.terms() if "teacher" in term.needs | term.takes]
        self.cuts_teacher = any(term.is_in_space_of_teacher(dimension, self.teacher_dimension) for term in taught)
        for size, part in self._applied():
            part.teacher_dimension = size if self.cuts_teacher else self.teacher_dimension
            part.guide_dimension = self.guide_dimension
            part.prepare(size, sentences)

    def momentum(self, done: float) -> float:
        """Of the objective."""
        return self.full.momentum(done)

    def to_teacher(self, x: Tensor) -> Tensor | None:
        """Of the full embedding."""
        return self.full.to_teacher(x)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """The weighted mean over the prefixes and the full embedding."""
        losses = {size: part(*self._cut(size, x, y, extras)) for size, part in self._applied()}
        totals = extras.total(torch.stack([loss.detach() for loss in losses.values()]))
        self.part_losses = dict(zip(losses, totals, strict=True))
        weighted = torch.stack([self.weights[size] * loss for size, loss in losses.items()])
        return weighted.sum() / sum(self.weights.values())

    def update_state(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Of each prefix."""
        for size, part in self._applied():
            part.update(*self._cut(size, x, y, extras))

    @torch.no_grad()
    def log_metrics(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """The objective's own; and ``loss_64d``, ``alignment_64d``, ``uniformity_64d`` and its own of each prefix."""
        metrics = self.full.log_metrics(x, y)
        metrics |= {f"loss_{size}d": loss.item() for size, loss in self.part_losses.items()}
        for size, part in self._applied():
            if size == self.dimension:
                continue
            a, b = l2_normalize(x[:, :size]), l2_normalize(y[:, :size])
            even = (uniformity(a) + uniformity(b)).item() / 2 if len(a) > 1 else 0.0
            of_prefix = {"alignment": alignment(a, b).item(), "uniformity": even}
            of_prefix |= part.log_metrics(x[:, :size], y[:, :size])
            metrics |= {f"{name}_{size}d": value for name, value in of_prefix.items()}
        return metrics

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """Of the objective."""
        return self.full.num_candidates(n, hard, runs)

    def chance_loss(self, n: int, hard: int = 0, runs: bool = False) -> float | None:
        """Of the objective: embeddings that are all alike are so in each prefix."""
        return self.full.chance_loss(n, hard, runs)

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of the objective, and which prefixes it is applied to."""
        sizes = ", ".join(str(size) for size in self.weights)
        return f"{self.full.describe_negatives(n, hard, runs)}, also of prefixes (matryoshka {sizes})"

    def _applied(self) -> Iterator[tuple[int, Objective]]:
        """Each length with its objective, the full embedding last."""
        for size, part in self.parts.items():
            assert isinstance(part, Objective)
            yield int(size), part
        yield self.dimension, self.full

    def _cut(self, size: int, x: Tensor, y: Tensor, extras: Extras) -> tuple[Tensor, Tensor, Extras]:
        """The views and what comes with them, of the first ``size`` dimensions."""
        negatives, targets, teacher = extras.negatives, extras.targets, extras.teacher
        if negatives is not None:
            negatives = negatives[..., :size].contiguous()
        if targets is not None:
            targets = _both_cut(targets, size)
        if teacher is not None and self.cuts_teacher:
            teacher = _both_cut(teacher, size)
        return *_both_cut((x, y), size), replace(extras, negatives=negatives, targets=targets, teacher=teacher)


def _both_cut(sides: tuple[Tensor, Tensor], size: int) -> tuple[Tensor, Tensor]:
    x, y = sides
    return x[:, :size].contiguous(), y[:, :size].contiguous()


def _checked(prefixes: Mapping[int, float] | Iterable[int]) -> dict[int, float]:
    """Weights by length, the shortest first."""
    pairs = list(prefixes.items()) if isinstance(prefixes, Mapping) else [(size, 1.0) for size in prefixes]
    sizes = [size for size, _ in pairs]
    if not sizes:
        raise InputError("matryoshka names no prefix; give the length of one at least")
    if repeated := [size for size in sizes if sizes.count(size) > 1]:
        raise InputError(f"matryoshka names a prefix of {repeated[0]} dimensions twice; leave one of them out")
    try:
        return {
            count("the length of a prefix", size): positive("the weight of a prefix", float(weight))
            for size, weight in sorted(pairs)
        }
    except ValueError as error:
        raise InputError(str(error)) from error
