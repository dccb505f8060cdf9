"""An objective of prefixes is the weighted mean of what encoders of so many dimensions would have."""

import math
from dataclasses import replace

import pytest
import torch

from sentemb.errors import InputError
from sentemb.geometry import alignment, l2_normalize, uniformity
from sentemb.objectives import (
    OBJECTIVES,
    Extras,
    GuideEmbeddings,
    InfoNCE,
    Matryoshka,
    Objective,
    WeightedSum,
    build_objective,
)
from sentemb.registry import build
from tests import references as slow
from tests.devices import DEVICE, DOUBLE, normal, numbers, ones, tensor
from tests.objectives.test_objectives import (
    HARD,
    IDS,
    LABELS,
    POSITIONS,
    TARGETS,
    TEACHER,
    U,
    ids,
    rows,
    runs,
    with_hard,
    with_ids,
)

pytestmark = numbers

WEIGHTS = {2: 0.5, 3: 2.0}  # of the prefixes; the full embedding, of four dimensions, has weight 1
ALL = Extras(ids, HARD, labels=tensor(LABELS), targets=TARGETS, teacher=TEACHER)
SPECS = [
    *(f"{name}:hidden=8" if name == "byol" else name for name in OBJECTIVES),  # (1,024 weights take minutes to check)
    "infonce:symmetric=yes,same_side=yes,learn=yes",
    "cpc:offsets=2",
    "moco:queue=9,symmetric=yes,in_batch=yes",
    "memory_bank:negatives=5,in_batch=yes",
    "distill:loss=mse",
    "distill:map=none",
    "infonce:temperature=0.3*2 + align_uniform:t=3*0.25",
    "moco:queue=9*0.5 + distill_similarity*3 + memory_bank:negatives=0",
    "infonce + anchor*0.1",
]


def extras_of(spec: str) -> Extras:
    """What the objective is given."""
    objective = build_objective(spec)
    if "runs" in objective.needs:
        return replace(runs, teacher=TEACHER)
    in_its_space = any(term.is_in_space_of_teacher(4, 7) for term in objective.terms())
    return replace(ALL, teacher=TARGETS) if in_its_space else ALL


def made(spec: str, extras: Extras, weights=WEIGHTS) -> Matryoshka:
    """In float64, with what it learns and remembers."""
    torch.manual_seed(0)
    objective = Matryoshka(build_objective(spec), weights)
    objective.teacher_dimension = extras.teacher[0].shape[1] if extras.teacher else 0
    objective.prepare(4, 32)
    return objective.double().to(DEVICE)


def cut(extras: Extras, size: int, teacher: bool) -> Extras:
    """As an encoder of ``size`` dimensions would have it."""
    changed = {name: None if (value := getattr(extras, name)) is None else tuple(z[:, :size] for z in value)
               for name in (("targets", "teacher") if teacher else ("targets",))}  # fmt: skip
    negatives = None if extras.negatives is None else extras.negatives[..., :size]
    return replace(extras, negatives=negatives, **changed)


def alone(objective: Matryoshka, spec: str, size: int, extras: Extras) -> Objective:
    """An objective of ``size`` dimensions made for itself, with the weights that the prefix begins with."""
    part = objective.full if size == 4 else objective.parts[str(size)]
    single = build_objective(spec)
    single.teacher_dimension = extras.teacher[0].shape[1] if extras.teacher else 0
    single.prepare(size, 32)
    single.double().to(DEVICE).load_state_dict(part.state_dict())
    return single


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_the_weighted_mean_of_objectives_of_so_many_dimensions(spec, views):
    (x, y), extras = views, extras_of(spec)
    objective = made(spec, extras)
    of_size = {}
    for size in (2, 3, 4):
        seen = cut(extras, size, objective.cuts_teacher)
        of_size[size] = alone(objective, spec, size, seen), seen
    weights = WEIGHTS | {4: 1.0}
    for _ in range(3):  # with nothing remembered, and with something
        losses = {s: part(x[:, :s], y[:, :s], seen) for s, (part, seen) in of_size.items()}
        expected = sum(weights[size] * loss for size, loss in losses.items()) / 3.5
        loss = objective(x, y, extras)
        assert loss.item() == pytest.approx(expected.item(), abs=DOUBLE)
        for ours, theirs in zip(
            torch.autograd.grad(loss, (x, y), allow_unused=True),
            torch.autograd.grad(expected, (x, y), allow_unused=True),
            strict=True,
        ):
            assert (ours is None) == (theirs is None) and (ours is None or torch.allclose(ours, theirs, atol=DOUBLE))
        metrics = objective.log_metrics(x, y)
        assert {s: metrics[f"loss_{s}d"] for s in losses} == pytest.approx({s: v.item() for s, v in losses.items()})
        objective.update(x, y, extras)
        for size, (part, seen) in of_size.items():
            part.update(x[:, :size], y[:, :size], seen)
    for size, (part, _) in of_size.items():
        ours = (objective.full if size == 4 else objective.parts[str(size)]).state_dict()
        assert set(ours) == set(part.state_dict())
        for name, value in part.state_dict().items():
            assert torch.allclose(ours[name], value, atol=DOUBLE), (size, name)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_are_exact(spec, views):
    (x, y), extras = views, extras_of(spec)
    objective = made(spec, extras)
    if spec.startswith(("memory_bank", "moco")):  # the positive is a constant to it: its copy is held still
        objective.update(x, y, extras)
    weights = tuple(objective.parameters())
    assert torch.autograd.gradcheck(lambda x, y, *_: objective(x, y, extras), (x, y, *weights), nondet_tol=DOUBLE)


def mean_over_sizes(value, x, y) -> float:
    """Of the paper's value in 2, 3 and 4 dimensions."""
    return sum(weight * value(x[:, :size], y[:, :size], size) for size, weight in (WEIGHTS | {4: 1.0}).items()) / 3.5


def distilled(x, y, size, objective):
    """Each prefix with its own map to all of the teacher's dimensions."""
    linear = (objective.full if size == 4 else objective.parts[str(size)]).linear
    assert linear.weight.shape == (7, size)
    teacher = [rows(side) for side in TEACHER]
    return slow.distill([rows(x), rows(y)], teacher, "cosine", rows(linear.weight), rows(linear.bias))


SLOW = {
    "infonce:temperature=0.3": (with_ids, lambda x, y, m, _: slow.contrast(
        U(x), U(y), 0.3, ids=IDS)),
    "infonce:temperature=0.3,hard_weight=1.5": (with_hard, lambda x, y, m, _: slow.contrast(
        U(x), U(y), 0.3, ids=IDS, hard=([U(HARD[i, :, :m]) for i in range(6)], 1.5))),
    "ntxent:temperature=0.4": (Extras(), lambda x, y, m, _: slow.contrast(
        U(x), U(y), 0.4, symmetric=True, same_side=True)),
    "dpr": (Extras(), lambda x, y, m, _: slow.contrast(rows(x), rows(y), 1)),
    "align_uniform": (Extras(), lambda x, y, m, _: slow.align(U(x), U(y), 2)
                      + 0.5 * (slow.uniform(U(x), 2) + slow.uniform(U(y), 2))),
    "mix:contrastive=0.3,align=2,uniform=0.7": (Extras(), lambda x, y, m, _: 0.3 * slow.contrast(U(x), U(y), 0.05)
                                                + 2 * slow.align(U(x), U(y), 2)
                                                + 0.35 * (slow.uniform(U(x), 2) + slow.uniform(U(y), 2))),
    "supcon:temperature=0.5": (Extras(ids[:, :2], labels=tensor(LABELS)), lambda x, y, m, _: slow.supcon(
        U(x), U(y), 0.5, LABELS, [r[:2] for r in IDS])),
    "joint_infonce:temperature=0.4": (runs, lambda x, y, m, _: slow.joint(
        U(x), U(y), 0.4, "out", POSITIONS, [0, 1, 2, 0, 4, 5])),
    "vicreg": (Extras(), lambda x, y, m, _: slow.vicreg(rows(x), rows(y), 25, 25, 1)),
    "distill": (Extras(teacher=TEACHER), distilled),
    "anchor": (Extras(teacher=TARGETS), lambda x, y, m, _: slow.distill(
        [rows(x), rows(y)], [rows(t[:, :m]) for t in TARGETS], "cosine")),
    "distill_similarity": (Extras(teacher=TEACHER), lambda x, y, m, _: slow.distill_similarity(
        [U(x), U(y)], [U(t) for t in TEACHER], 0.05, 0.05)),
}  # fmt: skip


@pytest.mark.parametrize("spec", SLOW)
def test_loss_equals_the_papers_loops_over_prefixes(spec, views):
    (x, y), (extras, value) = views, SLOW[spec]
    objective = made(spec, extras)
    expected = mean_over_sizes(lambda a, b, size: value(a, b, size, objective), x, y)
    assert objective(x, y, extras).item() == pytest.approx(expected, abs=DOUBLE)


def test_a_guide_leaves_the_same_negatives_out_of_each_prefix(views):
    x, y = views
    guide = GuideEmbeddings(normal(6, 5, seed=6), normal(6, 5, seed=7))
    objective = Matryoshka(InfoNCE(0.3), [2])
    ours, theirs = Extras(guide=guide), Extras(guide=replace(guide, counts=type(guide.counts)()))
    expected = (InfoNCE(0.3)(x[:, :2], y[:, :2], theirs) + InfoNCE(0.3)(x, y, theirs)) / 2
    assert objective(x, y, ours).item() == pytest.approx(expected.item(), abs=DOUBLE)
    assert 0 < ours.guide.counts.share < 1 and ours.guide.counts.share == theirs.guide.counts.share
    assert objective(x, y).item() != pytest.approx(expected.item(), abs=1e-3)


def test_the_full_dimension_may_be_named_with_its_weight(views):
    objective = made("infonce", Extras(), {2: 1.0, 4: 3.0})
    expected = (InfoNCE()(views[0][:, :2], views[1][:, :2]) + 3 * InfoNCE()(*views)) / 4
    assert objective(*views).item() == pytest.approx(expected.item(), abs=DOUBLE)
    assert list(objective.parts) == ["2"] and list(objective.weights) == [2, 4]
    assert Matryoshka(InfoNCE(), [3, 2]).weights == {2: 1.0, 3: 1.0}


def test_it_is_what_its_objective_is():
    for spec in SPECS:
        plain, objective = build_objective(spec), Matryoshka(build_objective(spec), WEIGHTS)
        for name in ("needs", "takes", "contrastive", "bounds_mutual_information", "needs_sentence_ids",
                     "requires_shared_encoder", "similarity", "teacher_is_start"):  # fmt: skip
            assert getattr(objective, name) == getattr(plain, name), (spec, name)
        assert [type(term) for term in objective.terms()] == [type(term) for term in plain.terms()]
        assert objective.chance_loss(8, 1) == plain.chance_loss(8, 1)
        if "targets" in plain.needs:
            assert objective.momentum(0.3) == plain.momentum(0.3)
        assert objective.describe_negatives(8).startswith(plain.describe_negatives(8))
        assert "matryoshka 2, 3" in objective.describe_negatives(8)


def test_geometry_and_the_objective_s_own_numbers_are_logged_for_each_prefix(views):
    x, y = (side.detach() for side in views)
    objective = made("infonce:learn=yes + align_uniform*0.5", Extras())
    objective(x, y)
    metrics = objective.log_metrics(x, y)
    for size in (2, 3):
        a, b = l2_normalize(x[:, :size]), l2_normalize(y[:, :size])
        assert metrics[f"alignment_{size}d"] == pytest.approx(alignment(a, b).item())
        assert metrics[f"uniformity_{size}d"] == pytest.approx((uniformity(a) + uniformity(b)).item() / 2)
        assert metrics[f"loss_infonce_{size}d"] == pytest.approx(InfoNCE()(x[:, :size], y[:, :size]).item())
    assert {"temperature", "temperature_2d", "loss_infonce", "loss_4d"} <= metrics.keys()
    assert "alignment_4d" not in metrics
    single = objective.log_metrics(x[:1], y[:1])
    assert all(math.isfinite(value) for value in single.values())


def test_every_prefix_learns_and_a_collapsed_batch_costs_what_guessing_does():
    one = ones(6, 4, dtype=torch.float64)
    for name, kind in OBJECTIVES.items():
        if build(OBJECTIVES, name).contrastive and name != "hard":
            objective = made(name, Extras())
            assert objective(one, one).item() == pytest.approx(objective.chance_loss(6), abs=DOUBLE), kind
    objective = made("infonce:learn=yes", Extras())
    objective(normal(6, 4), normal(6, 4, seed=1)).backward()
    assert len(list(objective.parameters())) == 3
    assert all(weight.grad is not None and weight.grad != 0 for weight in objective.parameters())


def test_modules_and_functions_are_copied_for_each_prefix(views):
    x, y = views

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, a, b):
            return self.factor * (a - b).square().sum(dim=1).mean()

    objective = Matryoshka(Scaled(), [2])
    expected = 2 * sum((x[:, :m] - y[:, :m]).square().sum(dim=1).mean() for m in (2, 4)) / 2
    assert objective(x, y).item() == pytest.approx(expected.item(), abs=DOUBLE)
    assert len(list(objective.parameters())) == 2
    total = Matryoshka(WeightedSum([(InfoNCE(), 1), (lambda a, b: (a - b).square().mean(), 0.5)]), [2])
    assert total(x, y).requires_grad


@pytest.mark.parametrize(
    ("spec", "prefixes", "teacher", "message"),
    [("infonce", [2, 5], 0, "names a prefix of 5 dimensions, and the model's embeddings have 4"),
     ("infonce", [4], 0, "4 is the whole embedding, which is trained anyway"),
     ("infonce", [2, 2], 0, "names a prefix of 2 dimensions twice"),
     ("infonce", [], 0, "names no prefix"),
     ("infonce", [0], 0, "the length of a prefix must be at least 1"),
     ("infonce", {2: 0.0}, 0, "the weight of a prefix must be a positive number"),
     ("distill:map=none", [2], 7, "the model's have 4 dimensions and the teacher's 7"),
     ("distill:map=none + distill_similarity", [2], 4, "and this sum has both; leave one of them out")],
)  # fmt: skip
def test_prefixes_that_cannot_be_are_refused(spec, prefixes, teacher, message):
    with pytest.raises(InputError, match=message):
        objective = Matryoshka(build_objective(spec), prefixes)
        objective.teacher_dimension = teacher
        objective.prepare(4)


def test_one_of_prefixes_already_is_refused():
    with pytest.raises(InputError, match="applied to prefixes already"):
        Matryoshka(Matryoshka(InfoNCE(), [2]), [3])


def test_an_objective_that_was_given_stays_the_full_one_s():
    objective = InfoNCE(learn=True)
    wrapped = Matryoshka(objective, [2])
    assert wrapped.full is objective and wrapped.parts["2"].factor is not objective.factor
