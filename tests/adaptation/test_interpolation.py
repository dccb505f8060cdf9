"""Weights between two models are the mean that a loop computes, and the saved model loads plainly."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from sentemb.adaptation import interpolated
from sentemb.adaptation.interpolation import refined_weight
from tests.conftest import SENTENCES
from tests.helpers import STATIC


@pytest.fixture
def two(encoder) -> tuple[SentenceTransformer, SentenceTransformer]:
    """A model, and another one of its kind."""
    start, tuned = encoder("transformer:name=TINY"), encoder("transformer:name=TINY")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return start.eval(), tuned.eval()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_each_weight_is_the_mean_of_a_loop(weight, two):
    start, tuned = two
    between = interpolated(start, tuned, weight).state_dict()
    for name, value in start.state_dict().items():
        other = tuned.state_dict()[name]
        if not value.is_floating_point():
            assert torch.equal(between[name], value)
            continue
        loop = [
            weight * b + (1 - weight) * a
            for a, b in zip(value.flatten().tolist(), other.flatten().tolist(), strict=True)
        ]
        np.testing.assert_allclose(between[name].flatten().numpy(), loop, rtol=1e-6, atol=1e-8)


def test_the_ends_are_the_two_models_and_neither_is_changed(two):
    start, tuned = two
    before = start.encode(SENTENCES), tuned.encode(SENTENCES)
    np.testing.assert_array_equal(interpolated(start, tuned, 0.0).encode(SENTENCES), before[0])
    np.testing.assert_array_equal(interpolated(start, tuned, 1.0).encode(SENTENCES), before[1])
    interpolated(start, tuned, 0.5)
    np.testing.assert_array_equal(start.encode(SENTENCES), before[0])
    np.testing.assert_array_equal(tuned.encode(SENTENCES), before[1])


def test_a_saved_one_loads_plainly(two, tmp_path):
    made = interpolated(*two, 0.5)
    made.save(str(tmp_path / "model"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(again.encode(SENTENCES), made.encode(SENTENCES), atol=1e-6)


def test_other_weights_are_refused(two, encoder):
    with pytest.raises(ValueError, match="do not have the same weights"):
        interpolated(two[0], encoder(STATIC), 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        interpolated(*two, 1.5)


def test_the_refined_weight_loses_nine_tenths_of_what_is_allowed_on_a_line():
    assert refined_weight({0.25: 0.25, 0.5: 0.5, 0.75: 0.75, 1.0: 1.0}, 0.65) == pytest.approx(0.585, abs=0.006)
    assert refined_weight({0.25: 0.2, 0.5: 0.6, 1.0: 2.0}, 0.5) == pytest.approx(0.25 + 0.25 * 0.25 / 0.4, abs=0.005)
    assert refined_weight({1.0: 4.0}, 0.5) == pytest.approx(0.45 / 4, abs=0.005)  # no time for others


def test_there_is_no_refined_weight_where_nothing_is_lost_or_nothing_lies_between():
    assert refined_weight({0.25: -0.1, 0.5: 0.1, 1.0: 0.4}, 0.5) is None
    assert refined_weight({0.25: 0.1, 0.5: 0.45, 0.55: 5.0, 1.0: 6.0}, 0.5) is None
