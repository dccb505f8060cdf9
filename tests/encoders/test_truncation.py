"""Embeddings cut to their first dimensions: what sentence-transformers gives, from embeddings encoded once."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from sentemb.encoders import full_size, is_truncated, towers_of, truncated, two_towers
from sentemb.errors import InputError
from sentemb.validation import CachedEncoder, EmbeddingMemory, TextTokens, fingerprint, sides_of
from tests.conftest import SENTENCES
from tests.devices import SINGLE
from tests.helpers import STATIC

TEXTS = [text for text in SENTENCES if text]


@pytest.mark.parametrize("spec", [STATIC, "rnn:hidden=3", "rnn:cell=gru,hidden=3", "transformer:name=TINY"])
def test_a_cut_model_encodes_as_one_that_was_loaded_so(spec, encoder, tmp_path):
    model = encoder(spec)
    cut = truncated(model, 2)
    assert cut.get_embedding_dimension() == 2 and cut.encode(TEXTS).shape == (len(TEXTS), 2)
    np.testing.assert_array_equal(cut.encode(TEXTS), model.encode(TEXTS)[:, :2])
    assert not is_truncated(model) and is_truncated(cut) and not is_truncated(full_size(cut))
    if "gru" not in spec:
        model.save(str(tmp_path), create_model_card=False)
        stock = SentenceTransformer(str(tmp_path), truncate_dim=2, device="cpu")
        np.testing.assert_allclose(stock.encode(TEXTS), CachedEncoder(cut)(TEXTS), atol=SINGLE)
    assert cut[0] is model[0]


def test_of_two_towers_each_embedding_is_cut(encoder):
    model = two_towers(encoder(STATIC), encoder("static:embeddings=random,dim=4,vocabulary=270"))
    f, g = towers_of(model)
    cut = truncated(model, 3)
    assert cut.get_embedding_dimension() == 6
    parts = [tower.encode(TEXTS)[:, :3] for tower in (f, g)]
    expected = np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])
    np.testing.assert_allclose(cut.encode(TEXTS), expected, atol=SINGLE)
    np.testing.assert_allclose(CachedEncoder(cut)(TEXTS), expected, atol=SINGLE)
    np.testing.assert_allclose(CachedEncoder(full_size(cut))(TEXTS), model.encode(TEXTS), atol=SINGLE)
    sides = sides_of(cut, CachedEncoder(cut))
    np.testing.assert_allclose(sides.first(TEXTS), parts[0], atol=SINGLE)
    np.testing.assert_allclose(sides.second(TEXTS), parts[1], atol=SINGLE)


@pytest.mark.parametrize("tokens", [None, TextTokens()])
def test_what_was_encoded_in_full_is_cut_and_not_encoded_again(tokens, encoder):
    model, memory = encoder(STATIC), EmbeddingMemory()
    full = CachedEncoder(model, cache=memory.of(model), tokens=tokens)
    rows = full(TEXTS)
    for size in (2, 3, 5):
        cut = truncated(model, size)
        assert fingerprint(cut) != fingerprint(model) == fingerprint(full_size(cut))
        encode = CachedEncoder(cut, cache=memory.of(cut), tokens=tokens)
        np.testing.assert_array_equal(encode(TEXTS), rows[:, :size])
        assert encode.encoded == 0 and encode.reused == len(TEXTS)
    alone = CachedEncoder(truncated(model, 2), tokens=tokens)
    np.testing.assert_array_equal(alone(TEXTS), rows[:, :2])


def test_a_length_that_cannot_be_is_refused(encoder):
    model = encoder(STATIC)
    for size in (0, -1, 6):
        with pytest.raises(InputError, match=f"cannot be cut to {size} dimensions, as they have 5; name 1 to 5"):
            truncated(model, size)
    assert truncated(truncated(model, 2), 4).get_embedding_dimension() == 4
