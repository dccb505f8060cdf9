"""Objectives equal their papers' formulas written as loops, keep the symmetries they should, and stay finite."""

import itertools
import math

import pytest
import torch

from sentemb.objectives import OBJECTIVES, AlignUniform, InfoNCE, Mix
from sentemb.registry import InputError, build


def rows(x: torch.Tensor) -> list[list[float]]:
    return [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in x.tolist()]


def dot(a, b) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def slow_infonce(x, y, tau: float) -> float:
    x, y, total = rows(x), rows(y), 0.0
    for i in range(len(x)):
        scores = [math.exp(dot(x[i], other) / tau) for other in y]
        total -= math.log(scores[i] / sum(scores))
    return total / len(x)


def slow_align(x, y, alpha: float) -> float:
    return sum(math.dist(a, b) ** alpha for a, b in zip(rows(x), rows(y), strict=True)) / len(x)


def slow_uniform(x, t: float) -> float:
    pairs = [math.exp(-t * math.dist(a, b) ** 2) for a, b in itertools.combinations(rows(x), 2)]
    return math.log(sum(pairs) / len(pairs))


def slow_spread(x, y, t: float) -> float:
    return (slow_uniform(x, t) + slow_uniform(y, t)) / 2


@pytest.mark.parametrize("tau", [0.05, 0.5, 3.0])
def test_infonce_equals_the_papers_sum(views, tau):
    x, y = views
    assert InfoNCE(tau)(x, y).item() == pytest.approx(slow_infonce(x, y, tau), abs=1e-10)
    both = (slow_infonce(x, y, tau) + slow_infonce(y, x, tau)) / 2
    assert InfoNCE(tau, symmetric=True)(x, y).item() == pytest.approx(both, abs=1e-10)


@pytest.mark.parametrize(("alpha", "t", "weight"), [(2, 2, 1), (1, 5, 0.5), (3, 1, 2)])
def test_align_uniform_equals_the_papers_sum(views, alpha, t, weight):
    x, y = views
    expected = slow_align(x, y, alpha) + weight * slow_spread(x, y, t)
    assert AlignUniform(alpha, t, weight)(x, y).item() == pytest.approx(expected, abs=1e-10)


def test_mix_is_the_weighted_sum_of_its_terms(views):
    x, y = views
    expected = 0.3 * slow_infonce(x, y, 0.2) + 2 * slow_align(x, y, 1.5) + 0.7 * slow_spread(x, y, 3)
    assert Mix(0.3, 2, 0.7, 0.2, 1.5, 3)(x, y).item() == pytest.approx(expected, abs=1e-10)
    assert Mix()(x, y).item() == pytest.approx(InfoNCE()(x, y).item(), abs=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_exact(name, views):
    x, y = views
    assert torch.autograd.gradcheck(OBJECTIVES[name](), (x[:4, :3], y[:4, :3]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_of_pairs_is_irrelevant_and_both_views_learn(name, views):
    x, y = views
    loss, order = OBJECTIVES[name]()(x, y), torch.tensor([3, 1, 5, 0, 2, 4])
    assert OBJECTIVES[name]()(x[order], y[order]).item() == pytest.approx(loss.item(), abs=1e-12)
    loss.backward()
    assert x.grad.norm() > 0 and y.grad.norm() > 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_length_of_rows_is_irrelevant(name, views):
    x, y = views
    assert OBJECTIVES[name]()(7 * x, 0.1 * y).item() == pytest.approx(OBJECTIVES[name]()(x, y).item(), abs=1e-9)


def test_infonce_of_collapsed_embeddings_is_log_n():
    assert InfoNCE()(torch.ones(6, 4), torch.ones(6, 4)).item() == pytest.approx(math.log(6), abs=1e-6)


def test_align_uniform_of_collapsed_embeddings_is_zero():
    assert AlignUniform()(torch.ones(6, 4), torch.ones(6, 4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["identical", "zero", "one", "long", "partners equal"])
@pytest.mark.parametrize("spec", ["infonce", "infonce:symmetric=yes,temperature=0.001", "align_uniform:alpha=0.5",
                                  "align_uniform:t=50", "mix:align=1,uniform=1,alpha=1"])  # fmt: skip
def test_losses_and_gradients_are_finite(spec, kind, dtype):
    normal = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    x, y = {
        "identical": (torch.ones(8, 4), torch.ones(8, 4)),
        "zero": (torch.zeros(8, 4), normal.clone()),
        "one": (normal[:1].clone(), normal[1:2].clone()),
        "long": (1e4 * normal, 10 * normal.roll(1, 0)),
        "partners equal": (normal.clone(), normal.clone()),
    }[kind]
    x, y = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
    loss = build(OBJECTIVES, spec)(x, y)
    loss.backward()
    assert loss.isfinite() and loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert x.grad.isfinite().all() and y.grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_autocast_changes_nothing(name):
    x, y = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(2))
    plain = OBJECTIVES[name]()(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(OBJECTIVES[name]()(x, y), plain)


@pytest.mark.parametrize(
    "spec",
    ["infonce:temperature=0", "infonce:temperature=nan", "align_uniform:alpha=-1", "align_uniform:t=0",
     "align_uniform:weight=-1", "mix:contrastive=0", "mix:temperature=0", "infonce:tau=1"],
)  # fmt: skip
def test_impossible_options_are_refused_at_construction(spec):
    with pytest.raises(InputError):
        build(OBJECTIVES, spec, "objective")
