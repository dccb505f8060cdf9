"""What is read of the hidden states of a recurrent encoder: all of them in padded rows, or an embedding of each row."""

from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from sentemb.encoders import FinalStates, SkipPooling
from sentemb.forward.recurrent.time_steps import TimeSteps

READOUTS = ("tokens", "mean", "final")


def readout_of(pooling: nn.Module | None, bidirectional: bool) -> str:
    """The readout that does what ``pooling`` does after a recurrent stack; ``tokens`` where none does."""
    if isinstance(pooling, FinalStates):
        return "final"
    if not isinstance(pooling, Pooling) or isinstance(pooling, SkipPooling):  # (which joins two embeddings itself)
        return "tokens"
    modes = (pooling.pooling_mode,) if isinstance(pooling.pooling_mode, str) else tuple(pooling.pooling_mode)
    if modes == ("mean",):
        return "mean"
    return "final" if modes == ("lasttoken",) and not bidirectional else "tokens"


def read_out(hidden: Tensor, steps: TimeSteps, directions: int, readout: str) -> list[Tensor]:
    """Of hidden states ``[S * directions, N, h]``: ``[n, T, directions * h]`` or ``[n, directions * h]`` of each of S.

    Args:
        hidden: of each lane's tokens. steps: their rows. directions: of an encoder, 1 or 2.
        readout: tokens (zero after a row's end), mean (over a row's tokens), or final (the state in which each
            direction ends). An empty row's mean and final states are 0.
    """
    if readout == "tokens":
        lanes = _Unpack.apply(hidden, steps.tokens[:directions], steps)  # [n * T, S * directions, h]
        return list(lanes.view(steps.rows, steps.length, len(hidden) // directions, -1).unbind(2))
    if readout == "mean":
        states = _Mean.apply(hidden, steps)  # [S * directions, n, h], the longest row first
    else:
        states = hidden.index_select(1, steps.last) * (steps.counts > 0)[:, None]
    rows = states.index_select(1, steps.order.argsort())
    return list(rows.unflatten(0, (-1, directions)).transpose(1, 2).flatten(2).unbind(0))


class _Mean(torch.autograd.Function):
    """Means ``[L, n, h]`` of the tokens of each row, step by step as they lie in memory."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, steps: TimeSteps) -> Tensor:
        ctx.steps = steps
        ctx.weights = (steps.counts > 0).to(hidden.dtype).div_(steps.counts.clamp(min=1))[:, None]
        sums = hidden.new_zeros(len(hidden), steps.rows, hidden.shape[2])
        for now in steps.slices:
            sums[:, : now.stop - now.start].add_(hidden[:, now])
        return sums.mul_(ctx.weights)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        each = slopes[0] * ctx.weights
        out = each.new_empty(len(each), ctx.steps.count, each.shape[2])
        for now in ctx.steps.slices:
            out[:, now] = each[:, : now.stop - now.start]
        return out, None


class _Unpack(torch.autograd.Function):
    """Hidden states ``[L, N, h]`` to padded rows ``[n * T, L, h]``; tokens have distinct places."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, places: Tensor, steps: TimeSteps) -> Tensor:
        ctx.save_for_backward(places)
        out = hidden.new_zeros(steps.rows * steps.length, len(hidden), hidden.shape[2])
        for lane, states in enumerate(hidden):
            out[:, lane].index_copy_(0, places[lane % len(places)], states)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        lanes = slopes[0].unbind(1)
        states = [lane.index_select(0, places[number % len(places)]) for number, lane in enumerate(lanes)]
        return torch.stack(states), None, None
