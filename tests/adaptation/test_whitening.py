"""Whitening and removed directions: closed forms, and a saved model that maps what the start encodes."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from sentemb.adaptation import linear_maps, with_map
from tests.conftest import SENTENCES
from tests.helpers import STATIC


@pytest.fixture
def rows() -> np.ndarray:
    """400 rows in six dimensions, of unequal variance, not centred."""
    random = np.random.default_rng(0)
    return random.normal(size=(400, 6)) @ np.diag([9, 4, 2, 1, 0.5, 0.2]) @ random.normal(size=(6, 6)) + 3


def by_name(rows: np.ndarray) -> dict:
    return {each.name: each for each in linear_maps(rows)}


def test_whitened_rows_have_the_same_variance_in_all_directions(rows):
    mapped = by_name(rows)["power 1"](rows).astype(np.float64)
    covariance = np.cov(mapped, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance / covariance[0, 0], np.eye(6), atol=1e-4)
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-4)


def test_half_the_power_takes_the_root_of_each_variance(rows):
    before = np.sort(np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True)))
    after = np.sort(np.linalg.eigvalsh(np.cov(by_name(rows)["power 0.5"](rows), rowvar=False, bias=True)))
    np.testing.assert_allclose(after / after[-1], np.sqrt(before / before[-1]), rtol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_strongest_directions_are_removed_and_the_others_stay(count, rows):
    mapped = by_name(rows)[f"{count} removed" if count else "centred"](rows)
    before = np.sort(np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True)))
    after = np.sort(np.linalg.eigvalsh(np.cov(mapped.astype(np.float64), rowvar=False, bias=True)))
    np.testing.assert_allclose(after, np.sort([*before[: 6 - count], *[0] * count]), atol=1e-3 * before[-1])


def test_few_rows_are_not_whitened(rows):
    assert set(by_name(rows[:11])) == {"centred", "1 removed", "4 removed"}
    assert "power 1" in by_name(rows[:12])


@pytest.mark.parametrize("normalized", [False, True])
def test_a_saved_model_maps_what_the_start_encodes(normalized, encoder, tmp_path):
    start = encoder(STATIC)
    if normalized:
        start.append(Normalize())
    start.eval()
    plain = start.encode(SENTENCES)
    linear = linear_maps(np.random.default_rng(0).normal(size=(50, plain.shape[1])) + plain.mean(axis=0))[-1]
    expected = linear(plain)
    if normalized:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with_map(start, linear).save(str(tmp_path / "model"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(again.encode(SENTENCES), expected, atol=1e-5)
    np.testing.assert_array_equal(start.encode(SENTENCES), plain)
