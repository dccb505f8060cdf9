"""What the papers say of these losses, measured: Wang & Isola 2020 (2005.10242), Wang & Liu 2021 (2012.09740)."""

import math

import pytest
import torch
from scipy.stats import vonmises_fisher

from sentemb.geometry import l2_normalize, penalty_entropy, uniformity, uniformity_optimum
from sentemb.geometry.metrics import relative_penalty
from sentemb.objectives import OBJECTIVES
from sentemb.registry import build
from tests.devices import DEVICE, DOUBLE, arange, normal, numbers, ones

pytestmark = numbers

TAUS = [0.05, 0.1, 0.3, 1.0, 3.0]


def cloud(count: int, dimension: int, kappa: float, seed: int) -> torch.Tensor:
    """Points drawn from a von Mises-Fisher distribution."""
    mean = [1.0] + [0.0] * (dimension - 1)
    return torch.from_numpy(vonmises_fisher(mean, kappa).rvs(count, random_state=seed)).to(DEVICE)


def positives(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in five dimensions, concentrated, and their positives close by."""
    x = cloud(count, 5, 2.0, seed)
    noise = normal(count, 5, seed=seed)
    return x, l2_normalize(x + 0.2 * noise)


def test_theorem_1_the_loss_approaches_alignment_and_uniformity_as_negatives_grow():
    tau, anchors = 0.5, 1000
    x, y = positives(anchors, 0)
    right, base = (x * y).sum(dim=1) / tau, cloud(200_000, 5, 2.0, 99)
    second = torch.cat([(part @ base.T / tau).logsumexp(dim=1) for part in y.split(100)]) - math.log(len(base))
    limit = (second - right).mean().item()  # -E f(x).f(y) / tau + E log E exp(f(x-).f(x) / tau)
    gaps, deviations = [], []
    for m in (16, 64, 256):
        others = cloud(anchors * m, 5, 2.0, m).view(anchors, m, 5)
        scores = torch.cat([right[:, None], torch.einsum("nd,nmd->nm", y, others) / tau], dim=1)
        loss = scores.logsumexp(dim=1) - right - math.log(m)  # L_contrastive - log M, of each anchor
        gaps.append(abs(loss.mean().item() - limit))
        deviations.append((loss - (second - right)).abs().mean().item())
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.02
    for few, many in zip(deviations, deviations[1:], strict=False):  # four times as many negatives: half
        assert 0.4 < many / few < 0.6, deviations


@pytest.mark.parametrize(("dimension", "count", "t"), [(2, 64, 2.0), (2, 64, 5.0), (3, 100, 2.0)])
def test_the_uniform_distribution_is_what_minimises_the_gaussian_potential(dimension, count, t):
    x = normal(count, dimension, seed=0)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1)
    for step in range(250):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 250)
        optimizer.zero_grad()
        uniformity(l2_normalize(x), t).backward()
        optimizer.step()
    minimum = uniformity(l2_normalize(x), t).item()
    # self-pairs are left out of the mean: L2 = log((B exp(L1) - 1) / (B - 1)) of the sample that has them (L1)
    with_self = math.log(((count - 1) * math.exp(minimum) + 1) / count)
    assert with_self == pytest.approx(uniformity_optimum(dimension, t), abs=2e-3)
    if t == 2.0:
        optimum = {2: -1.5750, 3: -2.0798}[dimension]
        assert uniformity_optimum(dimension) == pytest.approx(optimum, abs=5e-5)
        assert with_self == pytest.approx(optimum, abs=2e-3) and with_self >= optimum - 1e-4


@pytest.mark.parametrize("tau", TAUS)
def test_the_gradients_of_negatives_add_up_to_that_of_the_partner(tau):
    x, y = positives(12, 3)
    scores = (x @ y.T).requires_grad_()
    torch.nn.functional.cross_entropy(scores / tau, arange(12), reduction="sum").backward()
    pull = scores.grad.diagonal().abs()
    push = scores.grad.clone().fill_diagonal_(0)
    assert torch.allclose(push.sum(dim=1), pull, atol=DOUBLE)
    r = relative_penalty(x, y, tau)
    assert torch.allclose(push / pull[:, None], r, atol=DOUBLE)
    assert torch.allclose(r.sum(dim=1), ones(12, dtype=torch.float64), atol=DOUBLE)


def test_the_entropy_of_the_penalty_grows_with_the_temperature():
    x, y = positives(30, 4)
    entropies = [penalty_entropy(x, y, tau) for tau in TAUS]
    for tau, entropy in zip(TAUS, entropies, strict=True):
        r = relative_penalty(x, y, tau)
        assert torch.allclose(entropy, torch.special.entr(r).sum(dim=1), atol=DOUBLE)
    for colder, warmer in zip(entropies, entropies[1:], strict=False):
        assert (warmer > colder).all()
    assert (entropies[-1] < math.log(29)).all()
    assert penalty_entropy(x, y, 1e4).mean().item() == pytest.approx(math.log(29))


def test_l_simple_is_the_limit_of_large_temperature():
    x, y = positives(20, 5)
    simple = build(OBJECTIVES, "simple")(x, y).item()
    for tau, error in ((10, 0.1), (100, 0.01), (10_000, 1e-4)):
        contrastive = build(OBJECTIVES, f"infonce:temperature={tau}")(x, y).item()
        # s_ii and the n - 1 others: the sum holds the positive too, so that both weights are (n - 1) / n of L_simple's
        assert tau * (contrastive - math.log(20)) * 20 / 19 == pytest.approx(simple, abs=error)


def test_the_hinge_on_the_nearest_negative_is_the_limit_of_small_temperature():
    x, y = positives(20, 6)
    y = y.roll(7, 0)  # negatives as positives, so that the hinge is open
    scores = x @ y.T
    nearest = scores.clone().fill_diagonal_(-math.inf).max(dim=1).values
    hinge = (nearest - scores.diagonal()).clamp_min(0).mean().item()
    assert hinge > 0.01
    for tau, error in ((1e-2, 1e-2), (1e-3, 1e-3), (1e-5, 1e-5)):
        assert tau * build(OBJECTIVES, f"infonce:temperature={tau}")(x, y).item() == pytest.approx(hinge, abs=error)


@pytest.mark.parametrize("tau", [0.05, 0.1, 0.25, 0.5])
def test_temperature_and_t_are_one_thing(tau):
    """exp(u.v / tau) = exp(1 / tau) G_t(u, v) at t = 1 / (2 tau): the loss' second term is a uniformity."""
    x, _ = positives(50, 7)
    t = 1 / (2 * tau)
    scores = (x @ x.T / tau).fill_diagonal_(-math.inf)
    mean = scores.flatten().logsumexp(dim=0).item() - math.log(50 * 49)
    assert mean == pytest.approx(1 / tau + uniformity(x, t).item(), abs=DOUBLE)
