"""One update: the embeddings of its batch, the loss over all processes, and its gradient."""

from sentemb.training.step.backward_pass import backward, plain_backward
from sentemb.training.step.batch_encoder import BatchEncoder, seed_of
from sentemb.training.step.global_loss import Update, global_loss
from sentemb.training.step.gradient_cache import cached_backward, micro_batches
from sentemb.training.step.stacked_backward import stacked_backward

__all__ = [
    "BatchEncoder",
    "Update",
    "backward",
    "cached_backward",
    "global_loss",
    "micro_batches",
    "plain_backward",
    "seed_of",
    "stacked_backward",
]
