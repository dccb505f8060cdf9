"""Targets of a teacher: standardised and turned as NumPy's covariance says, the same from the cache, refused."""

import numpy as np
import pytest

from sentemb.corpus import open_corpus
from sentemb.errors import InputError
from sentemb.teacher import TeacherFolder, embed_corpus, parse_teacher, projected
from sentemb.teacher import projection as projection_module
from tests.teacher.test_teacher import LENGTH, TEXTS


@pytest.fixture
def embeddings(tmp_path, monkeypatch, bert):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus([TEXTS[:15], TEXTS[15:]])
    every = np.array([[0, len(corpus)]])
    return embed_corpus(TeacherFolder(parse_teacher(f"{bert}:layers=1-3")), corpus, every, LENGTH)


def spec(options: str):
    return parse_teacher(f"bert:{options}")


def distinct(embeddings) -> np.ndarray:
    return embeddings.distinct(slice(None)).astype(np.float64)


def test_a_standard_scale_gives_each_dimension_mean_0_and_variance_1(embeddings):
    made = projected(embeddings, spec("scale=standard"))
    rows = distinct(embeddings)
    numbers = np.arange(9)
    expected = (embeddings.rows(numbers) - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(made.rows(numbers), expected, rtol=1e-4, atol=1e-4)
    assert made.dimension == embeddings.dimension and len(made) == len(embeddings)
    assert made.rows(numbers).dtype == np.float32 and made.has(numbers).all()


@pytest.mark.parametrize("scale", ["none", "standard"])
def test_dim_gives_the_principal_components(embeddings, scale, monkeypatch):
    monkeypatch.setattr(projection_module, "BLOCK", 7)  # so that sums are of several blocks
    made = projected(embeddings, spec(f"scale={scale},dim=5"))
    rows = distinct(embeddings)
    centred = rows - rows.mean(axis=0)
    centred = centred / rows.std(axis=0) if scale == "standard" else centred
    left, values, _ = np.linalg.svd(centred, full_matrices=False)  # another way to the same components
    targets = (rows - made.mean) @ made.matrix
    np.testing.assert_allclose(np.abs(targets), np.abs(left * values)[:, :5], rtol=1e-3, atol=1e-4)
    spread = targets.var(axis=0)
    assert made.dimension == 5 and (np.diff(spread) < 0).all()


def test_a_constant_dimension_stays_0(embeddings, monkeypatch):
    monkeypatch.setattr(embeddings, "_rows", np.where(np.arange(embeddings.dimension) == 2, 0.5, embeddings._rows))
    mean, factors = projection_module.projection(embeddings, "standard", 0)
    assert factors[2] == 0 and (factors[[0, 1, 3]] > 0).all() and mean[2] == 0.5


def test_a_projection_is_computed_once_and_damage_is_mended(embeddings, monkeypatch):
    made = projected(embeddings, spec("dim=4"))
    folders = list(embeddings.folder.parent.glob(f"{embeddings.folder.name}-*"))
    monkeypatch.setattr(projection_module, "projection", lambda *_: pytest.fail("computed again"))
    again = projected(embeddings, spec("dim=4"))
    assert np.array_equal(again.matrix, made.matrix) and again.fingerprint == made.fingerprint
    monkeypatch.undo()
    (folders[0] / projection_module.FILE).write_bytes(b"damaged")
    assert np.array_equal(projected(embeddings, spec("dim=4")).matrix, made.matrix)


def test_without_scale_and_dim_the_embeddings_are_the_targets(embeddings):
    assert projected(embeddings, spec("layers=1-3")) is embeddings


def test_other_options_have_other_fingerprints(embeddings):
    options = ("scale=standard", "dim=4", "scale=standard,dim=4", "dim=3")
    made = {projected(embeddings, spec(each)).fingerprint for each in options}
    assert len(made | {embeddings.fingerprint}) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [("dim=25", "more than the 24"), ("dim=-1", "dim must be at least 1"), ("scale=unit", "scale")],
)
def test_bad_options_are_one_sentence(embeddings, options, message):
    with pytest.raises(InputError, match=message):
        projected(embeddings, spec(options))
