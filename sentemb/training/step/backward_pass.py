"""The backward pass of an update: plain, or in parts by gradient caching."""

from sentemb.objectives import Objective
from sentemb.training.data import Batch
from sentemb.training.step.batch_encoder import BatchEncoder
from sentemb.training.step.global_loss import Update, global_loss
from sentemb.training.step.gradient_cache import cached_backward, micro_batches


def backward(encoder: BatchEncoder, objective: Objective, batch: Batch, step: int, micro_batch: int = 0) -> Update:
    """Put the gradient of update ``step`` into the parameters, from ``micro_batch`` pairs at a time; 0: all at once."""
    parts = micro_batches(batch, micro_batch)
    encoder.encoding = True
    if len(parts) == 1:
        update = plain_backward(encoder, objective, batch, step)
    else:
        update = cached_backward(encoder, objective, batch, step, parts)
    encoder.encoding = False
    return update


def plain_backward(encoder: BatchEncoder, objective: Objective, batch: Batch, step: int) -> Update:
    """Put the gradient of the batch's loss into the parameters: one forward of all columns, one backward."""
    every = slice(0, len(batch))
    columns, mlm_loss = encoder.columns(batch, every, step, 0, mlm=True)
    targets = encoder.targets(batch, [every], step)
    loss, update = global_loss(objective, columns, batch, encoder.accelerator, targets)
    encoder.accelerator.backward(loss if mlm_loss is None else loss + encoder.mlm * mlm_loss)
    return update
