"""Recurrences over real tokens: equal to the cells' equations and to the stock modules, in value and gradient."""

import json
import math

import pytest
import torch
from torch import nn

from sentemb.forward import StackedEncoder, TrainingEncoder, recurrent
from sentemb.forward.recurrent import (
    TimeSteps,
    choice,
    library_recurrence,
    packed,
    packed_recurrence,
    padded_recurrence,
    readout_of,
    recurrence_form,
    stacked_recurrence,
)
from tests.devices import DEVICE
from tests.forward.test_forward import features_of

LENGTHS = torch.tensor([3, 8, 1, 5, 8, 2])
KINDS = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
CPU = torch.device("cpu")


def network(kind, layers=1, bidirectional=True, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return kind(7, 5, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout).double()


def words_and_table(tables=1):
    draw = torch.Generator().manual_seed(1)
    words = torch.randint(9, (len(LENGTHS), 8), generator=draw)
    return words, torch.randn(tables, 9, 7, generator=draw, dtype=torch.double).requires_grad_()


def stock(encoder, x, lengths):
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(encoder(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def values_and_gradients(outputs, variables):
    """Of a weighted sum of all outputs, so that each number has a gradient of its own."""
    weighted = [(y * (torch.arange(y.numel()).view_as(y) + k).cos()).sum() for k, y in enumerate(outputs)]
    return [*outputs, *torch.autograd.grad(torch.stack(weighted).sum(), variables)]


def assert_equal(got, expected, atol=1e-10):
    assert len(got) == len(expected) > 0
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=atol)


def logistic(a):
    return 1 / (1 + math.exp(-a))


def one_step(encoder, suffix, x, h, c):
    """A step of one row by the equations, in Python numbers; weights are PyTorch's, gates i, f, g, o or r, z, n."""
    weight_ih, weight_hh, bias_ih, bias_hh = (
        getattr(encoder, f"{name}_l0{suffix}").tolist() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    inputs = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight_ih, bias_ih, strict=True)]
    states = [sum(w * v for w, v in zip(row, h, strict=True)) + b for row, b in zip(weight_hh, bias_hh, strict=True)]
    size = len(h)
    new_h, new_c = [], []
    for k in range(size):
        if isinstance(encoder, nn.LSTM):
            i, f, g, o = (inputs[k + gate * size] + states[k + gate * size] for gate in range(4))
            new_c.append(logistic(f) * c[k] + logistic(i) * math.tanh(g))
            new_h.append(logistic(o) * math.tanh(new_c[k]))
        else:
            r, z = (logistic(inputs[k + gate * size] + states[k + gate * size]) for gate in range(2))
            n = math.tanh(inputs[k + 2 * size] + r * states[k + 2 * size])
            new_h.append((1 - z) * n + z * h[k])
            new_c.append(0.0)
    return new_h, new_c


@KINDS
def test_one_layer_follows_the_equations_step_by_step(kind):
    encoder = network(kind)
    words, table = words_and_table()
    got = packed_recurrence(encoder, table[0], words, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert (got[row, length:] == 0).all()
        for suffix, order, part in (("", range(length), slice(5)), ("_reverse", range(length)[::-1], slice(5, 10))):
            h, c = [0.0] * 5, [0.0] * 5
            for step in order:
                h, c = one_step(encoder, suffix, table[0, words[row, step]].tolist(), h, c)
                assert got[row, step, part].tolist() == pytest.approx(h, abs=1e-12)


@KINDS
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_values_and_gradients_are_the_stock_modules(kind, layers, bidirectional):
    encoder = network(kind, layers, bidirectional)
    words, table = words_and_table()
    variables = [table, *encoder.parameters()]
    got = values_and_gradients([packed_recurrence(encoder, table[0], words, LENGTHS)], variables)
    assert_equal(got, values_and_gradients([stock(encoder, table[0][words], LENGTHS)], variables))


@KINDS
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_library_form_has_the_values_and_gradients_of_the_stock_modules(kind, layers, bidirectional):
    encoder = network(kind, layers, bidirectional)
    words, table = words_and_table()
    lookup = nn.Embedding(9, 7, _weight=table[0].detach().clone())
    variables = [lookup.weight, *encoder.parameters()]
    got = values_and_gradients([library_recurrence(encoder, lookup, words, LENGTHS.numpy())], variables)
    assert_equal(got, values_and_gradients([stock(encoder, lookup(words), LENGTHS)], variables))


@KINDS
def test_the_library_form_drops_between_layers_by_the_seed_of_the_step(kind):
    encoder = network(kind, 2, dropout=0.5)
    words, table = words_and_table()
    lookup = nn.Embedding(9, 7, _weight=table[0].detach().clone())

    def seeded(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return library_recurrence(encoder, lookup, words, LENGTHS.numpy())

    first = seeded(3)
    assert torch.equal(seeded(3), first) and not torch.equal(seeded(4), first)
    encoder.eval()
    assert_equal([seeded(5)], [stock(encoder, lookup(words), LENGTHS)])


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("spec", ["rnn:hidden=4", "rnn:hidden=4,cell=gru,layers=2,bidirectional=false,pooling=final"])
def test_encoders_alone_and_stacked_take_the_library_form(spec, with_lengths, encoder, monkeypatch):
    model = encoder(spec)
    features = features_of(model)
    if with_lengths:  # what the host knows is not asked of the device
        features = features | {"lengths": features["sentence_lengths"].cpu().numpy()}
    monkeypatch.setattr("sentemb.forward.encoder.recurrence_form", lambda *_: "packed")
    expected = TrainingEncoder(model)(features)
    for module in ("encoder", "stacked"):
        monkeypatch.setattr(f"sentemb.forward.{module}.recurrence_form", lambda *_: "library")
    training = TrainingEncoder(model)
    for got in (training(features), StackedEncoder([training])(features)[0]):
        assert torch.allclose(got, expected, rtol=0, atol=1e-6)
    assert training.recurrence == "library"


@KINDS
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("tables", [1, 3])
@pytest.mark.parametrize("cached", [1, 130, 10**6])  # one by one, two at a time, all at once
def test_a_stack_gives_each_encoder_what_it_gets_alone(kind, layers, bidirectional, tables, cached, monkeypatch):
    monkeypatch.setattr(packed, "CACHED_NUMBERS", cached)
    encoders = [network(kind, layers, bidirectional, seed=seed) for seed in range(3)]
    words, table = words_and_table(tables)
    variables = [table, *(weight for encoder in encoders for weight in encoder.parameters())]
    got = values_and_gradients(stacked_recurrence(encoders, table, words, LENGTHS), variables)
    alone = [stock(e, table[k % tables][words], LENGTHS) for k, e in enumerate(encoders)]
    assert_equal(got, values_and_gradients(alone, variables))


@KINDS
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("tables", [1, 2])
def test_means_and_final_states_are_those_of_the_tokens(kind, bidirectional, tables):
    encoders = [network(kind, 2, bidirectional, seed=seed) for seed in range(2)]
    words, table = words_and_table(tables)
    lengths = LENGTHS.clone()
    lengths[2] = 0
    variables = [table, *(weight for encoder in encoders for weight in encoder.parameters())]
    is_token = torch.arange(8) < lengths[:, None]

    def mean(states):
        return (states * is_token[:, :, None]).sum(1) / lengths.clamp(min=1)[:, None]

    def final(states):
        last = states[torch.arange(len(lengths)), lengths.clamp(min=1) - 1]
        return torch.cat([last[:, :5], states[:, 0, 5:]], dim=1) * (lengths > 0)[:, None]

    for readout, pool in (("mean", mean), ("final", final)):
        got = values_and_gradients(stacked_recurrence(encoders, table, words, lengths, readout), variables)
        states = [stock(e, table[k % tables][words], lengths.clamp(min=1)) for k, e in enumerate(encoders)]
        assert_equal(got, values_and_gradients([pool(each) for each in states], variables))


@pytest.mark.parametrize(
    ("spec", "readout"),
    [
        ("rnn:hidden=4", "mean"),
        ("rnn:hidden=4,pooling=max", "tokens"),
        ("rnn:hidden=4,pooling=mean+max", "tokens"),
        ("rnn:hidden=4,cell=gru,pooling=final", "final"),
        ("rnn:hidden=4,bidirectional=no,pooling=last", "final"),
    ],
)
def test_poolings_that_read_out_by_themselves_are_not_run_again(spec, readout, encoder):
    model = encoder(spec).cpu()
    assert readout_of(model[2], model[1].encoder.bidirectional) == readout
    assert readout_of(None, True) == "tokens"
    features = {name: value.cpu() for name, value in features_of(model, ["", "a b c", "d"]).items()}
    got = TrainingEncoder(model)(features)
    for stacked in StackedEncoder([TrainingEncoder(model)] * 2)(features):
        assert torch.allclose(stacked, got, rtol=0, atol=1e-6)
    assert torch.allclose(got, torch.from_numpy(model.encode(["", "a b c", "d"])), rtol=0, atol=1e-6)


@KINDS
def test_gradients_pass_gradcheck(kind):
    encoder = network(kind)
    words, tables = words_and_table()
    table = tables[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: packed_recurrence(encoder, t, words, LENGTHS), (table,))


@KINDS
def test_an_empty_row_reads_its_first_padding_as_the_stock_module_has_it(kind):
    encoder = network(kind)
    words, table = words_and_table()
    lengths = LENGTHS.clone()
    lengths[2] = 0
    got = packed_recurrence(encoder, table[0], words, lengths)
    assert torch.allclose(got, stock(encoder, table[0][words], lengths.clamp(min=1)), rtol=0, atol=1e-12)


@KINDS
def test_dropout_between_layers_drops_the_named_share_and_scales_the_rest(kind):
    encoder = network(kind, 2, dropout=0.25)
    seen = []

    def dropout(x, p, training):
        seen.append((p, training, x.shape))
        return x

    words, table = words_and_table()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "dropout", dropout)
        packed_recurrence(encoder, table[0], words, LENGTHS)
        packed_recurrence(encoder.eval(), table[0], words, LENGTHS)
    tokens = int(LENGTHS.sum())
    assert seen == [(0.25, True, (1, tokens, 10)), (0.25, False, (1, tokens, 10))]
    encoder.train()
    first, second = (packed_recurrence(encoder, table[0], words, LENGTHS) for _ in range(2))
    assert not torch.equal(first, second)


def test_time_steps_hold_each_token_once_in_the_order_of_its_direction():
    steps = TimeSteps.of(torch.tensor([2, 3, 1]), 4)
    assert steps.alive == [3, 2, 1] and steps.starts == [0, 3, 5] and steps.count == 6
    # rows by length: 1, 0, 2, whose tokens lie from 4, 0 and 8 on
    assert steps.tokens.tolist() == [[4, 0, 8, 5, 1, 6], [6, 1, 8, 5, 0, 4]]
    assert steps.tokens[0][steps.mirrored].tolist() == steps.tokens[1].tolist()
    assert steps.previous.tolist() == [0, 1, 3]
    assert steps.order.tolist() == [1, 0, 2] and steps.counts.tolist() == [3, 2, 1] and steps.last.tolist() == [5, 4, 2]
    assert steps.blocks(torch.arange(12).view(2, 6)).tolist() == [0, 1, 2, 6, 7, 8, 3, 4, 9, 10, 5, 11]


@KINDS
def test_words_that_occur_often_are_projected_once(kind, monkeypatch):
    encoder = network(kind)
    shapes, product = [], torch.baddbmm
    monkeypatch.setattr(torch, "baddbmm", lambda bias, a, b: shapes.append(a.shape) or product(bias, a, b))
    words, table = words_and_table()
    packed_recurrence(encoder, table[0], words, LENGTHS)
    assert shapes[0] == (1, 9, 7)  # 27 tokens of 9 words


@pytest.mark.parametrize(
    "spec", ["rnn:hidden=4", "rnn:hidden=4,cell=gru,layers=2", "rnn:hidden=4,embeddings=random,dim=5,vocabulary=270"]
)
def test_a_training_forward_is_the_models_own_and_takes_the_packed_form(spec, encoder):
    model = encoder(spec)
    features = features_of(model)
    training = TrainingEncoder(model)
    got = training(features)
    assert training.recurrence == ("packed" if DEVICE.type == "cpu" else "library")
    expected = model({name: value.clone() for name, value in features.items()})["sentence_embedding"]
    assert torch.allclose(got, expected, rtol=0, atol=1e-6)


def test_float32_is_always_packed_and_lower_precisions_are_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path))
    measured = []
    seconds = {"packed": 2.0, "padded": 1.0}
    monkeypatch.setattr(choice, "measured", lambda *arguments: measured.append(arguments) or seconds)
    choice._remembered.cache_clear()
    encoder = network(nn.LSTM).float()
    assert recurrence_form(encoder, CPU) == "packed" and not measured
    assert recurrence_form(encoder, torch.device("cuda")) == "library" and not measured
    for _ in range(2):
        choice._remembered.cache_clear()  # as a second process
        with torch.autocast("cpu", torch.bfloat16):
            assert recurrence_form(encoder, CPU) == "padded"
    assert measured == [("LSTM", (7, 5, 1, 1))]
    (path,) = (tmp_path / "recurrence").glob("*.json")
    assert json.loads(path.read_text())["choice"] == "padded"
    path.write_text("null")  # damaged: it is measured again
    choice._remembered.cache_clear()
    seconds["padded"] = 3.0
    with torch.autocast("cpu", torch.bfloat16):
        assert recurrence_form(encoder, CPU) == "packed"
    choice._remembered.cache_clear()


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_both_forms_can_be_measured(precision):
    with torch.no_grad(), torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        seconds = choice.measured("GRU", (6, 4, 1, 1), rounds=1)
    assert set(seconds) == set(recurrent.FORMS) and all(value > 0 for value in seconds.values())


@KINDS
def test_under_autocast_the_packed_form_computes_in_float32(kind):
    encoder = network(kind).float()
    words, table = words_and_table()
    table = table.detach().float()
    expected = packed_recurrence(encoder, table[0], words, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        got = packed_recurrence(encoder, table[0].bfloat16(), words, LENGTHS)
        lower = padded_recurrence(encoder, table[0][words], LENGTHS)
    assert got.dtype == torch.float32 and (got - expected).abs().max() < 0.01
    assert lower.dtype == torch.bfloat16
