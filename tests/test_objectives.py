"""Objectives equal their papers' formulas written as loops, keep the symmetries they should, and stay finite."""

import itertools
import math

import pytest
import torch

from sentemb.objectives import OBJECTIVES, AlignUniform, Extras, InfoNCE, JointInfoNCE, Mix
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
    moved = Extras(positions=order) if OBJECTIVES[name].needs_runs else None
    assert OBJECTIVES[name]()(x[order], y[order], moved).item() == pytest.approx(loss.item(), abs=1e-12)
    loss.backward()
    assert x.grad.norm() > 0 and y.grad.norm() > 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_length_of_rows_is_irrelevant(name, views):
    x, y = views
    assert OBJECTIVES[name]()(7 * x, 0.1 * y).item() == pytest.approx(OBJECTIVES[name]()(x, y).item(), abs=1e-9)


def slow_hard(x, y, hard, tau: float, weight: float, ids) -> float:
    """SimCSE's supervised loss (eq. 5, weight of table 4), copies of anchor or partner left out."""
    x, y, total = rows(x), rows(y), 0.0
    for i in range(len(x)):
        own = math.exp(dot(x[i], y[i]) / tau)
        below = own
        below += sum(math.exp(dot(x[i], y[j]) / tau) for j in range(len(x)) if j != i and ids[j][1] not in ids[i][:2])
        for j in range(len(x)):
            for k, row in enumerate(rows(hard[j])):
                if ids[j][2 + k] not in ids[i][:2]:
                    below += math.exp(dot(x[i], row) / tau + (weight if i == j else 0))
        total -= math.log(own / below)
    return total / len(x)


IDS = [[0, 10, 20, 21], [1, 11, 22, 23], [2, 10, 0, 24], [0, 13, 25, 13], [4, 2, 26, 27], [5, 15, 28, 29]]


@pytest.mark.parametrize("weight", [0.0, 1.5])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_hard_negatives_and_copies_as_loops(views, k, weight):
    (x, y), ids = views, [row[: 2 + k] for row in IDS]
    hard = torch.randn(6, k, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    got = InfoNCE(0.3, hard_weight=weight)(x, y, Extras(torch.tensor(ids), hard))
    assert got.item() == pytest.approx(slow_hard(x, y, hard, 0.3, weight, ids), abs=1e-10)


def test_dot_takes_rows_as_they_are(views):
    x, y = views
    loss = torch.nn.functional.cross_entropy(x @ y.T, torch.arange(6))
    assert InfoNCE(1.0, score="dot")(x, y).item() == pytest.approx(loss.item(), abs=1e-12)


def test_copies_do_not_repel_each_other_in_uniformity(views):
    x, y = views
    ids = torch.tensor([[0, 0], [0, 0], [2, 2], [3, 3], [4, 4], [5, 5]])
    spread_out = []
    for side in views:
        apart = [
            math.exp(-2 * math.dist(a, b) ** 2)
            for (i, a), (j, b) in itertools.combinations(enumerate(rows(side)), 2)
            if (i, j) != (0, 1)
        ]
        spread_out.append(math.log(sum(apart) / len(apart)))
    expected = slow_align(x, y, 2) + sum(spread_out) / 2
    assert AlignUniform()(x, y, Extras(ids)).item() == pytest.approx(expected, abs=1e-10)
    same = AlignUniform()(x, y, Extras(torch.zeros(6, 2, dtype=torch.long)))
    assert same.item() == pytest.approx(slow_align(x, y, 2), abs=1e-10)


@pytest.mark.parametrize("diagonal", ["out", "zero", "in"])
def test_joint_targets_are_the_neighbours_as_loops(views, diagonal):
    (x, y), tau, positions = views, 0.4, [3, 4, 5, 7, 8, 20]  # two documents and a lonely sentence
    ids = [0, 1, 2, 0, 4, 5]  # the fourth is a copy of the first
    total, counted = 0.0, 0
    for i, a in enumerate(rows(x)):
        near = [j for j in range(6) if abs(positions[i] - positions[j]) == 1]
        scores = [math.exp(dot(a, b) / tau) for b in rows(y)]
        if diagonal == "zero":
            scores[i] = 1.0
        kin = {ids[i], *(ids[j] for j in near)}
        for j in range(6):
            if (j == i and diagonal == "out") or (j != i and j not in near and ids[j] in kin):
                scores[j] = 0.0
        if near:
            total -= sum(math.log(scores[j] / sum(scores)) for j in near) / len(near)
            counted += 1
    extras = Extras(torch.tensor(ids)[:, None], positions=torch.tensor(positions))
    got = JointInfoNCE(tau, diagonal=diagonal)(x, y, extras).item()
    assert counted == 5 and got == pytest.approx(total / counted, abs=1e-10)


def test_joint_of_collapsed_embeddings_is_log_of_the_others():
    assert JointInfoNCE()(torch.ones(6, 4), torch.ones(6, 4)).item() == pytest.approx(math.log(5), abs=1e-6)
    lonely = Extras(positions=torch.tensor([0, 5, 10]))
    assert JointInfoNCE()(torch.ones(3, 4), torch.ones(3, 4), lonely).item() == 0


def test_infonce_of_collapsed_embeddings_is_log_of_the_candidates():
    one = torch.ones(6, 4)
    assert InfoNCE()(one, one).item() == pytest.approx(math.log(6), abs=1e-6)
    assert InfoNCE()(one, one, Extras(negatives=torch.ones(6, 2, 4))).item() == pytest.approx(math.log(18), abs=1e-6)
    assert InfoNCE().candidates(6, 2) == 18 and JointInfoNCE().candidates(6) == 5


def test_align_uniform_of_collapsed_embeddings_is_zero():
    assert AlignUniform()(torch.ones(6, 4), torch.ones(6, 4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["identical", "zero", "one", "long", "partners equal"])
@pytest.mark.parametrize(
    "spec",
    ["infonce", "infonce:symmetric=yes,temperature=0.001", "infonce:score=dot,temperature=1", "align_uniform:alpha=0.5",
     "align_uniform:t=50", "mix:align=1,uniform=1,alpha=1", "joint", "joint:diagonal=in,temperature=0.001"],
)  # fmt: skip
@pytest.mark.parametrize("copied", [False, True])
def test_losses_and_gradients_are_finite(spec, kind, copied, dtype):
    normal = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    x, y = {
        "identical": (torch.ones(8, 4), torch.ones(8, 4)),
        "zero": (torch.zeros(8, 4), normal.clone()),
        "one": (normal[:1].clone(), normal[1:2].clone()),
        "long": (1e4 * normal, 10 * normal.roll(1, 0)),
        "partners equal": (normal.clone(), normal.clone()),
    }[kind]
    x, y = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
    extras = Extras(torch.zeros(len(x), 2, dtype=torch.long)) if copied else None  # every sentence a copy of one
    loss = build(OBJECTIVES, spec)(x, y, extras)
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
     "align_uniform:weight=-1", "mix:contrastive=0", "mix:temperature=0", "infonce:tau=1",
     "infonce:score=euclid", "infonce:hard_weight=nan", "joint:diagonal=maybe"],
)  # fmt: skip
def test_impossible_options_are_refused_at_construction(spec):
    with pytest.raises(InputError):
        build(OBJECTIVES, spec, "objective")
