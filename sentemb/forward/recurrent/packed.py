"""Recurrent stacks over the real tokens of a batch: no padding, and no word's input projection twice.

The input projection of a first layer depends on the word alone. It is computed once for each distinct word of the
batch, and its gradient is summed up over the word's places before it becomes a gradient of the weights: in a batch of
neighbouring sentences a third of the words or less are distinct.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sentemb.forward.products import batched_product
from sentemb.forward.recurrent.cells import Cell, GruCell, LstmCell, in_module_order, scaled
from sentemb.forward.recurrent.readout import read_out
from sentemb.forward.recurrent.time_steps import TimeSteps

CACHED_NUMBERS = 2**16  # of hidden states at a step: more encoders at once than that do not stay in a core's cache


def packed_recurrence(
    encoder: nn.LSTM | nn.GRU, table: Tensor, words: Tensor, lengths: Tensor, readout: str = "tokens"
) -> Tensor:
    """A recurrent stack over rows of words, equal to the module's packed form on real tokens, with its gradients.

    Args:
        encoder: batch-first LSTM or GRU, one- or bidirectional, without projections.
        table: ``[U, in]`` embeddings of distinct words.
        words: ``[n, T]`` rows of ``table``; anything after a row's end.
        lengths: ``[n]`` real tokens a row; an empty row reads its first padding, as sentence-transformers has it.
        readout: tokens, mean or final (:func:`sentemb.forward.recurrent.read_out`).

    Returns:
        ``[n, T, directions * hidden]``, zero after a row's end; with mean and final ``[n, directions * hidden]``.
    """
    return stacked_recurrence([encoder], table[None], words, lengths, readout)[0]


def stacked_recurrence(
    encoders: Sequence[nn.LSTM | nn.GRU], tables: Tensor, words: Tensor, lengths: Tensor, readout: str = "tokens"
) -> list[Tensor]:
    """As :func:`packed_recurrence`, of several encoders of one shape over the same rows in one batched computation.

    Args:
        encoders: alike in cell, sizes, layers, directions and dropout.
        tables: ``[S, U, in]`` each encoder's embeddings, or ``[1, U, in]`` the same for all.
            Encoders are computed together as far as a step's states stay in the processor's cache.
        words, lengths, readout: as above.
    """
    steps = TimeSteps.of(lengths.cpu(), words.shape[1])
    directions = 2 if encoders[0].bidirectional else 1
    state = len(words) * encoders[0].hidden_size * directions
    size = max(1, CACHED_NUMBERS // state)
    embeddings: list[Tensor] = []
    for start in range(0, len(encoders), size):
        part = slice(start, start + size)
        hidden = _hidden_states(encoders[part], tables if len(tables) == 1 else tables[part], words, steps)
        embeddings += read_out(hidden, steps, directions, readout)
    return embeddings


def _hidden_states(encoders: Sequence[nn.LSTM | nn.GRU], tables: Tensor, words: Tensor, steps: TimeSteps) -> Tensor:
    """Of the last layer: ``[S * directions, N, h]``."""
    first = encoders[0]
    cell: Cell = LstmCell() if isinstance(first, nn.LSTM) else GruCell()
    directions = ("", "_reverse")[: 2 if first.bidirectional else 1]
    index = words.flatten()[steps.tokens[: len(directions)]]  # [directions, N] rows of the table
    for layer in range(first.num_layers):
        weights = [
            torch.stack([getattr(e, f"{name}_l{layer}{end}") for e in encoders for end in directions])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        hidden = _Layer.apply(tables, *weights, _Reading(index, steps, cell))  # [S * directions, N, h]
        if layer + 1 < first.num_layers:
            tables, index = _next_inputs(hidden, steps, len(directions))
            tables = nn.functional.dropout(tables, first.dropout, first.training)
    return hidden


def _next_inputs(hidden: Tensor, steps: TimeSteps, directions: int) -> tuple[Tensor, Tensor]:
    """What the next layer reads: ``[S, N, directions * h]``, both directions of a token side by side, and the index."""
    numbers = torch.arange(steps.count)
    if directions == 1:
        return hidden, numbers[None]
    forward, backward = hidden.unflatten(0, (-1, 2)).unbind(1)
    return torch.cat([forward, _Mirror.apply(backward, steps.mirrored)], dim=2), torch.stack([numbers, steps.mirrored])


@dataclass(frozen=True)
class _Reading:
    """What a layer reads in which order."""

    index: Tensor  # int64 [directions, N] rows of the tables
    steps: TimeSteps
    cell: Cell


class _Layer(torch.autograd.Function):
    """All lanes of a layer: L = S * directions, whose M tables (1, or S) are the inputs."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        tables: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        reading: _Reading,
    ) -> Tensor:
        index, steps, cell = reading.index, reading.steps, reading.cell
        lanes, width, _ = weight_ih.shape
        count, size, _ = tables.shape
        per_table = lanes // count
        inputs = scaled(weight_ih, cell.gates, -2).view(count, per_table * width, -1)
        bias = scaled(cell.input_bias(bias_ih, bias_hh), cell.gates, -2).view(count, per_table * width)
        projected = batched_product(tables, inputs, bias).view(-1, width)  # [M * U * L/M, gates h]
        lane = torch.arange(lanes)[:, None]
        of_lane = index.repeat(lanes // len(index), 1)  # [L, N]
        places = (lane // per_table * size + of_lane) * per_table + lane % per_table
        gates = projected.index_select(0, steps.blocks(places))
        del projected
        recurrent, recurrent_bias = (scaled(weights, cell.gates, -2) for weights in (weight_hh, bias_hh))
        hidden, *saved = cell.forward(gates, recurrent, recurrent_bias, steps)
        ctx.save_for_backward(tables, weight_ih, weight_hh, places, hidden, *saved)
        ctx.reading = reading
        return hidden

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        tables, weight_ih, weight_hh, places, *saved = ctx.saved_tensors
        steps, cell = ctx.reading.steps, ctx.reading.cell
        lanes, width, _ = weight_ih.shape
        count, size, _ = tables.shape
        of_gates, of_candidates = cell.backward(
            slopes[0].clone(), tuple(saved), scaled(weight_hh, cell.gates, 4), steps
        )
        before = saved[0].index_select(1, steps.previous)
        of_weight_hh = batched_product(of_gates[:, steps.alive[0] :].transpose(1, 2), before.transpose(1, 2))
        if of_candidates is not None:
            of_candidate_bias = of_gates[:, :, -of_candidates.shape[2] :].sum(1)
            of_gates[:, :, -of_candidates.shape[2] :] = of_candidates
        projected = of_gates.new_zeros(size * lanes, width)
        projected.index_add_(0, places.flatten(), of_gates.flatten(0, 1))
        projected = projected.view(count, size, -1)  # [M, U, L/M * gates h]
        of_tables = None
        if ctx.needs_input_grad[0]:
            inputs = scaled(weight_ih, cell.gates, 4).view(count, projected.shape[2], -1)
            of_tables = batched_product(projected, inputs.transpose(1, 2))
        of_weight_ih = batched_product(projected.transpose(1, 2), tables.transpose(1, 2)).view(lanes, width, -1)
        of_bias_ih = of_bias_hh = projected.sum(1).view(lanes, width)
        if of_candidates is not None:
            of_bias_hh = torch.cat([of_bias_ih[:, : -of_candidates.shape[2]], of_candidate_bias], dim=1)
        gradients = (of_weight_ih, of_weight_hh, of_bias_ih, of_bias_hh)
        return of_tables, *(in_module_order(gradient, cell.gates) for gradient in gradients), None


class _Mirror(torch.autograd.Function):
    """Tokens ``[S, N, h]`` in an order that is its own inverse; so the gradient's is the same one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mirrored: Tensor) -> Tensor:
        ctx.save_for_backward(mirrored)
        return x.index_select(1, mirrored)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return slopes[0].index_select(1, ctx.saved_tensors[0]), None
