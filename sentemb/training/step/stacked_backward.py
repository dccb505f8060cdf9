"""The backward pass of several encoders on one batch: one forward and one backward for all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sentemb.forward import StackedEncoder
from sentemb.objectives import Objective
from sentemb.training.data import Batch
from sentemb.training.step.batch_encoder import BatchEncoder
from sentemb.training.step.global_loss import Update, global_loss


def stacked_backward(
    stacked: StackedEncoder, lanes: Sequence[tuple[BatchEncoder, Objective]], batch: Batch, step: int
) -> list[Update | Exception]:
    """Put the gradient of each lane's loss into its parameters, as :func:`plain_backward` does for one.

    Each objective's gradient stops at the embeddings at first: one objective's graph is held at a time, and an error
    of one is none of the others. Then one backward pass goes through all encoders.

    Args:
        stacked: the encoders of the lanes.
        lanes: how each encodes, and its objective.
        batch: the pairs, the same for all.
        step: number of the update.

    Returns:
        Each lane's update, or the error that its objective raised.
    """
    accelerator = lanes[0][0].accelerator
    for encoder, _ in lanes:
        encoder.encoding = True
    features = batch.features(lanes[0][0].model, slice(0, len(batch)), accelerator.device)
    with accelerator.autocast():
        embeddings = stacked(*features)
    updates: list[Update | Exception] = []
    ends: list[Tensor] = []
    slopes: list[Tensor] = []
    for (encoder, objective), rows in zip(lanes, embeddings, strict=True):
        leaf = rows.detach().float() if rows.dtype in (torch.bfloat16, torch.float16) else rows.detach()
        leaf.requires_grad_()
        try:
            updates.append(_backward_to_embeddings(encoder, objective, leaf, batch, step))
        except Exception as error:
            updates.append(error)
            continue
        if leaf.grad is not None and rows.requires_grad:  # (of a frozen encoder only the objective learns)
            ends.append(rows)
            slopes.append(leaf.grad.to(rows.dtype))
    torch.autograd.backward(ends, slopes)
    for encoder, _ in lanes:
        encoder.encoding = False
    return updates


def _backward_to_embeddings(
    encoder: BatchEncoder, objective: Objective, embeddings: Tensor, batch: Batch, step: int
) -> Update:
    """Put the loss' gradient into the embeddings ``[n, d]`` of all columns, and into the objective's parameters."""
    encoder.seed_generators(step, 0)  # (the forward has drawn nothing)
    columns = embeddings.chunk(len(batch.columns))
    targets = encoder.targets(batch, [slice(0, len(batch))], step)
    loss, update = global_loss(objective, columns, batch, encoder.accelerator, targets)
    encoder.accelerator.backward(loss)
    return update
