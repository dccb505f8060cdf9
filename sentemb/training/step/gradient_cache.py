"""Gradient caching: the exact gradient of a large batch in the memory of a small one (``--micro-batch``).

Source: Gao et al. 2021 (arXiv 2101.06983).
"""

import contextlib
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from sentemb.objectives import Objective
from sentemb.training.data import Batch
from sentemb.training.step.batch_encoder import BatchEncoder
from sentemb.training.step.global_loss import Update, global_loss


def micro_batches(batch: Batch, size: int) -> list[slice]:
    """The parts of about ``size`` pairs that a batch is encoded in; 0: one part.

    All processes get the same number of parts, as the last backward pass of each joins their gradients. A part may be
    larger than ``size`` by a pair.
    """
    smallest = min(batch.pairs_per_rank or (len(batch),))
    bounds = np.linspace(0, len(batch), max(1, math.ceil(smallest / (size or smallest))) + 1).astype(int)
    return [slice(start, stop) for start, stop in pairwise(bounds.tolist())]


def cached_backward(
    encoder: BatchEncoder, objective: Objective, batch: Batch, step: int, parts: Sequence[slice]
) -> Update:
    """Put the gradient of the whole batch's loss into the parameters, a part at a time.

    Three passes: the embeddings of all parts without a graph; the loss, with its gradient at the embeddings; then each
    part again with its graph and the same dropout masks, backward from that gradient.
    """
    accelerator = encoder.accelerator
    with torch.no_grad():
        embeddings = [encoder.columns(batch, part, step, i, mlm=False)[0] for i, part in enumerate(parts)]
    columns = tuple(torch.cat(column).requires_grad_() for column in zip(*embeddings, strict=True))
    loss, update = global_loss(objective, columns, batch, accelerator, encoder.targets(batch, parts, step))
    accelerator.backward(loss)  # (scaled under fp16, and so are the cached gradients)
    cache = [column.grad if column.grad is not None else torch.zeros_like(column) for column in columns]
    scale = accelerator.scaler.get_scale() if accelerator.scaler else 1.0
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(encoder.encoder):
            views, mlm_loss = encoder.columns(batch, part, step, i, mlm=True)
            products = [(view * gradient[part]).sum() for view, gradient in zip(views, cache, strict=True)]
            surrogate = torch.stack(products).sum()
            if mlm_loss is not None:
                surrogate = surrogate + encoder.mlm * (len(views[0]) / len(batch) * scale) * mlm_loss
            surrogate.backward()
    return update
