"""Embeddings of a transformer's layers: the first and the last one as a pooling, any one of a finished model."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from sentemb.encoders import at_layer, freeze_unused, load, truncated
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, collate_tokens
from tests.conftest import SENTENCES
from tests.devices import DEVICE, SINGLE, normal, numbers, tensor

COUNT = 2  # layers of the little BERT
LAYERS = {**{layer: (layer,) for layer in range(COUNT + 1)}, "first_last": (1, COUNT)}


def layer_means(model: SentenceTransformer, layers: tuple[int, ...]) -> torch.Tensor:
    """A sentence, a token and a layer after another: ``[n, d]``."""
    transformer, rows = model[0].auto_model, []
    for text in SENTENCES:
        ids = tensor(model[0].tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"])
        states = transformer(input_ids=ids[None], output_hidden_states=True).hidden_states
        tokens = [sum(states[layer][0, place] for layer in layers) / len(layers) for place in range(len(ids))]
        rows.append(sum(tokens) / len(tokens))
    return torch.stack(rows).detach()


@numbers
@pytest.mark.parametrize("layer", LAYERS)
def test_the_embedding_of_a_layer_is_the_mean_of_its_token_states(layer, encoder, bert):
    model = encoder(f"transformer:name={bert},pooling=cls,out=3").to(DEVICE)
    before = model.encode(SENTENCES)
    made = at_layer(model, layer)
    expected = layer_means(model, LAYERS[layer])
    assert torch.allclose(tensor(made.encode(SENTENCES)), expected, atol=SINGLE)
    assert made.get_embedding_dimension() == 16
    assert torch.equal(tensor(truncated(made, 5).encode(SENTENCES)), tensor(made.encode(SENTENCES))[:, :5])
    assert np.array_equal(model.encode(SENTENCES), before) and model.get_embedding_dimension() == 3
    assert not model[0].auto_model.config.output_hidden_states
    mine, its = (dict(each[0].named_parameters()) for each in (model, made))
    assert all(mine[name].data_ptr() == its[name].data_ptr() for name in mine)  # no weight is there twice


@numbers
def test_layers_of_one_text_differ(encoder, bert):
    model = encoder(f"transformer:name={bert}").to(DEVICE)
    embeddings = {layer: tensor(at_layer(model, layer).encode(SENTENCES)) for layer in LAYERS}
    assert torch.allclose(embeddings[COUNT], tensor(model.encode(SENTENCES)), atol=SINGLE)
    assert torch.allclose(embeddings["first_last"], (embeddings[1] + embeddings[COUNT]) / 2, atol=SINGLE)
    assert min((embeddings[a] - embeddings[b]).abs().max() for a in range(COUNT) for b in range(a + 1, COUNT + 1)) > 0.1


@numbers
def test_first_and_last_pooling_and_its_slopes_are_the_formulas(encoder, bert):
    model = encoder(f"transformer:name={bert},pooling=first_last,dropout=0").double().to(DEVICE)
    rows = [np.array([2, 9, 10, 3]), np.array([2, 11, 3])]
    weights = normal(2, 16)
    features = {name: value.to(DEVICE) for name, value in collate_tokens(model, rows).items()}
    trained = TrainingEncoder(model)
    assert trained.attention == "packed"
    embeddings = trained(features)
    (embeddings * weights).sum().backward()
    slopes = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    expected = []
    for row in rows:
        states = model[0].auto_model(input_ids=tensor(row)[None], output_hidden_states=True).hidden_states
        expected.append(((states[1][0] + states[-1][0]) / 2).mean(dim=0))
    (torch.stack(expected) * weights).sum().backward()
    assert torch.allclose(embeddings, torch.stack(expected), atol=1e-9)
    again = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert slopes.keys() == again.keys()
    assert all(torch.allclose(slopes[name], again[name], atol=1e-9) for name in slopes)


def test_the_weights_of_first_and_last_are_not_trained_even_of_a_loaded_model(encoder, bert, tmp_path):
    model = encoder(f"transformer:name={bert},pooling=first_last")
    model.save(str(tmp_path / "model"), create_model_card=False)
    types = [row["type"].split(".")[-1] for row in json.loads((tmp_path / "model" / "modules.json").read_text())]
    assert types == ["Transformer", "WeightedLayerPooling", "Pooling"]
    loaded = load(tmp_path / "model", device="cpu")
    freeze_unused(loaded)
    for each in (model, loaded):
        assert each[1].layer_weights.tolist() == [0, 1, 1] and not each[1].layer_weights.requires_grad
    stock = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert np.abs(stock.encode(SENTENCES) - model.encode(SENTENCES)).max() < 1e-6


def test_last_pooling_is_the_last_tokens_state(encoder, bert):
    model = encoder(f"transformer:name={bert},pooling=last")
    for text, embedding in zip(SENTENCES, model.encode(SENTENCES), strict=True):
        ids = torch.tensor(model[0].tokenizer(text, truncation=True, max_length=12)["input_ids"])
        expected = model[0].auto_model(input_ids=ids[None]).last_hidden_state[0, -1].detach().numpy()
        assert np.abs(embedding - expected).max() < SINGLE


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (3, "it has no layer 3; give 1 to 2"),
        (-1, "a layer is a whole number.*got -1"),
        ("first", "a layer is a whole number.*got 'first'"),
        (True, "a layer is a whole number.*got True"),
        (1.0, "a layer is a whole number.*got 1.0"),
    ],
)
def test_a_layer_that_is_not_there_is_one_sentence(layer, message, encoder, bert):
    with pytest.raises(InputError, match=message) as refused:
        at_layer(encoder(f"transformer:name={bert}"), layer)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spec", ["rnn:hidden=4,embeddings=random,dim=6,vocabulary=270", "static"])
def test_a_model_without_layers_says_so(spec, encoder):
    with pytest.raises(InputError, match="is not a transformer and has no layers"):
        at_layer(encoder(spec), 1)
