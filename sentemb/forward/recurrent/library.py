"""Recurrent stacks over the real tokens of a batch by torch's own kernel: on a GPU cuDNN's, all steps in one call."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentemb.forward.host_copies import to_device
from sentemb.forward.recurrent.time_steps import TimeSteps


def library_recurrence(encoder: nn.LSTM | nn.GRU, words: nn.Module, ids: Tensor, lengths: np.ndarray) -> Tensor:
    """A recurrent stack over rows of words, as its module computes a PackedSequence; rows may come in any order.

    Args:
        encoder: batch-first LSTM or GRU, one- or bidirectional, without projections.
        words: word embeddings: of ids ``[N]`` their vectors ``[N, in]``.
        ids: ``[n, T]``, padded at the end.
        lengths: ``[n]`` real tokens a row, on the host: nothing is asked of the ids' device. An empty row reads its
            first padding, as sentence-transformers has it.

    Returns:
        ``[n, T, directions * hidden]``, zero after a row's end.
    """
    steps = TimeSteps.of(torch.from_numpy(lengths), ids.shape[1])
    places = to_device(steps.tokens[0], ids.device)
    x = words(ids.flatten().index_select(0, places))
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    sizes, ends = torch.tensor(steps.alive), ("", "_reverse")[: 1 + encoder.bidirectional]
    weights = [
        [getattr(encoder, f"{name}_l{layer}{end}") for end in ends for name in weight_names(encoder)]
        for layer in range(encoder.num_layers)
    ]
    if encoder.training and encoder.dropout:  # (its own masks would depend on more than the seed of the step)
        for layer, of_layer in enumerate(weights):
            x = nn.functional.dropout(x, encoder.dropout) if layer else x
            x = _hidden_states(encoder, x, sizes, [of_layer])
    else:
        x = _hidden_states(encoder, x, sizes, weights)
    out = x.new_zeros(steps.rows * steps.length, x.shape[1]).index_copy(0, places, x)
    return out.view(steps.rows, steps.length, -1)


def weight_names(encoder: nn.LSTM | nn.GRU) -> tuple[str, ...]:
    """Of a direction of a layer."""
    return ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if encoder.bias else 2]


def _hidden_states(encoder: nn.LSTM | nn.GRU, x: Tensor, sizes: Tensor, weights: list[list[Tensor]]) -> Tensor:
    """Of the last of some layers, ``[N, directions * hidden]`` step by step."""
    directions = 2 if encoder.bidirectional else 1
    start = x.new_zeros(len(weights) * directions, int(sizes[0]), encoder.hidden_size)
    flat = [weight for of_layer in weights for weight in of_layer]
    # Its "train" only says whether there is a backward pass, as dropout is 0: without it cuDNN has none.
    more: Any = (flat, encoder.bias, len(weights), 0.0, torch.is_grad_enabled(), encoder.bidirectional)
    if isinstance(encoder, nn.LSTM):
        return torch.lstm(x, sizes, (start, start), *more)[0]
    return torch.gru(x, sizes, start, *more)[0]
