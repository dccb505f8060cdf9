"""One update: its loss over the global batch, and the exact gradient of that, in as many parts as memory wants."""

import contextlib
import math
import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from sentemb.forward import seed_dropout
from sentemb.objectives import Extras, Objective
from sentemb.training.batches import Batch
from sentemb.training.config import FitConfig
from sentemb.training.distributed import gather, gather_plain
from sentemb.training.momentum_encoder import MomentumEncoder


@dataclass(frozen=True)
class Seen:
    """What an update was computed from, of the global batch, without its graph."""

    partners: tuple[Tensor, Tensor]  # [n, d] each, for the log
    given: tuple[Tensor, Tensor, Extras] | None  # what the objective was given; None: nothing


def gradients(
    embedder: nn.Module,
    objective: Objective,
    batch: Batch,
    config: FitConfig,
    accelerator: Accelerator,
    step: int,
    twin: MomentumEncoder | None = None,
) -> tuple[float, Seen]:
    """Loss, with its gradient in the parameters, and what it was computed from.

    With ``micro_batch`` it is the gradient of the whole batch still: embeddings of all parts without a graph, the
    loss' gradient at them, then each part once more with its graph and the same dropout masks.
    Source: gradient caching, Gao et al. 2021 (arXiv 2101.06983).
    """
    model: SentenceTransformer = accelerator.unwrap_model(embedder).model
    # As many parts on every process, whose last backward joins all gradients: a part may be a pair larger than asked.
    least = min(batch.pairs_per_rank or (len(batch),))
    bounds = np.linspace(0, len(batch), max(1, math.ceil(least / (config.micro_batch or least))) + 1).astype(int)
    parts = [slice(*both) for both in pairwise(bounds.tolist())]

    def forward(number: int, masked: bool) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Each column's embeddings, and the side task's loss."""
        # Random numbers depend on the step and the part alone: a resumed run needs no saved state of them, and a part
        # meets the same ones again.
        _seed_all(config.seed, step, accelerator.process_index, number)
        features = batch.features(model, parts[number], accelerator.device)
        found = embedder(*features, masked=masked)
        embeddings, aside = found if isinstance(found, tuple) else (found, None)
        return embeddings.chunk(len(batch.columns)), aside

    def targets() -> tuple[Tensor, ...]:
        """Each column as the twin sees it, without a graph; none without one."""
        each = []
        for number, part in enumerate(parts):
            if twin is None:
                return ()
            _seed_all(config.seed, step, accelerator.process_index, number, 1)
            with accelerator.autocast():
                found = twin(*batch.features(model, part, accelerator.device))
            each.append(found.chunk(len(batch.columns)))
        return tuple(torch.cat(column) for column in zip(*each, strict=True))

    if len(parts) == 1:
        columns, aside = forward(0, masked=config.mlm > 0)
        loss, seen = loss_of(objective, columns, batch, accelerator, targets())
        accelerator.backward(loss if aside is None else loss + config.mlm * aside)
        return loss.item(), seen

    with torch.no_grad():
        each = [forward(number, masked=False)[0] for number in range(len(parts))]
    columns = tuple(torch.cat(column).requires_grad_() for column in zip(*each, strict=True))
    loss, seen = loss_of(objective, columns, batch, accelerator, targets())
    accelerator.backward(loss)
    slopes = [column.grad if column.grad is not None else torch.zeros_like(column) for column in columns]
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(embedder):
            found, aside = forward(number, masked=config.mlm > 0)
            surrogate = torch.stack(
                [(column * slope[part]).sum() for column, slope in zip(found, slopes, strict=True)]
            ).sum()
            if aside is not None:
                share = len(found[0]) / len(batch) * (accelerator.scaler.get_scale() if accelerator.scaler else 1)
                surrogate = surrogate + config.mlm * share * aside
            surrogate.backward()
    return loss.item(), seen


def loss_of(
    objective: Objective,
    columns: tuple[Tensor, ...],
    batch: Batch,
    accelerator: Accelerator,
    targets: tuple[Tensor, ...] = (),
) -> tuple[Tensor, Seen]:
    """The loss of the global batch, of all columns gathered from all processes."""
    device = accelerator.device
    together = [gather(column, batch.pairs_per_rank) for column in columns]
    twins = [gather_plain(column, batch.pairs_per_rank) for column in targets]
    ids = gather_plain(batch.ids.to(device), batch.pairs_per_rank)
    positions, labels = (
        None if numbers is None else gather_plain(numbers.to(device), batch.pairs_per_rank)
        for numbers in (batch.positions, batch.labels)
    )
    if positions is None:
        x, y, *hard = together
        negatives = torch.stack(hard, dim=1) if hard else None
        extras = Extras(ids, negatives, labels=labels, targets=(twins[0], twins[1]) if twins else None)
        return objective(x, y, extras), Seen((x.detach(), y.detach()), (x.detach(), y.detach(), extras))
    x, y = together[0], together[-1]
    first = (positions.diff() == 1).nonzero()[:, 0]  # sentences whose follower is the next of the batch
    if not len(first):  # no two neighbours: nothing to learn from
        return 0 * (x.sum() + y.sum()), Seen((x[:1].detach(), y[:1].detach()), None)
    partners = (x[first].detach(), y[first + 1].detach())
    if "runs" in objective.needs | objective.takes:
        extras = Extras(ids, positions=positions)
        return objective(x, y, extras), Seen(partners, (x.detach(), y.detach(), extras))
    extras = Extras(
        torch.stack([ids[first, 0], ids[first + 1, 0]], dim=1),
        targets=(twins[0][first], twins[-1][first + 1]) if twins else None,
    )
    return objective(x[first], y[first + 1], extras), Seen(partners, (*partners, extras))


def seed_of(*numbers: int) -> int:
    """A seed below 2^32 that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _seed_all(*numbers: int) -> None:
    """Seed every generator that a forward or an objective, a user's own too, may draw from."""
    seed = seed_of(*numbers)
    random.seed(seed)
    np.random.seed(seed)
    seed_dropout(seed)
