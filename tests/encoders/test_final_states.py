"""Pooling by final states equals the recurrences' equations, step by step; poolings side by side are those alone."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from sentemb.encoders import load, tokenizer_of
from sentemb.encoders.final_states import FinalStates
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, collate_tokens
from tests.conftest import SENTENCES
from tests.devices import DEVICE, SINGLE, numbers, tensor

EXACT = 1e-10
TEXTS = [*SENTENCES, "", "Rain."]  # of many lengths
TABLE = "embeddings=random,vocabulary=280,dim=5"


def lstm_step(x: Tensor, h: Tensor, c: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber 1997, with a forget gate (Gers et al. 2000): gates in the order i, f, g, o."""
    i, f, g, o = (w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(x: Tensor, h: Tensor, c: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Cho et al. 2014, with the reset gate behind the product: gates in the order r, z, n."""
    of_x, of_h = w["weight_ih"] @ x + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
    (r_x, z_x, n_x), (r_h, z_h, n_h) = of_x.chunk(3), of_h.chunk(3)
    z = torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + z * h, c


def read(xs: list[Tensor], step, w: dict[str, Tensor], hidden: int) -> tuple[list[Tensor], Tensor]:
    """The states after each of ``xs``, and the one in which a direction ends."""
    h, c, states = xs[0].new_zeros(hidden), xs[0].new_zeros(hidden), []
    for x in xs:
        h, c = step(x, h, c, w)
        states.append(h)
    return states, h


def final_states(encoder: torch.nn.LSTM | torch.nn.GRU, xs: list[Tensor]) -> Tensor:
    """Of the top layer, one sentence's embeddings given."""
    step = lstm_step if isinstance(encoder, torch.nn.LSTM) else gru_step
    for layer in range(encoder.num_layers):
        ends, columns = [], []
        for suffix in ("", "_reverse")[: 1 + encoder.bidirectional]:
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = {name: getattr(encoder, f"{name}_l{layer}{suffix}") for name in names}
            states, end = read(xs[::-1] if suffix else xs, step, weights, encoder.hidden_size)
            columns.append(states[::-1] if suffix else states)
            ends.append(end)
        xs = [torch.cat(states) for states in zip(*columns, strict=True)]
    return torch.cat(ends)


def features_of(model: SentenceTransformer, texts: list[str], length: int):
    tokenizer = tokenizer_of(model)
    tokenizer.enable_truncation(length)
    rows = [np.array(encoded.ids, dtype=np.int64) for encoded in tokenizer.encode_batch_fast(texts)]
    return rows, {name: value.to(DEVICE) for name, value in collate_tokens(model, rows).items()}


@numbers
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_final_states_are_those_of_the_equations(cell, layers, bidirectional, encoder):
    spec = f"rnn:cell={cell},hidden=4,layers={layers},bidirectional={bidirectional},pooling=final,gain=3,{TABLE}"
    model = encoder(spec, max_length=6).double().eval().to(DEVICE)
    rows, features = features_of(model, TEXTS, 6)
    lengths = {len(row) for row in rows}
    assert {0, 6} <= lengths and len(lengths) > 3  # empty, cut, ragged
    table = model[0].emb_layer.weight
    with torch.no_grad():
        expected = [final_states(model[1].encoder, [table[i] for i in row]) if len(row) else None for row in rows]
        expected = torch.stack([torch.zeros_like(expected[0]) if each is None else each for each in expected])
        trained = TrainingEncoder(model)(features)
        encoded = model.encode(TEXTS, convert_to_tensor=True)
    assert expected.abs().max() > 0.1 and expected.shape == (len(TEXTS), 8 if bidirectional else 4)
    assert (trained - expected).abs().max() < EXACT
    assert (encoded.to(DEVICE) - expected).abs().max() < EXACT


@numbers
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_of_final_states_are_those_of_the_equations(cell, encoder):
    model = encoder(f"rnn:cell={cell},hidden=4,layers=2,pooling=final,{TABLE}").double().train().to(DEVICE)
    rows, features = features_of(model, TEXTS, 12)
    table, weights = model[0].emb_layer.weight, [p for p in model.parameters() if p.requires_grad]
    slow = sum(final_states(model[1].encoder, [table[i] for i in row]).pow(3).sum() for row in rows if len(row))
    expected = torch.autograd.grad(slow, weights)
    got = torch.autograd.grad(TrainingEncoder(model)(features).pow(3).sum(), weights)
    assert all(slope.abs().max() > 0 for slope in expected)
    assert all((a - b).abs().max() < EXACT for a, b in zip(got, expected, strict=True))


@numbers
def test_what_stands_at_padding_does_not_matter():
    states, mask = torch.randn(3, 4, 6).to(DEVICE), tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    states[mask == 0] = float("nan")
    got = FinalStates(6)({"token_embeddings": states, "attention_mask": mask})["sentence_embedding"]
    assert torch.equal(got[0], torch.cat([states[0, 3, :3], states[0, 0, 3:]]))
    assert torch.equal(got[1], torch.cat([states[1, 1, :3], states[1, 0, 3:]]))
    assert torch.equal(got[2], torch.zeros(6, device=DEVICE))
    with pytest.raises(ValueError, match="even number"):
        FinalStates(5)


def test_a_bidirectional_checkpoint_loads_with_sentemb_or_trusted(encoder, tmp_path):
    model = encoder(f"rnn:hidden=4,pooling=final,{TABLE}")
    model.save(str(tmp_path), create_model_card=False)
    types = [row["type"].rpartition(".")[2] for row in json.loads((tmp_path / "modules.json").read_text())]
    assert types == ["WordEmbeddings", "LSTM", "FinalStates"]
    for again in (load(tmp_path), SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)):
        assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))
        assert again.get_embedding_dimension() == 8


def test_last_and_final_are_one_thing_in_one_direction(encoder):
    last, final = (
        encoder(f"rnn:hidden=4,bidirectional=no,pooling={pooling},{TABLE}").encode(TEXTS)
        for pooling in ("last", "final")
    )
    assert np.array_equal(last, final) and np.array_equal(final[6], np.zeros(4)) and np.abs(final).max() > 0


@pytest.mark.parametrize(
    ("start", "first", "second"),
    [
        (f"rnn:hidden=4,{TABLE},pooling=", "max", "mean"),
        (f"rnn:hidden=4,bidirectional=no,{TABLE},pooling=", "final", "mean"),
        ("transformer:name=TINY,pooling=", "cls", "mean"),
    ],
)
def test_poolings_side_by_side_are_those_alone(start, first, second, encoder, tmp_path):
    both = encoder(f"{start}{first}+{second}").eval()
    alone = [encoder(start + name).encode(SENTENCES) for name in (first, second)]
    if first == "max":  # whose sentences begin with [CLS]
        model = encoder(start + first)
        model[2].pooling_mode = "mean"
        alone[1] = model.encode(SENTENCES)
    assert np.abs(both.encode(SENTENCES) - np.concatenate(alone, axis=1)).max() < 1e-6
    both.save(str(tmp_path), create_model_card=False)
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.abs(again.encode(SENTENCES) - both.encode(SENTENCES)).max() < 1e-6
    with torch.no_grad():
        trained = TrainingEncoder(both.to(DEVICE))(features_of(both, SENTENCES, 12)[1])
    assert np.abs(trained.cpu().numpy() - again.encode(SENTENCES)).max() < SINGLE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("pooling=last", "choose final"),
        ("pooling=max+final", "stands alone"),
        ("pooling=mean+mean", "one pooling twice"),
        ("pooling=mean+", "unknown pooling ''"),
        ("pooling=last+final,bidirectional=no", "one pooling twice"),
        ("embeddings=minilm,init_range=0.1", "init_range is for embeddings=random"),
        ("embeddings=random,init_range=-1", "init_range must be a number that is not negative, got -1.0"),
    ],
)
def test_impossible_options_are_refused(options, message, encoder):
    with pytest.raises(InputError, match=message):
        encoder(f"rnn:hidden=4,{options}")


def test_init_range_is_that_of_random_embeddings(encoder):
    table = encoder(f"rnn:hidden=4,init_range=0.1,{TABLE}")[0].emb_layer.weight
    assert table.requires_grad and table.abs().max() <= 0.1
    assert table.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05) and abs(table.mean().item()) < 0.01
