"""Several objectives as one: the weighted sum of their losses, ``A + B*0.5``."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sentemb.errors import InputError
from sentemb.objectives.base import Extras, Objective, positive
from sentemb.objectives.custom import FunctionObjective, as_objective, name_of
from sentemb.registry import build, terms_of_sum

PROGRESS = (0.0, 0.25, 0.5, 0.75, 1.0)  # shares of a training at which momenta are compared


class WeightedSum(Objective):
    """sum_k weight_k * loss_k of several objectives, which all see the same batch.

    Each gets of the batch what it needs or takes, learns and remembers as it does alone, and stands in the log with its
    loss (``loss_NAME``). One momentum encoder serves all that need one.

    Args:
        parts: objectives (or modules, or functions of two views) and their weights, > 0.
        names: of the parts, for the log and errors; None: of their classes.

    Raises:
        InputError: no part, a weight that is not positive, or parts that cannot be added: some need runs of sentences
            and others pairs, some score by cosine and others by inner product, or two move the momentum encoder
            at different rates.
    """

    normalise = False  # (each part does as it does alone)
    shares_loss = True  # (likewise)

    def __init__(
        self,
        parts: Sequence[tuple[nn.Module | Callable[[Tensor, Tensor], Tensor], float]],
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not parts:
            raise InputError("a sum of objectives has no part; give it one at least")
        objectives = [as_objective(part) for part, _ in parts]
        try:
            self.weights = [positive("the weight of an objective", float(weight)) for _, weight in parts]
        except ValueError as error:
            raise InputError(str(error)) from error
        self.parts = nn.ModuleList(objectives)
        self.names = _numbered(names or [_class_name(part) for part in objectives])
        self.part_losses: list[Tensor] = []  # of the last batch, before weighting
        self._combine(objectives)

    def _combine(self, objectives: Sequence[Objective]) -> None:
        """What the sum needs, takes and is, of all parts together."""
        self.needs = frozenset[str]().union(*(part.needs for part in objectives))
        takes = frozenset[str]().union(*(part.takes for part in objectives)) - self.needs
        pairwise = [
            name for name, part in zip(self.names, objectives, strict=True) if "runs" not in part.needs | part.takes
        ]
        if "runs" in self.needs and pairwise:
            of_runs = next(name for name, part in zip(self.names, objectives, strict=True) if "runs" in part.needs)
            raise InputError(
                f"objective {of_runs} needs runs of consecutive sentences and {pairwise[0]} pairs of them, so they "
                "cannot be added; choose two of one kind"
            )
        self.takes = takes - {"runs"} if pairwise else takes
        self.needs_sentence_ids = any(part.needs_sentence_ids for part in objectives)
        self.remembers = any(part.remembers for part in objectives)
        self.requires_shared_encoder = any(part.requires_shared_encoder for part in objectives)
        self.similarity = self._similarity(objectives)
        self._refuse_two_momenta(objectives)

    def _similarity(self, objectives: Sequence[Objective]) -> str:
        """Inner product where a part has it; else cosine."""
        scored = {part.similarity: name for name, part in zip(self.names, objectives, strict=True) if part.contrastive}
        if len(scored) > 1:
            raise InputError(
                f"objective {scored['dot']} scores by inner product and {scored['cosine']} by cosine, and the saved "
                "model has one of them; give both the same score"
            )
        return "dot" if any(part.similarity == "dot" for part in objectives) else "cosine"

    def _refuse_two_momenta(self, objectives: Sequence[Objective]) -> None:
        moving = [(n, part) for n, part in zip(self.names, objectives, strict=True) if "targets" in part.needs]
        for name, part in moving[1:]:
            first_name, first = moving[0]
            if any(part.momentum(done) != first.momentum(done) for done in PROGRESS):
                raise InputError(
                    f"objectives {first_name} and {name} move the momentum encoder at different rates, and there is "
                    "one for both; leave one of them out"
                )

    def terms(self) -> list[Objective]:
        """Of each part."""
        return [term for part in self._objectives() for term in part.terms()]

    def refuse_too_short(self, dimension: int) -> None:
        """As each part does."""
        for part in self._objectives():
            part.refuse_too_short(dimension)

    def refuse_dimensions(self, dimension: int, teacher: int) -> None:
        """As each part does."""
        for part in self._objectives():
            part.refuse_dimensions(dimension, teacher)

    def to_teacher(self, x: Tensor) -> Tensor | None:
        """As the first part that compares rows with a teacher's."""
        mapped = (part.to_teacher(x) for part in self._objectives())
        return next((rows for rows in mapped if rows is not None), None)

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """Of each part."""
        for part in self._objectives():
            part.teacher_dimension, part.guide_dimension = self.teacher_dimension, self.guide_dimension
            part.prepare(dimension, sentences)

    def momentum(self, done: float) -> float:
        """Of the first part that needs a momentum encoder."""
        return next(part for part in self._objectives() if "targets" in part.needs).momentum(done)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """The parts' losses, weighted and added."""
        losses = [part(x, y, extras.only(part.needs | part.takes)) for part in self._objectives()]
        self.part_losses = list(extras.total(torch.stack([loss.detach() for loss in losses])))
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses, strict=True)]).sum()

    def update_state(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Of each part."""
        for part in self._objectives():
            part.update(x, y, extras.only(part.needs | part.takes))

    @torch.no_grad()
    def log_metrics(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """The parts' losses of the last batch, and their metrics; one of a name that is taken gets its part's, too."""
        metrics = {f"loss_{name}": loss.item() for name, loss in zip(self.names, self.part_losses, strict=False)}
        for name, part in zip(self.names, self._objectives(), strict=True):
            of_part = part.log_metrics(x, y)
            metrics |= {(f"{key}_{name}" if key in metrics else key): value for key, value in of_part.items()}
        return metrics

    def chance_loss(self, n: int, hard: int = 0, runs: bool = False) -> float | None:
        """The weighted sum, where each part has such a loss."""
        total = 0.0
        for part, weight in zip(self._objectives(), self.weights, strict=True):
            seen = hard if "negatives" in part.needs | part.takes else 0
            loss = part.chance_loss(n, seen, runs)
            if loss is None:
                return None
            total += weight * loss
        return total

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of each part."""
        described = []
        for name, part, weight in zip(self.names, self._objectives(), self.weights, strict=True):
            seen = hard if "negatives" in part.needs | part.takes else 0
            described.append(f"{weight:g} * {name} ({part.describe_negatives(n, seen, runs)})")
        return " + ".join(described)

    def _objectives(self) -> list[Objective]:
        return [part for part in self.parts if isinstance(part, Objective)]


def weighted_sum(table: Mapping[str, Callable[..., Objective]], spec: str) -> Objective:
    """The objective of a spec: one of ``table``, or the weighted sum of several, ``A + B*0.5``.

    Raises:
        InputError: a part is empty or names nothing, a weight is 0, or the parts cannot be added.
    """
    parts = terms_of_sum(spec, "objective")
    if len(parts) == 1 and not parts[0][1]:
        objective: Objective = build(table, spec, "objective")
        return objective
    made = [(build(table, part, "objective"), float(weight or 1)) for part, weight in parts]
    return WeightedSum(made, [part.partition(":")[0].strip() for part, _ in parts])


def _class_name(part: Objective) -> str:
    implementation = part.function if isinstance(part, FunctionObjective) else part
    return name_of(implementation).rpartition(".")[2]


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, the second of a kind as NAME_2."""
    return [
        name if name not in names[:place] else f"{name}_{1 + list(names[:place]).count(name)}"
        for place, name in enumerate(names)
    ]
