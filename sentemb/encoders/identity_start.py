"""Recurrent encoders that begin as averaged word embeddings: the forward units copy their input."""

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import LSTM
from torch import Tensor, nn

from sentemb.geometry import principal_directions

OPEN = 4.0  # a gate's bias: sigmoid(4) = 0.982 of its value passes, sigmoid(-4) = 0.018
# By torch's order of gates. LSTM: input, forget, cell, output; GRU: reset, update, new. The update gate is the share of
# the state before.
BIASES: dict[type[nn.Module], tuple[Sequence[float], int]] = {
    nn.LSTM: ((OPEN, -OPEN, 0.0, OPEN), 2),  # biases, and which of the gates computes the new values
    nn.GRU: ((0.0, -OPEN, 0.0), 2),
}


@torch.no_grad()
def start_as_identity(recurrent: LSTM, table: Tensor, gain: float = 1.0) -> None:
    """Let the forward units of each layer begin as a copy of their input, so that states hold the words from the start.

    A unit's input and output gates are open, its forget gate is shut, and its new value is tanh(gain * x), which is
    about gain * x for small numbers. So the mean of the forward states begins as about ``gain`` times the mean of the
    word embeddings. The backward units begin at random. All weights are trained, and the modules stay stock ones.

    Args:
        recurrent: the stock LSTM module, or :class:`sentemb.encoders.gru.GRU`; changed in place.
        table: float ``[vocabulary, d]``, the word embeddings. Where there are fewer forward units than ``d``, they copy
            the table's first principal components; where there are more, the others begin at random.
        gain: what the input is multiplied by.

    Source: the recurrent matrix of Le et al. 2015 (arXiv 1504.00941) begins as the identity; here the input's does.
    """
    encoder = recurrent.encoder
    biases, new = next(value for cell, value in BIASES.items() if isinstance(encoder, cell))
    for layer in range(encoder.num_layers):
        weight = getattr(encoder, f"weight_ih_l{layer}")
        units = min(encoder.hidden_size, weight.shape[1])
        copied = _directions(table, units) if layer == 0 else torch.eye(units, weight.shape[1])
        for gate, bias in enumerate(biases):
            rows = slice(gate * encoder.hidden_size, gate * encoder.hidden_size + units)
            weight[rows] = (gain if layer == 0 else 1.0) * copied if gate == new else torch.zeros(())
            getattr(encoder, f"weight_hh_l{layer}")[rows] = 0
            getattr(encoder, f"bias_ih_l{layer}")[rows] = bias
            getattr(encoder, f"bias_hh_l{layer}")[rows] = 0


def _directions(table: Tensor, units: int) -> Tensor:
    """float32 ``[units, d]``: the axes, or the principal directions of a table of more dimensions than units."""
    if units == table.shape[1]:
        return torch.eye(units)
    rows = table.detach().double().numpy()
    centred = rows - rows.mean(axis=0)
    return torch.from_numpy(principal_directions(centred.T @ centred, units).T.astype(np.float32))
