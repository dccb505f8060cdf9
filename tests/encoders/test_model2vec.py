"""Static encoders written in model2vec's format, which three libraries read alike."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Dropout, StaticEmbedding
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import nn

from sentemb.encoders import load, save_model2vec
from sentemb.errors import InputError
from tests.helpers import SMALL

WORDS = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(60))]
TEXTS = ["w1 w2 w3", "w59", "w4 w4 w5", " ".join(f"w{i}" for i in range(20)), "w7 w8 w9 w10"]
LONGEST = 9  # tokens; one of TEXTS has more


def words(count: int = len(WORDS), gap: int = 0) -> Tokenizer:
    """A tokenizer of WORDS; the ids of all but the first two are ``gap`` higher."""
    numbers = {word: number + gap * (number > 1) for number, word in enumerate(WORDS[:count])}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer


def static(*others: nn.Module, gap: int = 0, spare: int = 0) -> SentenceTransformer:
    """A static encoder of 16 dimensions whose rows differ by a factor of a thousand, with modules after it."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(len(WORDS) + gap + spare, 16, generator=generator)
    table *= torch.logspace(-2, 1, len(table))[:, None]
    first = StaticEmbedding(words(gap=gap), embedding_weights=table)
    return SentenceTransformer(modules=[first, *others], device="cpu")


def linear(size: int, out: int, **options) -> Dense:
    torch.manual_seed(1)
    return Dense(size, out, activation_function=nn.Identity(), **options)


def by_model2vec(folder: Path) -> np.ndarray:
    from model2vec import StaticModel

    return StaticModel.from_pretrained(folder, force_download=False).encode(TEXTS).astype(np.float32)


def readings(folder: Path) -> dict[str, np.ndarray]:
    """The embeddings of TEXTS by each library."""
    return {
        "model2vec": by_model2vec(folder),
        "sentence-transformers": SentenceTransformer(str(folder), device="cpu").encode(TEXTS).astype(np.float32),
        "sentemb": load(folder, device="cpu").encode(TEXTS),
    }


MODULES = {
    "plain": lambda: [],
    "dense": lambda: [linear(16, 8), Dropout(0.5)],
    "two of them": lambda: [linear(16, 32, bias=False), linear(32, 4, use_residual=True)],
    "unit length": lambda: [linear(16, 8), Normalize()],
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float16", 2e-3), ("int8", 8e-3)])
def test_every_library_reads_what_encode_gave(kind, precision, tolerance, tmp_path):
    model = static(*MODULES[kind]())
    expected = model.encode(TEXTS)
    save_model2vec(model, tmp_path / "m", precision)
    for library, embeddings in readings(tmp_path / "m").items():
        assert embeddings.shape == expected.shape
        assert np.abs(embeddings - expected).max() < tolerance * np.abs(expected).max(), library
    np.testing.assert_array_equal(model.encode(TEXTS), expected)  # and the model is as it was


def test_each_row_of_int8_is_within_half_a_step_of_its_size(tmp_path):
    save_model2vec(static(), tmp_path / "m", "int8")
    stored = load(tmp_path / "m", device="cpu")[0].embedding.weight.detach()
    expected = static()[0].embedding.weight.detach()
    steps = expected.abs().amax(dim=1, keepdim=True) / 127
    assert ((stored - expected).abs() <= steps * 0.5001).all()


def test_a_row_of_zeros_stays_one(tmp_path):
    model = static()
    with torch.no_grad():
        model[0].embedding.weight[5] = 0
    save_model2vec(model, tmp_path / "m", "int8")
    assert not load(tmp_path / "m", device="cpu")[0].embedding.weight[5].any()


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_text_without_a_token_is_zeros_also_where_lengths_are_one(precision, tmp_path):
    save_model2vec(static(Normalize()), tmp_path / "m", precision)
    for model in (SentenceTransformer(str(tmp_path / "m"), device="cpu"), load(tmp_path / "m", device="cpu")):
        assert not model.encode([""]).any()


def test_the_table_has_a_row_for_each_id_and_no_more(tmp_path):
    for name, gap, spare in (("spare", 0, 5), ("gap", 3, 0)):
        model = static(gap=gap, spare=spare)
        save_model2vec(model, tmp_path / name, "float32")
        assert len(load(tmp_path / name, device="cpu")[0].embedding.weight) == len(WORDS) + gap
        for embeddings in readings(tmp_path / name).values():
            np.testing.assert_allclose(embeddings, model.encode(TEXTS), rtol=1e-5, atol=1e-6)


def test_a_precision_is_as_small_as_its_numbers(tmp_path):
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        save_model2vec(static(linear(16, 512)), tmp_path / precision, precision)
        sizes[precision] = (tmp_path / precision / "model.safetensors").stat().st_size
    assert 0.49 < sizes["float16"] / sizes["float32"] < 0.51
    assert 0.24 < sizes["int8"] / sizes["float32"] < 0.27


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("clusters", [None, 20])
def test_what_model2vec_has_written_is_read(precision, clusters, tmp_path):
    from model2vec import StaticModel

    rows = static()[0].embedding.weight.detach().numpy()
    weights = mapping = None
    if clusters:
        mapping, weights = np.arange(len(rows)) % clusters, np.linspace(0.5, 1.5, len(rows), dtype=np.float32)
        rows = rows[-clusters:]
    numbers = (rows * 3).astype(precision)
    theirs = StaticModel(numbers, words(), normalize=True, max_length=LONGEST, weights=weights, token_mapping=mapping)
    theirs.save_pretrained(tmp_path / "m")
    embeddings = load(tmp_path / "m", device="cpu").encode(TEXTS)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, theirs.encode(TEXTS), atol=2e-3)


def test_a_damaged_table_is_told_of(tmp_path):
    save_model2vec(static(), tmp_path / "m")
    content = (tmp_path / "m" / "model.safetensors").read_bytes()
    (tmp_path / "m" / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path / "m")
    (tmp_path / "m" / "manifest.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load(tmp_path / "m")


def with_prompt(model: SentenceTransformer) -> SentenceTransformer:
    model.prompts = {"query": "w3 "}
    return model


def with_number(number: float) -> SentenceTransformer:
    model = static()
    with torch.no_grad():
        model[0].embedding.weight[3, 3] = number
    return model


def cut(model: SentenceTransformer) -> SentenceTransformer:
    model.truncate_dim = 4
    return model


REFUSED = {
    "tanh": (lambda: static(Dense(16, 8)), "no place for Dense"),
    "after unit length": (lambda: static(Normalize(), linear(16, 8)), "no place for Dense"),
    "other features": (lambda: static(linear(16, 8, module_output_name="other")), "no place for Dense"),
    "prompts": (lambda: with_prompt(static()), "no prompts"),
    "nan": (lambda: with_number(float("nan")), "not finite"),
    "too large": (lambda: with_number(1e5), "choose float32"),
    "cut after unit length": (lambda: cut(static(Normalize())), "truncate_dim"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_format_cannot_hold_is_refused(kind, tmp_path):
    make, reason = REFUSED[kind]
    with pytest.raises(InputError, match=reason):
        save_model2vec(make(), tmp_path / "m")
    assert not any(tmp_path.iterdir())


def test_other_encoders_and_precisions_are_refused(encoder, tmp_path):
    for spec, name in ((SMALL, "WordEmbeddings"), ("transformer:name=TINY", "Transformer")):
        with pytest.raises(InputError, match=f"begins with {name}"):
            save_model2vec(encoder(spec), tmp_path / "m")
    with pytest.raises(InputError, match="float16"):
        save_model2vec(static(), tmp_path / "m", "float8")
    assert not any(tmp_path.iterdir())


def test_leading_dimensions_are_those_of_encode(tmp_path):
    model = cut(static(linear(16, 8)))
    save_model2vec(model, tmp_path / "m", "float32")
    np.testing.assert_allclose(by_model2vec(tmp_path / "m"), model.encode(TEXTS), atol=1e-6)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "note").write_text("mine")
    for used in (tmp_path / "m", tmp_path / "m" / "note"):
        with pytest.raises(InputError, match="nothing is overwritten"):
            save_model2vec(static(), used)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["note"]
    (tmp_path / "empty").mkdir()
    save_model2vec(static(), tmp_path / "empty")
    assert json.loads((tmp_path / "empty" / "config.json").read_text())["max_length"] == LONGEST
