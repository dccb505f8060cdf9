"""A connection that skips the recurrence: the pooled word embeddings next to the pooled states."""

import json

import pytest
import torch

from sentemb.encoders import SkipPooling, load, mean_of_word_embeddings, tokenizer_of
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, collate_tokens
from tests.conftest import SENTENCES
from tests.devices import DEVICE, SINGLE, numbers, tensor

TABLE = "embeddings=random,vocabulary=280,dim=5"
TEXTS = [*SENTENCES, "", "Rain."]


@numbers
@pytest.mark.parametrize("poolings", ["mean", "max", "mean+max"])
def test_the_embedding_is_that_of_the_words_beside_that_of_the_states(poolings, encoder):
    model = encoder(f"rnn:hidden=4,pooling={poolings},skip={poolings},gain=3,{TABLE}").to(DEVICE)
    modes = poolings.split("+")
    table, recurrence = model[0].emb_layer.weight.detach(), model[2].encoder
    for text, embedding in zip(TEXTS, tensor(model.encode(TEXTS)), strict=True):
        ids = tokenizer_of(model).encode(text).ids[: model.max_seq_length]  # (with max, [CLS] in front)
        words = table[torch.tensor(ids, dtype=torch.long, device=table.device)]
        if not ids:
            assert torch.equal(embedding, torch.zeros_like(embedding))
            continue
        with torch.no_grad():
            states = recurrence(words[None])[0][0]
        pooled = [rows.mean(0) if mode == "mean" else rows.amax(0) for rows in (words, states) for mode in modes]
        assert torch.allclose(torch.cat(pooled), embedding, atol=SINGLE)
    assert model.get_embedding_dimension() == (5 + 8) * len(modes)


@numbers
def test_words_that_are_trained_have_the_slopes_of_both_ways(encoder):
    model = encoder(f"rnn:hidden=4,pooling=mean,skip=mean,{TABLE}").double().to(DEVICE)
    rows = [torch.tensor([3, 4, 4]).numpy(), torch.tensor([5]).numpy()]
    features = {name: value.to(DEVICE) for name, value in collate_tokens(model, rows).items()}
    TrainingEncoder(model)(features).pow(3).sum().backward()
    slope = model[0].emb_layer.weight.grad.clone()
    model[0].emb_layer.weight.grad = None
    sum(
        torch.cat([words.mean(0), model[2].encoder(words[None])[0][0].mean(0)]).pow(3).sum()
        for words in (model[0].emb_layer.weight[torch.tensor(row, device=DEVICE)] for row in rows)
    ).backward()
    assert torch.allclose(slope, model[0].emb_layer.weight.grad, atol=1e-10)
    assert slope[3:6].abs().min() > 0


def test_the_average_of_the_words_is_the_first_part(encoder):
    model = encoder(f"rnn:hidden=4,skip=mean,{TABLE}")
    average = mean_of_word_embeddings(model).encode(SENTENCES)
    assert abs(model.encode(SENTENCES)[:, :5] - average).max() < 1e-6


def test_it_is_saved_with_its_dimensions_and_a_damaged_one_is_refused(encoder, tmp_path):
    encoder(f"rnn:hidden=4,skip=mean+max,{TABLE}").save(str(tmp_path / "model"))
    rows = json.loads((tmp_path / "model" / "modules.json").read_text())
    types = ["WordEmbeddings", "Pooling", "LSTM", "SkipPooling"]
    assert [row["type"].split(".")[-1] for row in rows] == types
    config = tmp_path / "model" / rows[3]["path"] / SkipPooling.config_file_name
    config.write_text(config.read_text().replace('"skip_dimension": 10', '"skip_dimension": 9'))
    with pytest.raises(InputError, match="has 10 dimensions"):
        load(tmp_path / "model").encode(SENTENCES)


@pytest.mark.parametrize(
    ("options", "says"), [("skip=sum", "unknown pooling 'sum'"), ("skip=mean,pooling=final", "skip")]
)
def test_what_cannot_be_skipped_is_said(options, says, encoder):
    with pytest.raises((ValueError, InputError), match=says):
        encoder(f"rnn:hidden=4,{options},{TABLE}")
