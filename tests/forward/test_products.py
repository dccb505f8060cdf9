"""Products by oneDNN: equal to torch's, in value and gradient, and taken only where it is much faster."""

import numpy as np
import pytest
import torch
from torch import nn

from sentemb.forward import TrainingEncoder, collate_tokens, hidden_states, products
from sentemb.forward.measured import remembered_choice
from sentemb.forward.products import add_product_, batched_product, quick_linear, uses_onednn
from sentemb.validation import CachedEncoder
from tests.conftest import SENTENCES

has_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this build of torch has no oneDNN",
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["blas", "onednn"])
def library(request, monkeypatch):
    if request.param == "onednn" and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(products, "product_library", lambda: request.param)
    return request.param


def test_batched_products_are_those_of_float64_also_of_transposed_matrices(library):
    a, b, bias = normal(3, 20, 11), normal(3, 7, 11, seed=1), normal(3, 7, seed=2)
    for x, y in ((a, b), (a.transpose(1, 2).contiguous().transpose(1, 2), b), (a[:, 3:9], b[:, ::2])):
        expected = torch.einsum("lnk,lmk->lnm", x.double(), y.double())
        assert torch.allclose(batched_product(x, y).double(), expected, atol=1e-5)
        added = batched_product(x, y, bias[:, : y.shape[1]])
        assert torch.allclose(added.double(), expected + bias[:, None, : y.shape[1]], atol=1e-5)
        out = normal(3, 40, y.shape[1], seed=3)
        other_rows, target = out[:, 30:].clone(), out[:, : x.shape[1]]
        before = target.clone().double()
        add_product_(target, x, y)
        assert torch.allclose(target.double(), before + expected, atol=1e-5)
        assert torch.equal(out[:, 30:], other_rows)
    assert batched_product(a[:, :0], b).shape == (3, 0, 7)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (1, 9, 6), (0, 6)])
def test_linear_layers_are_torchs_in_value_and_gradient(library, bias, shape):
    layer = nn.Sequential(nn.Linear(6, 4, bias=bias), nn.Tanh())
    x = normal(*shape).requires_grad_()
    expected = layer(x)
    variables = [x, *layer.parameters()]
    slopes = torch.autograd.grad(expected.square().sum(), variables)
    with quick_linear(layer):
        assert ("forward" in vars(layer[0])) == (library == "onednn")
        got = layer(x)
    assert "forward" not in vars(layer[0])
    assert got.shape == expected.shape and torch.allclose(got, expected, atol=1e-6)
    for a, b in zip(torch.autograd.grad(got.square().sum(), variables), slopes, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@has_onednn
def test_a_frozen_layer_gets_no_gradient_and_gives_one(monkeypatch):
    monkeypatch.setattr(products, "product_library", lambda: "onednn")
    layer = nn.Linear(6, 4).requires_grad_(False)
    x = normal(3, 6).requires_grad_()
    with quick_linear(layer):
        layer(x).sum().backward()
    assert layer.weight.grad is None and torch.allclose(x.grad, layer.weight.sum(0).expand(3, 6), atol=1e-6)


def test_only_float32_on_a_cpu_without_autocast_is_onednns(monkeypatch):
    monkeypatch.setattr(products, "product_library", lambda: "onednn")
    assert uses_onednn(torch.zeros(1))
    assert not uses_onednn(torch.zeros(1, dtype=torch.float64))
    assert not uses_onednn(torch.zeros(1, dtype=torch.bfloat16))
    assert not uses_onednn(torch.zeros(1, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_onednn(torch.zeros(1))


def test_a_bias_that_is_not_contiguous_is_read_as_it_is(library):
    layer = nn.Linear(4, 6)
    layer.bias = nn.Parameter(normal(12)[::2])
    x = normal(3, 4)
    expected = layer(x)
    with quick_linear(layer):
        assert torch.allclose(layer(x), expected, atol=1e-6)


@pytest.fixture
def onednn_calls(monkeypatch):
    """One entry for each product of oneDNN, which is the library that all choose."""
    calls = []
    product = products._onednn
    monkeypatch.setattr(products, "product_library", lambda: "onednn")
    monkeypatch.setattr(products, "_onednn", lambda *matrices: calls.append(1) or product(*matrices))
    return calls


@has_onednn
@pytest.mark.parametrize("attention", ["padded", "eager"])
def test_transformers_that_are_not_packed_use_the_faster_library_too(attention, encoder, onednn_calls):
    model = encoder("transformer:name=TINY").eval()
    ids = [np.array(model.tokenizer(text)["input_ids"]) for text in SENTENCES]
    features = collate_tokens(model, ids)
    expected = model(dict(features))["sentence_embedding"]
    states = model[0].auto_model(**features, output_hidden_states=True).hidden_states
    assert not onednn_calls
    assert torch.allclose(TrainingEncoder(model, attention=attention)(features), expected, atol=1e-5)
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    assert len(linear) == len(onednn_calls) > 0
    for state, other in zip(hidden_states(model[0], features, None), states, strict=True):
        assert torch.allclose(state, other, atol=1e-5)
    assert len(onednn_calls) == 2 * len(linear)


@has_onednn
def test_evaluation_uses_the_faster_library_too(encoder, onednn_calls):
    model = encoder("transformer:name=TINY")
    expected = model.encode(SENTENCES)
    assert not onednn_calls
    rows = CachedEncoder(model)(SENTENCES)
    assert onednn_calls and np.allclose(rows, expected, atol=1e-5)
    assert np.array_equal(CachedEncoder(model)(SENTENCES), rows)


@has_onednn
def test_both_libraries_can_be_measured():
    threads = torch.get_num_threads()
    seconds = products.measured(rounds=1)
    assert list(seconds) == list(products.LIBRARIES) and all(value >= 0 for value in seconds.values())
    assert torch.get_num_threads() == threads


def test_an_answer_needs_a_margin_and_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path))
    assert remembered_choice("which", ("close",), lambda: {"first": 1.2, "second": 1.0}, margin=1.3) == "first"
    assert remembered_choice("which", ("far",), lambda: {"first": 1.4, "second": 1.0}, margin=1.3) == "second"
    for margin in (1.0, 10.0):  # what is there is not measured again
        assert remembered_choice("which", ("far",), lambda: {"other": 0.0}, margin=margin) == "second"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "file"))  # nothing can be written there
    assert remembered_choice("which", ("far",), lambda: {"first": 2.0, "second": 3.0}) == "first"
