"""The number of updates of a run, and the learning rate of each."""

import math

import torch

from sentemb.errors import InputError
from sentemb.training.data import EpochLayout
from sentemb.training.settings import TrainingSettings
from sentemb.wording import counted


def total_steps(settings: TrainingSettings, pairs: int, processes: int) -> int:
    """Updates of the whole run over ``pairs`` pairs.

    Raises:
        InputError: there are too few pairs for one update.
    """
    epoch = len(EpochLayout(pairs, settings.batch_size, processes, settings.smallest_batch, settings.global_batch))
    if not epoch:
        usable = counted(pairs, "usable pair")
        raise InputError(f"too few to train on: {usable} for {counted(processes, 'process')}, each of which needs 2")
    if settings.max_steps is None:
        return epoch * (settings.epochs or 1)
    return settings.max_steps if settings.epochs is None else min(settings.max_steps, epoch * settings.epochs)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Learning rate of update ``step`` (1, 2, ...) of ``steps``: a linear warm-up, then ``settings.schedule``.

    The first update after the warm-up has the highest rate, lr. Where the rate falls, it would be 0 at update
    ``steps + 1``; cosine is lr * (1 + cos(pi * share)) / 2, ``share`` of the fall done (Loshchilov & Hutter 2017, arXiv
    1608.03983, equation 5, without restarts).
    """
    warmup = settings.warmup_updates(steps)
    if step <= warmup:
        return settings.lr * step / warmup
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * (step - warmup - 1) / (steps - warmup))) / 2
    return settings.lr * (steps - step + 1) / max(1, steps - warmup)


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int, steps: int) -> None:
    """Give the optimiser the learning rate of update ``step`` of ``steps``."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step, steps)
