"""Texts that were tokenized before give the numbers of the model's own ``encode``, without its tokenizer."""

import numpy as np
import pytest
import torch

from sentemb.encoders import Prompts, load, set_prompts, two_towers
from sentemb.validation import CachedEncoder, HeldOutPairs, TextTokens, held_out_geometry, sides_of
from sentemb.validation.text_tokens import reads_token_ids

SPECS = [
    "static:dim=8",
    "static:dim=8,out=3",
    "rnn:hidden=4,dim=8",
    "rnn:hidden=4,dim=8,layers=2,dropout=0.5",
    "rnn:cell=gru,hidden=4,dim=8,bidirectional=false,pooling=last",
    "rnn:hidden=4,dim=8,pooling=max",
]
RANDOM = ",embeddings=random,vocabulary=300"
WORDS = ["a", "good", "day", "so", "be", "it", "unforeseeable", "caf\xe9", "\U0001f600"]


def texts_of(count, seed=0):
    """Of 0 to 29 words, so that batches differ in length and some texts are cut at 12 tokens."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size)) for size in generator.integers(0, 30, count)]


@pytest.fixture
def made(encoder):
    return lambda spec: encoder(spec + RANDOM)


def forbid_tokenizing(model, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("tokenized again")

    monkeypatch.setattr(type(model[0]), "preprocess", fail)


@pytest.mark.parametrize("prompt", [None, "so be it: "])
@pytest.mark.parametrize("spec", SPECS)
def test_embeddings_are_those_of_encode_to_the_bit(spec, prompt, made, monkeypatch, tmp_path):
    model, texts = made(spec), texts_of(70)
    named = {} if prompt is None else {"prompt": prompt}
    expected = model.encode(texts, batch_size=16, **named)
    assert max(len(text.split()) for text in texts) > 12  # some are cut
    for number in range(2):
        for tokens in (TextTokens(tmp_path), TextTokens()):
            for _ in range(2):
                assert np.array_equal(tokens.encode(model, texts, 16, prompt), expected)
        if number == 0:  # saved and loaded, it has the same tokenizer
            model.save(str(tmp_path / "model"))
            model = load(tmp_path / "model", device="cpu")
    forbid_tokenizing(model, monkeypatch)
    assert len(list(tmp_path.glob("texts-*"))) == 1
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    changed = TextTokens(tmp_path).encode(model, texts, 16, prompt)
    assert changed.shape == expected.shape and not np.array_equal(changed, expected)


def test_the_default_prompt_is_put_before_the_texts(made):
    model, tokens, texts = made("static:dim=8"), TextTokens(), texts_of(9)
    plain = tokens.encode(model, texts, 4)
    set_prompts(model, Prompts("so: ", "so: "))
    prompted = tokens.encode(model, texts, 4)
    assert np.array_equal(prompted, model.encode(texts, batch_size=4)) and not np.array_equal(prompted, plain)
    assert np.array_equal(tokens.encode(model, texts, 4, ""), plain)


def test_another_truncation_other_texts_and_another_order_have_ids_of_their_own(encoder, tmp_path):
    spec = "static:dim=8" + RANDOM
    for length in (12, 3):
        model = encoder(spec, max_length=length)
        for texts in (texts_of(9), texts_of(9)[::-1], ["a good", "day"], ["a goo", "dday"]):
            assert np.array_equal(TextTokens(tmp_path).encode(model, texts, 4), model.encode(texts, batch_size=4))
    assert len(list(tmp_path.glob("texts-*"))) == 8


def test_two_towers_of_one_prompt_are_encoded_by_token_ids_and_of_two_by_themselves(made, monkeypatch):
    model, texts = two_towers(made("static:dim=8"), made("static:dim=8")), texts_of(9)
    with torch.no_grad():
        next(model[0].g.parameters()).mul_(-1)
    assert np.array_equal(TextTokens().encode(model, texts, 4), model.encode(texts, batch_size=4))
    pairs = HeldOutPairs(texts[:4], texts[4:8], "four pairs")
    set_prompts(model, Prompts("so: ", "it: "))
    assert not reads_token_ids(model) and all(map(reads_token_ids, (model[0].f, model[0].g)))
    plain, with_tokens = (
        held_out_geometry(sides_of(model, CachedEncoder(model, tokens=each)), pairs) for each in (None, TextTokens())
    )
    assert plain == with_tokens
    assert np.array_equal(CachedEncoder(model, tokens=TextTokens())(texts), model.encode(texts))


def test_models_that_see_more_than_token_ids_encode_by_themselves(encoder, made):
    assert not reads_token_ids(encoder("transformer:name=TINY"))
    model = made("static:dim=8")
    assert reads_token_ids(model)
    model.truncate_dim = 4
    assert not reads_token_ids(model)
    assert CachedEncoder(model, tokens=TextTokens())(["a good day"]).shape == (1, 4)


def test_a_damaged_file_is_made_again_and_a_folder_that_cannot_be_written_costs_nothing(made, tmp_path):
    model, texts = made("static:dim=8"), texts_of(9)
    expected = TextTokens(tmp_path).encode(model, texts, 4)
    for name in ("ids", "offsets"):
        (file,) = tmp_path.glob(f"texts-*/{name}.npy")
        file.write_bytes(file.read_bytes()[:-1])
        assert np.array_equal(TextTokens(tmp_path).encode(model, texts, 4), expected)
        assert len(np.load(file)) > 1
    (tmp_path / "file").write_text("")
    assert np.array_equal(TextTokens(tmp_path / "file").encode(model, texts, 4), expected)


def test_memory_is_bounded_and_the_lists_used_last_stay(made, monkeypatch):
    model, tokens = made("static:dim=8"), TextTokens()
    lists = [texts_of(9, seed) for seed in range(3)]
    sizes = []
    for texts in lists:
        tokens.encode(model, texts, 4)
        sizes.append(len(next(reversed(tokens._lists.values())).ids))
    tokens.encode(model, lists[0], 4)
    monkeypatch.setattr("sentemb.validation.text_tokens.IN_MEMORY", sizes[0] + sizes[2])
    tokens.encode(model, lists[2], 4)
    assert len(tokens._lists) == 2
    forbid_tokenizing(model, monkeypatch)
    for texts in (lists[0], lists[2]):
        tokens.encode(model, texts, 4)
    with pytest.raises(AssertionError, match="tokenized again"):
        tokens.encode(model, lists[1], 4)
