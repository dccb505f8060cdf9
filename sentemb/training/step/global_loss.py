"""The loss of the global batch: embeddings of all processes go to the objective, and each computes its anchors' part.

The parts add up to the loss. A process's backward pass begins with its part times the number of processes, as DDP takes
the mean of the processes' gradients.
"""

import math
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor

from sentemb.forward import to_device
from sentemb.objectives import AnchorRows, Extras, GuideEmbeddings, GuideMargin, Objective
from sentemb.training.data import Batch
from sentemb.training.distributed import computing_dtype, gather, gather_plain

ObjectiveInputs = tuple[Tensor, Tensor, Extras]


@dataclass
class Update:
    """The loss of one update and the embeddings of the global batch that it is of, without their graph."""

    positives: tuple[Tensor, Tensor]  # [n, d] each, rows i are a positive pair; for the log
    objective_inputs: ObjectiveInputs | None  # what the objective was given; None: it was not called
    loss_on_device: Tensor  # scalar, of all processes
    gradient_norm: float = math.nan  # before clipping
    overflow: bool = False  # fp16's scaled gradient was not finite: the loss scaler left the update out
    rejection: str | None = None  # why the update was skipped; None: it was not
    step: int = 0  # its number in the run
    _loss: float | None = None
    _on_the_way: tuple[Tensor, torch.cuda.Event | None] | None = None  # loss and norm, and when they have arrived

    @property
    def loss(self) -> float:
        """Of all processes; read from its device when it is asked for, which waits for what the device has to do."""
        if self._loss is None:
            self._loss = self.loss_on_device.item()
        return self._loss

    @loss.setter
    def loss(self, value: float) -> None:
        self._loss = value

    def read(self, gradient_norm: Tensor) -> None:
        """Set the gradient norm and the loss from their device, which waits for it once for both."""
        if self._loss is None:
            self._loss, self.gradient_norm = self._numbers(gradient_norm).tolist()
        else:
            self.gradient_norm = gradient_norm.item()

    def send(self, gradient_norm: Tensor) -> Tensor:
        """Ask for the gradient norm and the loss, and wait for neither; :meth:`receive` does.

        Returns:
            1 where one of them is not finite, else 0; a float32 scalar on their device.
        """
        numbers = self._numbers(gradient_norm)
        event = torch.cuda.Event() if numbers.device.type == "cuda" else None
        self._on_the_way = (numbers.to("cpu", non_blocking=True), event)
        if event is not None:
            event.record()
        return 1 - numbers.isfinite().all().float()

    def receive(self) -> None:
        """Set the gradient norm and the loss that :meth:`send` has asked for; waits for this update alone."""
        if self._on_the_way is not None:
            numbers, event = self._on_the_way
            if event is not None:
                event.synchronize()
            self._loss, self.gradient_norm = numbers.tolist()
            self._on_the_way = None

    def _numbers(self, gradient_norm: Tensor) -> Tensor:
        kind = torch.promote_types(self.loss_on_device.dtype, gradient_norm.dtype)  # (no float64: mps has none)
        return torch.stack([self.loss_on_device.to(kind), gradient_norm.to(kind)])


def global_loss(
    objective: Objective,
    columns: tuple[Tensor, ...],
    batch: Batch,
    accelerator: Accelerator,
    targets: tuple[Tensor, ...] = (),
) -> tuple[Tensor, Update]:
    """The scalar that this process's backward pass begins with, and the loss as an :class:`Update`.

    Args:
        objective: sees the rows of all processes.
        columns: ``[n, d]`` for each column of the batch, the embeddings of this process' pairs.
        batch: this process' pairs.
        accelerator: the processes.
        targets: as ``columns``, of the momentum encoder; (): there is none.
    """
    device, pairs_per_rank, dtype = accelerator.device, batch.pairs_per_rank, computing_dtype(accelerator)
    views = [gather(column, pairs_per_rank, dtype) for column in columns]
    momentum_views = [gather_plain(column, pairs_per_rank, dtype) for column in targets]
    ids = gather_plain(to_device(batch.ids, device), pairs_per_rank)
    positions, labels, embeddings, guide_rows = (
        None if values is None else gather_plain(to_device(values, device), pairs_per_rank)
        for values in (batch.positions, batch.labels, batch.teacher, batch.guide)
    )
    guide = _guide(guide_rows, batch.guide_margin)
    teacher = None if embeddings is None else (embeddings[:, 0], embeddings[:, -1])
    rows = None
    if accelerator.num_processes > 1:
        counts = pairs_per_rank or (len(batch),) * accelerator.num_processes
        rows = AnchorRows(counts, accelerator.process_index, gather)
    if positions is None:
        x, y, *hard = views
        negatives = torch.stack(hard, dim=1) if hard else None
        pair = (momentum_views[0], momentum_views[1]) if momentum_views else None
        extras = Extras(ids, negatives, labels=labels, targets=pair, teacher=teacher, guide=guide, rows=rows)
        return _loss_and_update(objective, x, y, replace(extras, copies=batch.has_copies))
    x, y = views[0], views[-1]
    # Sentences whose follower is the next of the batch: the host knows those of one process without asking the device.
    of_host = positions if rows is not None or batch.positions is None else batch.positions
    first = (of_host.diff() == 1).nonzero()[:, 0]
    first = first if first.device == device else to_device(first, device)
    if not len(first):  # no two neighbours: nothing to learn from
        loss = 0 * (x.sum() + y.sum())
        return loss, Update((x[:1].detach(), y[:1].detach()), None, loss.detach())
    if "runs" in objective.needs | objective.takes:
        extras = Extras(ids, positions=positions, teacher=teacher, guide=guide, copies=batch.has_copies, rows=rows)
        loss, update = _loss_and_update(objective, x, y, extras)
        update.positives = (x[first].detach(), y[first + 1].detach())
        return loss, update
    pair = (momentum_views[0][first], momentum_views[-1][first + 1]) if momentum_views else None
    teacher = None if teacher is None else (teacher[0][first], teacher[1][first + 1])
    if guide is not None:
        guide = GuideEmbeddings(guide.x[first], guide.y[first + 1], margin=guide.margin)
    pair_ids = torch.stack([ids[first, 0], ids[first + 1, 0]], dim=1)
    if rows is not None:
        rows = replace(rows, counts=_selected(first, rows.counts))
    # (Neighbouring pairs share a sentence, so that there are copies to look for.)
    extras = Extras(pair_ids, targets=pair, teacher=teacher, guide=guide, copies=True, rows=rows)
    return _loss_and_update(objective, x[first], y[first + 1], extras)


def _guide(rows: Tensor | None, margin: GuideMargin) -> GuideEmbeddings | None:
    """From a guide's embeddings ``[n, columns, D]``: of x, y and hard negatives; of one column it is both sides."""
    if rows is None:
        return None
    hard = rows[:, 2:] if rows.shape[1] > 2 else None
    return GuideEmbeddings(rows[:, 0], rows[:, min(1, rows.shape[1] - 1)], hard, margin)


def _selected(indices: Tensor, counts: tuple[int, ...]) -> tuple[int, ...]:
    """How many of the rows of each process are among ``indices``, which rise."""
    ends = torch.tensor([0, *counts], device=indices.device).cumsum(0)
    return tuple(torch.searchsorted(indices, ends).diff().tolist())


def _loss_and_update(objective: Objective, x: Tensor, y: Tensor, extras: Extras) -> tuple[Tensor, Update]:
    views = (x.detach(), y.detach())
    loss = objective(x, y, extras)
    update = Update(views, (*views, extras), loss.detach())
    if extras.rows is None:
        return loss, update
    totals = [update.loss_on_device]
    if extras.guide is not None:
        counts = extras.guide.counts
        totals += [torch.as_tensor(number, device=loss.device) for number in (counts.masked, counts.seen)]
    total, *numbers = extras.rows.total(torch.stack([number.double() for number in totals]))
    update.loss_on_device = total.to(loss.dtype)
    if extras.guide is not None:
        extras.guide.counts.masked, extras.guide.counts.seen = numbers
    return len(extras.rows.counts) * loss, update
