"""Recurrent encoders whose forward units begin as a copy of their input."""

import numpy as np
import pytest
import torch

from sentemb.encoders import load
from sentemb.errors import InputError
from tests.conftest import SENTENCES

TABLE = "embeddings=random,vocabulary=280,dim=6"
SMALL = 0.01  # of a table's numbers: tanh is the identity there


def states(model, ids):
    """Of both directions ``[tokens, 2, hidden]``, of small word embeddings; and the words ``[tokens, d]``."""
    words = SMALL * model[0].emb_layer.weight.detach()[ids]
    with torch.no_grad():
        return model[1].encoder(words[None])[0][0].view(len(ids), 2, -1), words


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_forward_states_begin_as_the_words(cell, layers, encoder):
    model = encoder(f"rnn:cell={cell},hidden=6,layers={layers},start=identity,{TABLE}")
    both, words = states(model, [5, 9, 5, 40])
    passing = torch.sigmoid(torch.tensor(4.0)) ** (2 if cell == "lstm" else 1)
    carried = words.clone()
    for _ in range(layers):  # each layer by hand: the new values pass, 0.018 of the state before stays
        state = torch.zeros(6)
        for step, word in enumerate(carried.clone()):
            if cell == "lstm":
                gate = torch.sigmoid(torch.tensor(4.0))
                state = (1 - gate) * state + gate * word
                carried[step] = gate * state
            else:
                state = torch.sigmoid(torch.tensor(-4.0)) * state + passing * word
                carried[step] = state
    assert torch.allclose(both[:, 0], carried, rtol=0.01, atol=1e-6)
    assert torch.allclose(both[:, 0].mean(0), words.mean(0), atol=0.1 * float(words.abs().max()))
    assert not torch.allclose(both[:, 1], words, atol=0.3 * float(words.abs().max()))  # the backward ones do not


def test_fewer_units_copy_the_first_principal_components(encoder):
    model = encoder(f"rnn:hidden=3,start=identity,gain=0.5,{TABLE}")
    table = model[0].emb_layer.weight.detach().double().numpy()
    centred = table - table.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:3]
    copied = model[1].encoder.weight_ih_l0.detach().numpy()[6:9]  # the third gate: the new values
    assert np.abs(np.abs(np.sum(copied * directions, axis=1)) - 0.5).max() < 1e-4


def test_more_units_than_dimensions_leave_the_others_at_random(encoder):
    model = encoder(f"rnn:hidden=8,start=identity,{TABLE}")
    weight = model[1].encoder.weight_ih_l0.detach()
    assert torch.equal(weight[16:22], torch.eye(6))
    assert bool((weight[22:24] != 0).all()) and bool((weight[6:8] != 0).all())


def test_such_a_checkpoint_is_stock(encoder, tmp_path):
    model = encoder(f"rnn:hidden=6,start=identity,{TABLE}")
    model.save(str(tmp_path / "model"))
    assert "sentemb" not in (tmp_path / "model" / "modules.json").read_text()
    assert np.abs(load(tmp_path / "model").encode(SENTENCES) - model.encode(SENTENCES)).max() < 1e-6


def test_an_unknown_start_is_named(encoder):
    with pytest.raises((InputError, ValueError), match="start.*identity"):
        encoder("rnn:start=zeros")
