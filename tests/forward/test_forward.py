"""The training forward: packed equals padded, dropout is dropout, two towers, heads and the masked-word task."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from benchmarks.shapes import bert_tokenizer
from sentemb.encoders import HEADS, has_dropout, load, tokenizer_of, two_towers
from sentemb.errors import InputError
from sentemb.forward import MaskedWords, TrainingEncoder, collate_tokens, seed_dropout
from sentemb.forward.dropout import drop
from sentemb.forward.packed import Packing, attend, offset_of, packed_forward
from sentemb.registry import build
from tests.conftest import SENTENCES
from tests.devices import DEVICE, DOUBLE, SINGLE, normal, numbers, ones, tensor


def features_of(model, sentences=SENTENCES, length=12):
    tokenizer = tokenizer_of(model)
    tokenizer.enable_truncation(length)
    features = collate_tokens(model, [np.array(encoded.ids) for encoded in tokenizer.encode_batch_fast(sentences)])
    return {name: value.to(DEVICE) for name, value in features.items()}


def little(kind: str, tmp_path) -> SentenceTransformer:
    """A model of two layers with random weights, on MiniLM's tokenizer."""
    sizes: dict = dict(
        vocab_size=30522, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32
    )
    torch.manual_seed(0)
    if kind == "roberta":
        inner = RobertaModel(
            RobertaConfig(**sizes, pad_token_id=1, max_position_embeddings=40), add_pooling_layer=False
        )
    else:
        inner = BertModel(BertConfig(**sizes, pad_token_id=0), add_pooling_layer=False)
    inner.save_pretrained(tmp_path / kind)
    bert_tokenizer(SENTENCES).save_pretrained(tmp_path / kind)
    module = Transformer(str(tmp_path / kind), max_seq_length=16)
    return SentenceTransformer(modules=[module, Pooling(24, "mean")], device=str(DEVICE))


@numbers
def test_a_packing_puts_tokens_back_and_its_gradients_are_exact():
    mask = tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    packing = Packing.of(mask)
    x = normal(6, 2).requires_grad_()
    padded = packing.padded(x)
    assert padded.shape == (3, 3, 2) and torch.equal(packing.packed(padded), x)
    assert (padded[mask == 0] == 0).all() and torch.equal(padded[mask == 1], x)
    assert torch.autograd.gradcheck(packing.padded, (x,))
    assert torch.autograd.gradcheck(packing.packed, (normal(3, 3, 2).requires_grad_(),))
    assert Packing.of(ones(2, 4)).bias is None


@numbers
@pytest.mark.parametrize(("kind", "offset"), [("bert", 0), ("roberta", 2)])
def test_packed_equals_padded_in_values_and_gradients(kind, offset, tmp_path):
    model = little(kind, tmp_path)
    assert offset_of(model[0]) == offset
    model.double().eval()
    features = features_of(model)
    slopes = []
    for attention in ("packed", "sdpa", "eager"):
        model.zero_grad()
        embedder = TrainingEncoder(model, attention=attention)
        assert embedder.attention == attention
        out = embedder(dict(features))
        out.square().sum().backward()
        slopes.append((out, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for out, gradients in slopes[1:]:
        assert torch.allclose(out, slopes[0][0], atol=DOUBLE)
        assert all(torch.allclose(a, b, atol=DOUBLE) for a, b in zip(gradients, slopes[0][1], strict=True))
    assert model[0].auto_model.config._attn_implementation == "sdpa"  # as it was


def test_a_model_that_cannot_be_packed_is_padded(tmp_path, monkeypatch):
    model = little("bert", tmp_path)

    def stubborn(*arguments, **more):
        raise TypeError("no such argument")

    monkeypatch.setattr("sentemb.forward.packed.packed_forward", stubborn)
    assert offset_of(model[0]) is None and TrainingEncoder(model).attention == "padded"
    with pytest.raises(InputError, match="cannot be packed"):
        TrainingEncoder(model, attention="packed")
    with pytest.raises(InputError, match="unknown attention"):
        TrainingEncoder(model, attention="flash")


def test_attention_is_an_option_of_transformers(encoder):
    assert TrainingEncoder(encoder("rnn:hidden=4")).attention == "none"
    with pytest.raises(InputError, match="option of transformer encoders"):
        TrainingEncoder(encoder("rnn:hidden=4"), attention="sdpa")


@numbers
@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_has_its_probability_scale_and_gradient(p, dtype):
    seed_dropout(0)
    x = ones(401, 503, dtype=dtype, requires_grad=True)
    out = drop(x, p)
    share = (out == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / x.numel()) ** 0.5 + 2**-16)
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=1e-2)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # of ones: what was kept, scaled
    seed_dropout(0)
    again = drop(x, p)
    assert torch.equal(again, out) and not torch.equal(drop(x, p), out)


@pytest.mark.parametrize("is_available", [True, False])
def test_the_seed_is_torchs_with_and_without_other_devices(is_available, monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: is_available)
    seed_dropout(5)
    assert torch.equal(torch.rand(3), expected)


@numbers
def test_dropout_masks_are_independent():
    seed_dropout(3)
    keep_mask = (drop(ones(200_000), 0.5) > 0).double()
    for lag in (1, 2, 3, 4, 7, 64):
        assert abs(float(((keep_mask[lag:] - 0.5) * (keep_mask[:-lag] - 0.5)).mean()) * 4) < 0.02


@numbers
def test_training_with_dropout_is_noisy_seeded_and_right_on_average(tmp_path):
    model = little("bert", tmp_path)
    features = features_of(model, SENTENCES[:1] * 256)
    expected = TrainingEncoder(model.eval())(dict(features))[0]
    embedder = TrainingEncoder(model.train())
    runs = []
    for seed in (0, 0, 1):
        seed_dropout(seed)
        runs.append(embedder(dict(features)))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert runs[0].std(dim=0).min() > 0
    cosine = torch.cosine_similarity(runs[0].mean(dim=0), expected, dim=0)
    assert cosine > 0.95
    assert all("forward" not in vars(m) for m in model.modules())  # nothing of ours stays in the model


@numbers
def test_two_towers_are_f_and_g_each_of_unit_length_and_come_back(encoder, tmp_path):
    f, g = encoder("rnn:hidden=4,embeddings=random"), encoder("transformer:name=TINY")
    with pytest.raises(InputError, match="side by side"):
        two_towers(f, g)
    g = encoder("rnn:hidden=4,embeddings=random")
    with torch.no_grad():
        for p in g.parameters():
            p.add_(0.1 * torch.randn_like(p))
    model = two_towers(f, g).to(DEVICE)
    u, v = (side / np.linalg.norm(side, axis=1, keepdims=True).clip(1e-12) for side in map(encode, (f, g)))
    assert np.allclose(encode(model), np.concatenate([u, v], axis=1), atol=SINGLE)
    assert model.get_embedding_dimension() == 16
    model.save(str(tmp_path / "two"), create_model_card=False)
    assert np.abs(encode(load(tmp_path / "two")) - encode(model)).max() < SINGLE
    assert np.abs(encode(SentenceTransformer(str(tmp_path / "two" / "f"))) - encode(f)).max() < SINGLE
    assert [row["type"] for row in json.loads((tmp_path / "two" / "modules.json").read_text())] == [
        "sentemb.encoders.two_tower.Towers"
    ]
    features = features_of(model)
    x, y = TrainingEncoder(model.eval())(dict(features), dict(features)).chunk(2)
    for embeddings, tower in ((x, f), (y, g)):
        assert np.allclose(embeddings.detach().cpu(), encode(tower), atol=SINGLE)


def encode(model):
    return model.encode(SENTENCES)


@numbers
@pytest.mark.parametrize("spec", ["mlp", "projection:hidden=7,out=5,layers=3", "projection:layers=1,out=5"])
def test_heads(spec, encoder):
    head = build(HEADS, spec, "head", dimension=8).to(DEVICE)
    model = encoder("rnn:hidden=4,embeddings=random").to(DEVICE)
    out = TrainingEncoder(model, head)(features_of(model))
    assert out.shape == (6, 8 if spec == "mlp" else 5)
    assert spec != "mlp" or out.abs().max() <= 1
    with pytest.raises(InputError, match="at least 1"):
        build(HEADS, "projection:out=0", "head", dimension=8)


def test_masked_words_are_named_from_their_context(encoder):
    model = encoder("transformer")
    task = MaskedWords(model)
    assert task.new  # all-MiniLM-L6-v2 has lost its own
    features = features_of(model, [" ".join(SENTENCES)] * 64, 40)
    torch.manual_seed(0)
    masked, labels = task.mask(features)
    chosen = labels != -100
    words = features["attention_mask"].sum() - 2 * 64
    assert chosen.sum().item() / words.item() == pytest.approx(0.15, abs=0.02)
    assert torch.equal(masked["input_ids"][~chosen], features["input_ids"][~chosen])
    share = (masked["input_ids"][chosen] == model.tokenizer.mask_token_id).double().mean().item()
    assert share == pytest.approx(0.8, abs=0.06)
    assert torch.equal(labels[chosen], features["input_ids"][chosen])
    loss = TrainingEncoder(model.eval(), mlm=task)(features, masked=True)[1]
    assert 5 < loss.item() < 15  # log(30,522) is 10.3
    assert task.get_parameter("head.predictions.decoder.weight") is model[0].auto_model.get_input_embeddings().weight
    with pytest.raises(InputError, match="mlm needs"):
        MaskedWords(encoder("rnn:hidden=4"))


def test_dropout_is_an_option_of_every_encoder(encoder):
    assert not has_dropout(encoder("rnn:hidden=4")) and has_dropout(encoder("rnn:hidden=4,dropout=0.1"))
    assert not has_dropout(encoder("static")) and has_dropout(encoder("static:dropout=0.2"))
    assert has_dropout(encoder("transformer")) and not has_dropout(encoder("transformer:dropout=0"))
    model = encoder("transformer:dropout=0.3")
    assert model[0].auto_model.config.hidden_dropout_prob == 0.3
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        encoder("transformer:dropout=1")


def test_a_kept_mlp_is_stock_and_comes_back(encoder, tmp_path):
    model = encoder("transformer:pooling=cls,mlp=true")
    model.save(str(tmp_path / "m"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "m"))
    assert np.abs(encode(model)).max() <= 1 and np.abs(encode(again) - encode(model)).max() < 1e-6


@numbers
def test_packed_forward_gives_zero_at_padding(tmp_path):
    model = little("bert", tmp_path).eval()
    features = features_of(model)
    tokens = packed_forward(model[0], features, 0)["token_embeddings"]
    assert (tokens[features["attention_mask"] == 0] == 0).all() and tokens.shape[:2] == features["input_ids"].shape


@numbers
def test_attention_of_a_window_is_not_packed():
    packing = Packing.of(tensor([[1, 1, 0], [1, 1, 1]]))
    q = normal(1, 2, 5, 4, dtype=torch.float32)
    with pytest.raises(ValueError, match="cannot be packed"):
        attend(torch.nn.Identity(), q, q, q, None, packing=packing, sliding_window=64)
    out, _ = attend(torch.nn.Identity(), q, q, q, None, packing=packing)
    rows = [slice(0, 2), slice(2, 5)]
    slow = [torch.softmax(q[0, :, r] @ q[0, :, r].transpose(1, 2) / 2, dim=2) @ q[0, :, r] for r in rows]
    assert torch.allclose(out[0].transpose(0, 1), torch.cat(slow, dim=1), atol=SINGLE)


@pytest.mark.parametrize("mask", [[[1, 1, 0], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_packed_attention_with_dropout_is_the_formula_in_values_and_gradients(mask, scaling):
    lengths = torch.tensor(mask).sum(dim=1).tolist()
    draw = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, 2, sum(lengths), 4, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(3)
    )
    seed_dropout(0)
    out, _ = attend(torch.nn.Identity(), q, k, v, None, 0.4, scaling, Packing.of(torch.tensor(mask)))
    seed_dropout(0)
    factors = drop(torch.ones(2, 2, 3, 3, dtype=torch.float64), 0.4)
    slow = []
    for row, (a, b, c) in enumerate(zip(*(x[0].split(lengths, dim=1) for x in (q, k, v)), strict=True)):
        weights = torch.softmax(a @ b.transpose(1, 2) * (scaling or 0.5), dim=2)
        slow.append((weights * factors[row, :, : lengths[row], : lengths[row]]) @ c)
    expected = torch.cat(slow, dim=1).transpose(0, 1)[None]
    assert torch.allclose(out, expected, atol=1e-12)
    gradients, slopes = (torch.autograd.grad(x.square().sum(), (q, k, v)) for x in (out, expected))
    assert all(torch.allclose(x, y, atol=1e-12) for x, y in zip(gradients, slopes, strict=True))


def test_no_masked_word_gives_a_zero_with_a_gradient_for_each_weight(encoder):
    task = MaskedWords(encoder("transformer"))
    loss = task(torch.randn(1, 3, 384, requires_grad=True), torch.full((1, 3), -100))
    loss.backward()
    assert loss.item() == 0 and all(p.grad is not None for p in task.head.parameters())
