"""Recurrent stacks over padded rows, equal to the packed form on real tokens and several times faster."""

from typing import Any

import torch
from torch import Tensor, nn


def padded_recurrence(encoder: nn.LSTM | nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """A recurrent stack over padded rows, equal on real tokens to the packed form and several times faster.

    The backward direction reads each row reversed within its own length, layer by layer: padding is then always
    after the last real token and never reaches it. (nn.LSTM on padded rows starts backwards from the padding.)

    Args:
        encoder: batch-first LSTM or GRU, one- or bidirectional.
        x: ``[n, T, in]`` token embeddings; lengths: ``[n]`` real tokens a row.

    Returns:
        ``[n, T, directions * hidden]``; rows past their length hold numbers that pooling masks.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))  # before it is copied about, at half the bytes
    step = torch.arange(x.shape[1], device=x.device)
    ends = lengths.to(x.device).clamp(min=1)[:, None]
    mirrored = torch.where(step < ends, ends - 1 - step, step)  # [n, T]
    rows = (mirrored + step.new_tensor(x.shape[1]) * torch.arange(len(x), device=x.device)[:, None]).flatten()
    for layer in range(encoder.num_layers):
        outputs = [_one_direction(encoder, layer, "", x)]
        if encoder.bidirectional:
            outputs.append(_mirror(_one_direction(encoder, layer, "_reverse", _mirror(x, rows)), rows))
        x = torch.cat(outputs, dim=2)
        if layer + 1 < encoder.num_layers:
            x = nn.functional.dropout(x, encoder.dropout, encoder.training)
    return x


class _Mirror(torch.autograd.Function):
    """Rows in an order that is its own inverse: so the gradient's is the same order, and nothing is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return x.flatten(0, 1).index_select(0, rows).view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return slopes[0].flatten(0, 1).index_select(0, rows).view_as(slopes[0]), None


def _mirror(x: Tensor, rows: Tensor) -> Tensor:
    return _Mirror.apply(x, rows)


def _one_direction(encoder: nn.LSTM | nn.GRU, layer: int, suffix: str, x: Tensor) -> Tensor:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(encoder, f"{name}_l{layer}{suffix}") for name in names]
    start = x.new_zeros(1, len(x), encoder.hidden_size)
    backward = torch.is_grad_enabled()  # cuDNN has no backward pass of what is not "train"
    if isinstance(encoder, nn.LSTM):
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, backward, False, True)[0]
    return torch.gru(x, start, weights, True, 1, 0.0, backward, False, True)[0]
