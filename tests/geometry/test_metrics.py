"""Geometry equals its papers' formulas written as loops, its closed forms, and what other libraries compute."""

import math

import pytest
import torch

from sentemb.geometry import (
    alignment,
    effective_rank,
    l2_normalize,
    mean_cosine,
    retrieval,
    spread,
    tolerance,
    uniformity,
    uniformity_optimum,
)
from tests.devices import DOUBLE, SINGLE, eye, normal, numbers, ones, tensor, zeros

pytestmark = numbers


def sphere(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return l2_normalize(normal(n, d, seed=seed))


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
def test_alignment_is_the_mean_power_of_distances(alpha):
    x, y = sphere(7, 5), sphere(7, 5, seed=1)
    total = sum(math.dist(x[i].tolist(), y[i].tolist()) ** alpha for i in range(7))
    assert alignment(x, y, alpha).item() == pytest.approx(total / 7, abs=DOUBLE)


@pytest.mark.parametrize("t", [0.5, 2.0, 7.0])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_uniformity_is_the_log_mean_gaussian_of_distinct_pairs(t, block):
    x = sphere(9, 4)
    pairs = [math.exp(-t * math.dist(x[i].tolist(), x[j].tolist()) ** 2) for i in range(9) for j in range(i)]
    assert uniformity(x, t, block).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=DOUBLE)


def test_uniformity_equals_pdist_where_that_fits():
    x = sphere(500, 32)
    expected = torch.pdist(x).square().mul(-2).exp().mean().log()
    assert uniformity(x, block=128).item() == pytest.approx(expected.item(), abs=DOUBLE)


def test_uniformity_in_float32_is_that_of_float64():
    x = l2_normalize(sphere(2500, 768) + 0.5)  # in one cone, as embeddings are
    expected = torch.pdist(x).square_().mul_(-2).exp_().mean().log().item()
    assert uniformity(x.float()).item() == pytest.approx(expected, abs=SINGLE)


def test_ranks_over_several_blocks_of_rows():
    x = sphere(2500, 8)  # of which a block holds 1,677 rows
    y = l2_normalize(x + 0.5 * sphere(2500, 8, seed=1))
    scores = x @ y.T
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(dim=1)
    mrr, recall = retrieval(x, y)
    assert mrr == pytest.approx((1 / ranks).mean().item(), abs=SINGLE)
    assert recall == pytest.approx((ranks == 1).double().mean().item()) and 0 < recall < 1


def test_uniformity_of_one_point_is_zero_and_of_antipodes_minus_4t():
    assert uniformity(ones(5, 3, dtype=torch.float64) / math.sqrt(3)).item() == pytest.approx(0, abs=DOUBLE)
    assert uniformity(tensor([[1.0, 0.0], [-1.0, 0.0]]), t=2).item() == pytest.approx(-8, abs=SINGLE)


@pytest.mark.parametrize(  # Wang & Isola 2020, Corollary 1, t = 2
    ("d", "value"), [(2, -1.5750), (3, -2.0798), (8, -3.0825), (32, -3.7518), (128, -3.9375), (1200, -3.9933)]
)
def test_uniformity_optimum_is_the_corollarys(d, value):
    assert uniformity_optimum(d) == pytest.approx(value, abs=5e-5)


def test_a_large_even_sample_comes_near_the_optimum():
    assert uniformity(sphere(3000, 8)).item() == pytest.approx(uniformity_optimum(8), abs=0.02)


def test_mean_cosine_and_spread_of_even_and_collapsed_rows():
    even, one = sphere(2000, 16), l2_normalize(ones(10, 16))
    assert mean_cosine(even).item() == pytest.approx(0, abs=0.01)
    assert spread(even).item() == pytest.approx(1, abs=0.02)
    assert mean_cosine(one).item() == pytest.approx(1, abs=SINGLE)
    assert spread(one).item() == pytest.approx(0, abs=SINGLE)


def test_retrieval_ranks_by_hand():
    x = eye(3)
    y = tensor([[1.0, 0.0, 0.0], [0.0, 0.1, 0.9], [0.0, 0.5, 0.5]])
    mrr, recall = retrieval(x, y)  # ranks 1, 2 (y_2 is nearer to x_1), 2 (y_1 is nearer to x_2)
    assert mrr == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert recall == pytest.approx(1 / 3)


def test_a_collapsed_encoder_retrieves_no_better_than_chance():
    mrr, recall = retrieval(ones(101, 4), ones(101, 4))
    assert mrr == pytest.approx(1 / 51) and recall == 0


def test_unit_keeps_zero_rows_and_their_gradient_finite():
    x = zeros(2, 3, requires_grad=True)
    l2_normalize(x).sum().backward()
    assert torch.equal(l2_normalize(x), zeros(2, 3)) and x.grad.isfinite().all()


def test_scale_of_embeddings_does_not_matter_once_normalised():
    x, y = sphere(20, 6), sphere(20, 6, 1)
    assert alignment(l2_normalize(10 * x), l2_normalize(y)).item() == pytest.approx(alignment(x, y).item(), abs=DOUBLE)
    assert uniformity(l2_normalize(1e4 * x)).item() == pytest.approx(uniformity(x).item(), abs=DOUBLE)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (0, 3)])
def test_uniformity_needs_two_rows(shape):
    with pytest.raises(ValueError, match="uniformity needs"):
        uniformity(zeros(shape))


def test_alignment_needs_equal_shapes():
    with pytest.raises(ValueError, match="alignment needs"):
        alignment(zeros(2, 3), zeros(3, 3))


def test_tolerance_is_the_mean_cosine_within_classes():
    x = l2_normalize(normal(12, 5, seed=0))
    labels = tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3])
    pairs = [(x[i] @ x[j]).item() for i in range(12) for j in range(i) if labels[i] == labels[j]]
    assert tolerance(x, labels).item() == pytest.approx(tolerance(x.flip(0), labels.flip(0), block=5).item())
    assert tolerance(x, labels).item() == pytest.approx(sum(pairs) / len(pairs))
    assert tolerance(ones(4, 1), tensor([0, 0, 1, 1])).item() == 1
    assert math.isnan(tolerance(x[:2], tensor([0, 1])).item())


def test_effective_rank_counts_directions():
    assert effective_rank(eye(6)[:4].repeat(5, 1), block=3).item() == pytest.approx(4)
    assert effective_rank(ones(7, 3)).item() == pytest.approx(1, abs=SINGLE)
    assert effective_rank(zeros(7, 3)).item() == 1
    x = normal(30, 6, seed=0, dtype=torch.float32)
    share = torch.linalg.svdvals(x.double())
    share = share / share.sum()
    assert effective_rank(x, block=7).item() == pytest.approx(torch.exp(-(share * share.log()).sum()).item())
