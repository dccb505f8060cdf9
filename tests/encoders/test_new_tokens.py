"""New tokens: the frequent words that a tokenizer splits, begun as the mean of their pieces, saved as a plain model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import sentemb
from sentemb.encoders import ENCODERS, NamedTexts, add_frequent_words, tokenizer_of, towers_of, two_towers
from sentemb.errors import InputError
from sentemb.forward import MaskedWords
from sentemb.pipeline import initial_model, initial_name
from sentemb.registry import build
from tests.devices import SINGLE
from tests.encoders.test_factory import trained_forward

TEXTS = [
    *["The dragons went on, the Thünder on it."] * 6,
    *["Thunders in the dragon!"] * 5,
    "zebras it",
    "it went on",
]
# "dragons" and "thunder" are there 6 times, "dragon" and "thunders" 5, "zebras" once; "the", "on", ... are not pieces
ADDED = ["dragons", "thunder", "dragon", "thunders"]
UNTOUCHED = ["it went on", "the rain, zebras!"]
LITTLE = {"batch_size": 8, "max_steps": 4, "warmup": 1, "lr": 1e-3, "eval_every": 0, "log_every": 1, "save_every": 2}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["transformer:name=BERT", "static:embeddings=BERT"])
def spec(request, bert) -> str:
    return request.param.replace("BERT", str(bert))


def made(spec: str) -> SentenceTransformer:
    torch.manual_seed(0)
    return build(ENCODERS, spec, "encoder", texts=list, max_length=12)


def table_of(model) -> np.ndarray:
    first = model[0]
    embedding = first.embedding if hasattr(first, "embedding") else first.auto_model.get_input_embeddings()
    assert embedding.weight.requires_grad
    return embedding.weight.detach().numpy().copy()


def test_a_word_begins_as_the_mean_of_its_pieces_and_all_else_is_as_before(spec):
    model = made(spec)
    vocabulary, before = tokenizer_of(model).get_vocab(), table_of(model)
    expected = model.encode(UNTOUCHED)
    assert add_frequent_words(model, lambda: TEXTS, 4) == ADDED
    after = table_of(model)
    assert after.shape == (len(before) + 4, before.shape[1]) and np.array_equal(after[: len(before)], before)
    for number, word in enumerate(ADDED):
        pieces = [vocabulary[word[0]], *(vocabulary[f"##{letter}"] for letter in word[1:])]
        mean = [sum(float(before[piece][i]) for piece in pieces) / len(pieces) for i in range(before.shape[1])]
        np.testing.assert_allclose(after[len(before) + number], mean, atol=1e-6)
    tokens = tokenizer_of(model).encode("The Thünder dragonslayers", add_special_tokens=False).tokens
    assert tokens == ["the", "thunder", "dragons", *(f"##{letter}" for letter in "layers")]
    assert np.array_equal(model.encode(UNTOUCHED), expected)


def test_the_saved_model_loads_plainly_and_training_sees_what_encode_does(spec, tmp_path):
    model = made(spec)
    add_frequent_words(model, lambda: TEXTS, 3)
    expected = model.encode(TEXTS)
    assert np.abs(trained_forward(model, TEXTS) - expected).max() < SINGLE
    model.save(str(tmp_path / "model"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert np.array_equal(again.encode(TEXTS), expected)
    assert tokenizer_of(again).to_str() == tokenizer_of(model).to_str()
    assert all(type(module).__module__.startswith("sentence_transformers.") for module in again)


def test_the_same_texts_give_the_same_words_from_the_cache_and_without(spec):
    read = []
    named = NamedTexts(lambda: read.append(1) or TEXTS, "texts")
    first, again, shuffled = made(spec), made(spec), made(spec)
    assert add_frequent_words(first, named, 3) == add_frequent_words(again, named, 3) == ADDED[:3]
    assert add_frequent_words(shuffled, lambda: TEXTS[::-1], 3) == ADDED[:3]
    assert read == [1] and np.array_equal(table_of(first), table_of(shuffled))


def test_fewer_words_than_wanted_are_noted_and_rare_ones_left_out(bert, capsys):
    assert add_frequent_words(made(f"transformer:name={bert}"), lambda: TEXTS, 100) == ADDED
    assert "note: 4 new tokens (the training sentences have no more" in capsys.readouterr().err


def test_two_towers_get_the_same_words(bert):
    spec = f"transformer:name={bert}"
    model = two_towers(made(spec), made(spec))
    add_frequent_words(model, lambda: TEXTS, 4)
    f, g = towers_of(model)
    assert tokenizer_of(f).to_str() == tokenizer_of(g).to_str() and tokenizer_of(f).token_to_id("dragons") is not None
    assert model.encode(TEXTS).shape == (len(TEXTS), 32)


def test_the_masked_word_task_names_new_tokens_too(bert):
    model = made(f"transformer:name={bert}")
    add_frequent_words(model, lambda: TEXTS, 4)
    task = MaskedWords(model)
    labels = torch.tensor([[-100, tokenizer_of(model).token_to_id("thunders"), -100]])
    loss = task(torch.zeros(1, 3, 16), labels)
    loss.backward()
    assert loss.isfinite() and model[0].auto_model.get_input_embeddings().weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("spec", "texts", "message"),
    [
        ("rnn:hidden=4,embeddings=BERT", TEXTS, "for transformer and static encoders, and this one begins with Word"),
        ("static:embeddings=random,dim=4,vocabulary=270", TEXTS, "and the encoder's is BPE"),
        ("transformer:name=BERT", UNTOUCHED, "splits no word that is 5 times in the training sentences"),
    ],
)
def test_an_encoder_or_a_text_that_cannot_have_them_is_refused(spec, texts, message, bert):
    model = made(spec.replace("BERT", str(bert)))
    before = tokenizer_of(model).to_str()
    with pytest.raises(InputError, match=message):
        add_frequent_words(model, lambda: texts, 3)
    assert tokenizer_of(model).to_str() == before


DOCUMENTS = [[f"the dragons {a} the thunder {b}" for b in "abcdefghij"] for a in "klmnopqrst"]


def test_a_run_trains_new_tokens_and_a_resumed_one_ends_as_one_in_one_go(spec):
    options = {"encoder": spec, "new_tokens": 2, **LITTLE}
    straight = sentemb.train(DOCUMENTS, out="straight", **options)
    sentemb.train(DOCUMENTS, out="resumed", **options | {"max_steps": 2})
    run = sentemb.train(DOCUMENTS, out="resumed", resume=True, max_steps=4)
    texts = ["the dragons", "thunder a"]
    assert np.array_equal(run.model.encode(texts), straight.model.encode(texts))
    plain = SentenceTransformer(str(Path("resumed", "model")), device="cpu")
    assert np.array_equal(plain.encode(texts), run.model.encode(texts))
    assert not np.array_equal(table_of(run.model)[-2:], table_of(run.initial)[-2:])
    assert initial_name({"init": "minilm", "new_tokens": 2}) == "minilm with new tokens"


def test_the_start_of_a_run_is_made_again_with_its_tokens(spec, tmp_path):
    tmp_path.joinpath("text.txt").write_text("\n\n".join("\n".join(lines) for lines in DOCUMENTS))
    run = sentemb.train("text.txt", encoder=spec, new_tokens=2, out="run", **LITTLE)
    assert np.array_equal(initial_model(run.folder).encode(TEXTS), run.initial.encode(TEXTS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "rnn"}, "--encoder rnn is not one of them"),
        ({"lora": "rank=2"}, "--lora trains no word embeddings"),
        ({"new_tokens": -1}, "new-tokens must be at least 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_and_nothing_is_written(options, message, bert):
    settings = {"encoder": f"transformer:name={bert}", "new_tokens": 2, **options}
    with pytest.raises(InputError, match=message):
        sentemb.train(DOCUMENTS, out="run", **LITTLE, **settings)
    assert not Path("run").exists()


def test_a_model_of_the_callers_is_not_extended(bert):
    model = made(f"transformer:name={bert}")
    before = tokenizer_of(model).to_str()
    with pytest.raises(InputError, match="a model that is made from a spec or init; give one of them, no object"):
        sentemb.train(DOCUMENTS, out="run", **LITTLE, new_tokens=2, encoder=model, max_length=12)
    assert tokenizer_of(model).to_str() == before and not Path("run").exists()
