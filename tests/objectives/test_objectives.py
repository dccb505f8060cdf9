"""Objectives equal their papers' formulas written as loops, keep the symmetries they should, and stay finite."""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sentemb.errors import InputError
from sentemb.geometry import l2_normalize, tiled_scores
from sentemb.geometry.metrics import relative_penalty
from sentemb.objectives import OBJECTIVES, Extras, WeightedSum, build_objective
from sentemb.objectives.base import copied
from sentemb.objectives.contiguous import follower
from sentemb.pairs import contiguous
from sentemb.registry import build
from tests import references as slow
from tests.devices import DEVICE, DOUBLE, arange, eye, normal, numbers, ones, tensor, zeros

pytestmark = numbers

IDS = [[0, 10, 20, 21], [1, 11, 22, 23], [2, 10, 0, 24], [0, 13, 25, 13], [4, 2, 26, 27], [5, 15, 28, 29]]
POSITIONS = [3, 4, 5, 7, 8, 20]  # two documents and a lonely sentence
LABELS = [0, 1, 0, 2, 0, 1]


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    """Everything once in one tile and once in tiles of four."""
    if request.param == "many tiles":
        monkeypatch.setattr(tiled_scores, "BLOCK", 4)
        monkeypatch.setattr(tiled_scores, "TILE_SCORES", 8)
        monkeypatch.setattr(tiled_scores, "ROWS", 2)


def keep(share: float):
    return lambda count: math.ceil(share * count)


@dataclass(frozen=True)
class Case:
    """An objective with options, what it is given next to the views, and the paper's value of it."""

    spec: str
    slow: object
    extras: Extras | None = None

    def made(self):
        torch.manual_seed(0)
        objective = build_objective(self.spec)
        teacher = self.extras.teacher if self.extras else None
        objective.teacher_dimension = 0 if teacher is None else teacher[0].shape[1]
        objective.prepare(4, 32)
        return objective.double().to(DEVICE)


def rows(x):
    return x.tolist()


ids = tensor(IDS)
HARD = normal(6, 2, 4, seed=3)
TARGETS = (normal(6, 4, seed=4), normal(6, 4, seed=5))
TEACHER = (normal(6, 7, seed=8), normal(6, 7, seed=9))
U = slow.unit


def contrast_case(spec: str, extras: Extras | None = None, raw: bool = False, **options) -> Case:
    slow_extras = {"ids": IDS} if extras and extras.ids is not None else {}
    if extras and extras.negatives is not None:
        hard = [extras.negatives[i].tolist() if raw else U(extras.negatives[i]) for i in range(6)]
        slow_extras["hard"] = hard, options.pop("weight", 0.0)
    to = rows if raw else U
    return Case(spec, lambda x, y: slow.contrast(to(x), to(y), **options, **slow_extras), extras)


def both_uniform(x, y, t, sides, ids=(None, None)):
    return sides * (slow.uniform(U(x), t, ids[0]) + slow.uniform(U(y), t, ids[1]))


def classified(x, y):
    linear = Case("cross_entropy:classes=3", None).made().classifier
    return slow.cross_entropy(U(x), U(y), rows(linear.weight), rows(linear.bias), LABELS)


def byol(x, y):
    q, targets = Case("byol:hidden=8", None).made(), [l2_normalize(z) for z in TARGETS]
    total = 0.0
    for view, target in ((x, targets[1]), (y, targets[0])):
        hidden = [[slow.dot(w, row) + b for w, b in zip(rows(q.first.weight), rows(q.first.bias), strict=True)]
                  for row in rows(view)]  # fmt: skip
        hidden = [[max(0.0, v) for v in row] for row in slow.standardised(hidden)]
        out = [[slow.dot(w, row) + b for w, b in zip(rows(q.second.weight), rows(q.second.bias), strict=True)]
               for row in hidden]  # fmt: skip
        total += sum(
            2 - 2 * slow.dot(a, b) for a, b in zip(U(tensor(out, dtype=torch.float64)), rows(target), strict=True)
        )
    return total / 6


def first_keys(x, y, tau=0.07):
    """MoCo before any batch is remembered: the other keys of the batch stand in."""
    keys = U(TARGETS[1])
    return sum(slow.pick(slow.dot(a, keys[i]) / tau, slow.others(i, U(x), keys, tau, (), range(6)))
               for i, a in enumerate(U(x))) / 6  # fmt: skip


def first_bank(x, y, tau=0.07):
    """The bank before any sentence is stored: the batch's rows stand in."""
    return slow.contrast(U(x), U(y), tau=tau, symmetric=True)


def distilled(spec, teacher=TEACHER):
    """Of the map that the objective begins with."""

    def value(x, y):
        made = Case(spec, None, Extras(teacher=teacher)).made()
        linear = (rows(made.linear.weight), rows(made.linear.bias)) if made.linear is not None else (None, None)
        return slow.distill([rows(x), rows(y)], [rows(t) for t in teacher], made.distance, *linear)

    return value


def similar(tau, teacher_tau, ids=None):
    return lambda x, y: slow.distill_similarity([U(x), U(y)], [U(t) for t in TEACHER], tau, teacher_tau, ids)


with_teacher = Extras(teacher=TEACHER)
with_ids, with_hard = Extras(ids[:, :2]), Extras(ids, HARD)
runs = Extras(tensor([[0], [1], [2], [0], [4], [5]]), positions=tensor(POSITIONS))
run_ids = [0, 1, 2, 0, 4, 5]
identity = eye(4).tolist()
CASES = {
    case.spec + ("" if case.extras is None else " with extras"): case
    for case in [
        contrast_case("infonce", tau=0.05),
        contrast_case("infonce:temperature=0.3", with_ids, tau=0.3),
        contrast_case("infonce:temperature=0.3,symmetric=yes", with_ids, tau=0.3, symmetric=True),
        contrast_case("infonce:temperature=0.3,same_side=yes", with_ids, tau=0.3, same_side=True),
        contrast_case("infonce:temperature=0.3,hard_weight=1.5", with_hard, tau=0.3, weight=1.5),
        contrast_case("infonce:score=dot,temperature=2,learn=yes", raw=True, tau=2),
        contrast_case("ntxent:temperature=0.4", tau=0.4, symmetric=True, same_side=True),
        contrast_case("ntxent", with_ids, tau=0.1, symmetric=True, same_side=True),
        contrast_case("hard_negatives:temperature=0.3", with_hard, tau=0.3),
        contrast_case("hard_negatives:weight=0.7", replace(with_hard, ids=None), weight=0.7),
        contrast_case("dpr", with_hard, raw=True, tau=1),
        contrast_case("dcl", tau=0.1, symmetric=True, same_side=True, decoupled=True),
        contrast_case("dcl:temperature=0.5", with_ids, tau=0.5, symmetric=True, same_side=True, decoupled=True),
        Case("cmc", lambda x, y: 2 * slow.contrast(U(x), U(y), 0.07, symmetric=True)),
        Case("supcon", lambda x, y: slow.supcon(U(x), U(y), 0.07, list(range(6)))),
        Case("supcon:temperature=0.5", lambda x, y: slow.supcon(U(x), U(y), 0.5, LABELS, [r[:2] for r in IDS]),
             replace(with_ids, labels=tensor(LABELS))),
        Case("cross_entropy:classes=3", classified, Extras(labels=tensor(LABELS))),
        *[Case(f"joint_infonce:temperature=0.4,diagonal={d}",
               lambda x, y, d=d: slow.joint(U(x), U(y), 0.4, d, POSITIONS, run_ids), runs)
          for d in ("out", "zero", "in")],
        Case("cpc", lambda x, y: slow.cpc(rows(x), rows(y), [identity])),
        Case("cpc:offsets=2", lambda x, y: slow.cpc(rows(x), rows(y), [identity] * 2, POSITIONS),
             Extras(positions=tensor(POSITIONS))),
        Case("align_uniform", lambda x, y: slow.align(U(x), U(y), 2) + both_uniform(x, y, 2, 0.5)),
        Case("align_uniform:alpha=1,t=5,weight=0.5,align=0.3,sides=sum",
             lambda x, y: 0.3 * slow.align(U(x), U(y), 1) + 0.5 * both_uniform(x, y, 5, 1)),
        Case("align_uniform:align=0",
             lambda x, y: both_uniform(x, y, 2, 0.5, ([r[0] for r in IDS], [r[1] for r in IDS])), with_ids),
        Case("mix:contrastive=0.3,align=2,uniform=0.7,temperature=0.2,alpha=1.5,t=3",
             lambda x, y: 0.3 * slow.contrast(U(x), U(y), 0.2) + 2 * slow.align(U(x), U(y), 1.5)
             + 0.7 * both_uniform(x, y, 3, 0.5)),
        Case("simple", lambda x, y: slow.simple(U(x), U(y), 1)),
        Case("simple:weight=3", lambda x, y: slow.simple(U(x), U(y), 3, IDS), with_ids),
        Case("hard:temperature=0.5,quantile=0.5", lambda x, y: slow.hard(U(x), U(y), 0.5, keep(0.5))),
        Case("hard:top=2", lambda x, y: slow.hard(U(x), U(y), 0.3, lambda n: 2)),
        Case("hard_simple:quantile=0.4", lambda x, y: slow.simple(U(x), U(y), 1, keep=keep(0.4))),
        Case("hard_simple:top=2,weight=2", lambda x, y: slow.simple(U(x), U(y), 2, IDS, lambda n: 2), with_ids),
        Case("moco", first_keys, Extras(targets=TARGETS)),
        Case("memory_bank", first_bank, Extras(arange(12).view(2, 6).T)),
        Case("byol:hidden=8", byol, Extras(targets=TARGETS)),
        Case("barlow_twins:off_diagonal=0.3", lambda x, y: slow.barlow(rows(x), rows(y), 0.3)),
        Case("vicreg", lambda x, y: slow.vicreg(rows(x), rows(y), 25, 25, 1)),
        *[Case(spec, distilled(spec), with_teacher) for spec in ("distill", "distill:loss=mse")],
        *[Case(spec, distilled(spec, TARGETS), Extras(teacher=TARGETS))
          for spec in ("distill:map=none", "distill:loss=mse,map=linear", "distill:loss=mse,map=auto", "anchor",
                       "anchor:loss=mse")],
        Case("distill_similarity", similar(0.05, 0.05), with_teacher),
        Case("distill_similarity:temperature=0.5,teacher_temperature=0.2", similar(0.5, 0.2, IDS),
             replace(with_teacher, ids=ids[:, :2])),
    ]
}  # fmt: skip


def permuted(extras: Extras | None, order: torch.Tensor) -> Extras:
    extras = extras or Extras()
    at = {name: None if (value := getattr(extras, name)) is None else value[order]
          for name in ("ids", "negatives", "positions", "labels")}  # fmt: skip
    pairs = {name: None if (value := getattr(extras, name)) is None else tuple(rows[order] for rows in value)
             for name in ("targets", "teacher")}  # fmt: skip
    return Extras(**at, **pairs)


def taught(objective, count: int = 6, swapped: bool = False) -> Extras:
    """A teacher's embeddings of ``count`` pairs, for objectives that need them."""
    source = TARGETS if objective.teacher_is_start else TEACHER  # (the start has the model's dimensions)
    teacher = tuple(rows[:count] for rows in source[:: -1 if swapped else 1])
    return Extras(teacher=teacher if "teacher" in objective.needs else None)


def test_every_objective_has_a_reference():
    assert {case.spec.split(":")[0] for case in CASES.values()} == set(OBJECTIVES)


@pytest.mark.parametrize("case", CASES)
def test_loss_equals_the_papers_loops(case, views, tiles):
    case = CASES[case]
    assert case.made()(*views, case.extras).item() == pytest.approx(case.slow(*views), abs=DOUBLE)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_exact(case, views, tiles):
    case, (x, y) = CASES[case], views
    objective = case.made()
    weights = tuple(objective.parameters())
    if case.spec.startswith(("memory_bank", "moco")):  # the positive is a constant to it: its copy is held still
        fixed = Case(case.spec, None).made()
        fixed.update_state(l2_normalize(x.detach()), l2_normalize(y.detach()), case.extras)
        objective = fixed
    loss = lambda x, y, *_: objective(x, y, case.extras)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (x, y, *weights), nondet_tol=DOUBLE)  # (a GPU adds up in any order)


@pytest.mark.parametrize("case", CASES)
def test_order_of_pairs_is_irrelevant_and_every_view_learns(case, views, tiles):
    case, (x, y), order = CASES[case], views, tensor([3, 1, 5, 0, 2, 4])
    objective = case.made()
    extras = case.extras or (Extras(positions=arange(6)) if "runs" in objective.needs else None)
    loss = objective(x, y, extras)
    assert objective(x[order], y[order], permuted(extras, order)).item() == pytest.approx(loss.item(), abs=DOUBLE)
    loss.backward()
    assert x.grad.norm() > 0
    assert (
        y.grad is not None and y.grad.norm() > 0
    ) or case.spec == "moco"  # whose y is seen by the momentum encoder only
    assert all(weight.grad is not None for weight in objective.parameters())


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n not in ("moco", "byol")])  # (they need a momentum encoder)
def test_both_ways_is_what_it_says(name, views):
    objective, (x, y) = Case(name, None).made(), views
    forth, back = objective(x, y, taught(objective)), objective(y, x, taught(objective, swapped=True))
    same = back.item() == pytest.approx(forth.item(), abs=DOUBLE)
    assert same == (objective.interchangeable_views == "yes")


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if Case(name, None).made().normalise])
def test_length_of_rows_is_irrelevant(name, views):
    x, y = views
    objective = Case(name, None).made()
    extras = taught(objective)
    assert objective(7 * x, 0.1 * y, extras).item() == pytest.approx(objective(x, y, extras).item(), abs=DOUBLE)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if Case(n, None).made().contrastive and n != "hard"])
def test_a_collapsed_batch_costs_what_guessing_does(name):
    objective, one = Case(name, None).made(), ones(6, 4, dtype=torch.float64)
    assert objective(one, one).item() == pytest.approx(objective.chance_loss(6), abs=DOUBLE)
    if "negatives" in objective.takes | objective.needs:
        hard = Extras(negatives=ones(6, 2, 4, dtype=torch.float64))
        assert objective(one, one, hard).item() == pytest.approx(math.log(18), abs=DOUBLE)
    assert objective.num_candidates(6) == round(math.exp(objective.chance_loss(6) / (2 if name == "cmc" else 1)))


@pytest.mark.parametrize(
    ("spec", "hard", "runs"),
    [("infonce:symmetric=yes", 1, False), ("infonce:hard_weight=3", 2, False), ("hard_negatives:weight=-1", 1, False),
     ("infonce:same_side=yes,symmetric=yes", 0, False), ("cpc", 0, True), ("cpc:offsets=2", 0, True),
     ("joint_infonce:diagonal=zero", 0, True), ("joint_infonce:diagonal=in", 0, True)],
)  # fmt: skip
def test_the_reference_is_the_loss_of_rows_all_alike(spec, hard, runs):
    one = ones(8, 4, dtype=torch.float64)
    extras = Extras(
        negatives=ones(8, hard, 4, dtype=torch.float64) if hard else None,
        positions=arange(8) if runs else None,
    )
    objective = Case(spec, None).made()
    assert objective(one, one, extras).item() == pytest.approx(objective.chance_loss(8, hard, runs), abs=DOUBLE)
    assert objective.chance_loss(1) is not None


COLLAPSED = {
    "align_uniform": 0.0,
    "align_uniform:align=0": 0.0,
    "mix": math.log(6),
    "simple": 0.0,
    "hard": math.log(6),  # ties: all are nearest
    "hard_simple": 0.0,
    "byol": None,
    "barlow_twins": 4.0,
    "vicreg": 2 * 12.5 * (1 - 0.01),  # no variance: both hinges are open but for the root of epsilon, 1e-4
}


@pytest.mark.parametrize("spec", COLLAPSED)
def test_a_collapsed_batch_of_the_others(spec):
    one = ones(6, 4, dtype=torch.float64)
    loss = Case(spec, None).made()(one, one).item()
    assert 0 <= loss <= 8 if COLLAPSED[spec] is None else loss == pytest.approx(COLLAPSED[spec], abs=DOUBLE)


SPECS = [
    *OBJECTIVES, "infonce:symmetric=yes,temperature=0.001", "infonce:temperature=1000",
    "infonce:same_side=yes,learn=yes", "infonce:score=dot,temperature=1", "ntxent:temperature=0.001",
    "dcl:temperature=0.001", "supcon:temperature=1000",
    "align_uniform:alpha=0.5", "align_uniform:t=50", "mix:align=1,uniform=1,alpha=1", "hard:temperature=0.001,top=1",
    "joint_infonce:diagonal=in,temperature=0.001", "cpc:offsets=3", "moco:in_batch=yes,symmetric=yes",
    "hard:quantile=1", "distill:loss=mse", "distill:map=linear", "distill:loss=mse,map=none",
    "distill_similarity:temperature=0.001,teacher_temperature=0.001",
    "distill_similarity:temperature=1000,teacher_temperature=0.001",
    "distill + infonce:learn=yes*0.5 + memory_bank", "moco:in_batch=yes*2 + distill:loss=mse + distill_similarity",
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["identical", "zero", "one", "long", "positives equal"])
@pytest.mark.parametrize("spec", SPECS)
def test_losses_and_gradients_are_finite(spec, kind, dtype):
    plain = normal(8, 4, seed=1)
    x, y = {
        "identical": (ones(8, 4), ones(8, 4)),
        "zero": (zeros(8, 4), plain.clone()),
        "one": (plain[:1].clone(), plain[1:2].clone()),
        "long": (1e4 * plain, 10 * plain.roll(1, 0)),
        "positives equal": (plain.clone(), plain.clone()),
    }[kind]
    if (spec, kind, dtype) == ("vicreg", "long", torch.float16):
        pytest.skip("its gradient is larger than float16 can hold: it grows with the third power of the length")
    for all_alike in (False, True):
        a, b = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
        extras = Extras(zeros(len(a), 2, dtype=torch.long) if all_alike else None)  # every sentence a copy of one
        objective = build_objective(spec)
        unmapped = "map=none" in spec or "anchor" in spec
        if "teacher" in objective.needs and not (unmapped and dtype == torch.float64):  # (each also without a teacher)
            width = 4 if unmapped else 7
            extras = replace(extras, teacher=(10 * TEACHER[0][:1, :width].expand(len(a), -1), zeros(len(a), width)))
        for _ in range(2):  # with nothing remembered, and with something
            loss = objective(a, b, extras)
            loss.backward()
            assert loss.isfinite() and loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert a.grad.isfinite().all() and (b.grad is None or b.grad.isfinite().all())
            assert all(weight.grad is None or weight.grad.isfinite().all() for weight in objective.parameters())
            objective.update(a, b, extras)
            a.grad = b.grad = None
        assert all(value.isfinite().all() for value in objective.state_dict().values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_autocast_changes_nothing(name):
    x, y = normal(2, 16, 8, seed=2).float()
    objective = build(OBJECTIVES, name)
    plain = objective(x, y)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        assert torch.equal(objective(x, y), plain)


@pytest.mark.parametrize(
    "spec",
    ["infonce:temperature=0", "infonce:temperature=nan", "align_uniform:alpha=-1", "align_uniform:t=0",
     "align_uniform:weight=-1", "align_uniform:weight=0,align=0", "align_uniform:sides=both", "mix:contrastive=0",
     "mix:temperature=0", "infonce:tau=1", "infonce:score=euclid", "infonce:hard_weight=nan", "hard:quantile=0",
     "joint_infonce:diagonal=maybe", "hard:quantile=1.5", "hard:top=-1", "ntxent:temperature=-1", "cpc:offsets=0",
     "moco:queue=0", "moco:momentum=1.5", "memory_bank:negatives=-1", "memory_bank:momentum=nan", "byol:hidden=0",
     "barlow_twins:off_diagonal=-1", "vicreg:variance=inf", "simple:weight=0", "supcon:temperature=0",
     "cross_entropy:classes=1", "anchor:loss=l1", "anchor:map=none",
     "distill:loss=l1", "distill:map=kept", "distill_similarity:temperature=0",
     "distill_similarity:teacher_temperature=-1", "infonce*0", "infonce + ", "infonce + nope", "infonce*2 + simple*0",
     "dcl:temperature=0", "cmc:temperature=0", "dpr:temperature=0", "hard_negatives:weight=inf"],
)  # fmt: skip
def test_impossible_options_are_refused_at_construction(spec):
    with pytest.raises(InputError):
        build_objective(spec)


def test_no_offset_leads_from_one_document_to_the_next():
    positions = torch.from_numpy(contiguous(np.array([[0, 4], [4, 8]])).positions[:]).to(DEVICE)
    assert follower(positions, 1).tolist() == [1, 2, 3, -1, 5, 6, 7, -1]
    assert follower(positions, 3).tolist() == [3, -1, -1, -1, 7, -1, -1, -1]
    assert follower(positions[tensor([1, 0, 3, 2])], -1).tolist() == [1, -1, 3, 0]


def test_joint_of_a_run_without_neighbours_is_zero():
    lonely = Extras(positions=tensor([0, 5, 10]))
    assert Case("joint_infonce", None).made()(ones(3, 4), ones(3, 4), lonely).item() == 0


def test_the_learned_temperature_learns_and_is_told(views):
    objective = Case("infonce:learn=yes,temperature=0.5", None).made()
    objective(*views).backward()
    r = relative_penalty(*(l2_normalize(side) for side in views), 0.5)
    entropy = torch.special.entr(r).sum(dim=1).mean().item()
    expected_metrics = {"temperature": pytest.approx(0.5), "penalty_entropy": pytest.approx(entropy)}
    assert objective.factor.grad.abs() > 0 and objective.log_metrics(*views) == expected_metrics
    with torch.no_grad():
        objective.factor.fill_(9.0)
    objective.update(*views)
    assert objective.log_metrics(*views)["temperature"] == pytest.approx(0.1)  # never below a fifth


def test_the_queue_holds_the_newest_keys_and_copies_in_it_are_no_negatives(views):
    (x, y), objective = views, Case("moco:queue=8,temperature=0.5", None).made()
    keys = [l2_normalize(normal(6, 4, seed=s)) for s in (6, 7)]
    for number, old in enumerate(keys):
        extras = Extras(arange(12).view(2, 6).T + 100 * (1 + number), targets=(old, old))
        objective.update(x, y, extras)
    by_first = lambda rows: rows[rows[:, 0].argsort()]  # noqa: E731
    assert torch.allclose(by_first(objective.queue), by_first(torch.cat(keys)[-8:])) and int(objective.filled) == 8
    queue, names = objective.queue.tolist(), objective.queue_ids.tolist()
    copy = arange(12).view(2, 6).T.clone()
    copy[0, 0], copy[1, 1] = names[0], names[3]
    total, targets = 0.0, U(TARGETS[1])
    for i, a in enumerate(U(x)):
        wrong = [slow.dot(a, row) / 0.5 for row, name in zip(queue, names, strict=True) if name not in copy[i].tolist()]
        total += slow.pick(slow.dot(a, targets[i]) / 0.5, wrong)
    assert objective(x, y, Extras(copy, targets=TARGETS)).item() == pytest.approx(total / 6, abs=DOUBLE)
    assert objective.num_candidates(6) == 9


@pytest.mark.parametrize("batch", [False, True])
def test_the_bank_is_a_running_mean_of_unit_length_and_its_entries_are_the_targets(batch, views, spec="memory_bank"):
    (x, y), objective = views, Case(f"{spec}:temperature=0.5,momentum=0.25,negatives=0,in_batch={batch}", None).made()
    names = tensor([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [0, 11]])  # the first and the last share a sentence
    objective.update(x, y, Extras(names))
    first = l2_normalize((l2_normalize(x)[0] + l2_normalize(x)[5])[None])[0]
    assert torch.allclose(objective.bank[0], first) and torch.allclose(objective.bank[3], l2_normalize(y)[1])
    objective.update(y, x, Extras(names))
    second = l2_normalize((l2_normalize(y)[0] + l2_normalize(y)[5])[None])[0]
    assert torch.allclose(objective.bank[0], l2_normalize((0.25 * first + 0.75 * second)[None])[0])
    assert not objective.seen[10] and bool(objective.seen[:10].all())

    bank, stored, total = objective.bank.tolist(), objective.seen.nonzero()[:, 0].tolist(), 0.0
    for a, side in ((U(x), 1), (U(y), 0)):
        for i in range(6):
            pair_ids = names[i].tolist()
            wrong = [slow.dot(a[i], bank[j]) / 0.5 for j in stored if j not in pair_ids]
            theirs = names[:, side].tolist() if batch else []
            wrong += [slow.dot(a[i], bank[k]) / 0.5 for j, k in enumerate(theirs) if j != i and k not in pair_ids]
            total += slow.pick(slow.dot(a[i], bank[pair_ids[side]]) / 0.5, wrong) / 12
    assert objective(x, y, Extras(names)).item() == pytest.approx(total, abs=DOUBLE)


def test_byol_s_momentum_rises_to_one():
    rates = [Case("byol", None).made().momentum(done) for done in (0, 0.5, 1)]
    assert rates == pytest.approx([0.996, 0.998, 1.0])


def test_copies_are_told_by_sentences_of_two_rows():
    rng = np.random.default_rng(0)
    answers = set()
    for high in (4, 12, 60):
        for _ in range(40):
            ids = torch.from_numpy(rng.integers(0, high, (5, 1 + int(rng.integers(3)))))
            rows = [set(row.tolist()) for row in ids]
            expected = any(rows[i] & rows[j] for i in range(5) for j in range(i))
            assert copied(ids) == expected
            answers.add(expected)
    assert answers == {True, False} and not copied(None) and not copied(torch.zeros(0, 2, dtype=torch.long))


def test_a_map_is_learned_only_where_the_dimensions_differ_or_it_is_asked_for(views):
    sizes = {
        spec: Case(spec, None, Extras(teacher=TARGETS)).made().linear for spec in ("distill", "distill:map=linear")
    }
    assert sizes["distill"] is None and sizes["distill:map=linear"].weight.shape == (4, 4)
    assert Case("distill", None, with_teacher).made().linear.weight.shape == (7, 4)
    with pytest.raises(InputError, match="the model's have 4 dimensions and the teacher's 7; give the encoder out=7"):
        build(OBJECTIVES, "distill:map=none")(*views, with_teacher)
    with pytest.raises(InputError, match="the start's, which have 7 dimensions, and it sees 4; leave the head out"):
        build(OBJECTIVES, "anchor")(*views, with_teacher)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(views):
    x, y = views
    for spec in ("distill", "distill:loss=mse", "distill_similarity:temperature=0.05", "anchor", "anchor:loss=mse"):
        loss = build_objective(spec)(x, y, Extras(teacher=(x, y)))
        assert loss.item() == pytest.approx(0, abs=DOUBLE)
    turned = torch.linalg.qr(normal(4, 4, seed=2)).Q  # similarities stay, and the map undoes the turn
    assert build_objective("distill_similarity")(x @ turned, y @ turned, Extras(teacher=(x, y))).item() < DOUBLE
    mapped = build_objective("distill:map=linear").double()
    mapped.prepare(4)
    with torch.no_grad():
        mapped.linear.weight.copy_(turned)
        mapped.linear.bias.zero_()
    assert mapped.double()(x @ turned, y @ turned, Extras(teacher=(x, y))).item() == pytest.approx(0, abs=DOUBLE)


def test_without_a_teacher_the_mapped_views_stand_in_also_after_one_of_another_dimension(views):
    objective = build_objective("distill").double()
    objective.teacher_dimension = 7
    objective.prepare(4)
    assert objective(*views, with_teacher).item() > 0
    assert objective(*views).item() == pytest.approx(0, abs=DOUBLE)


def test_no_gradient_reaches_the_teacher(views):
    for spec in ("distill", "distill_similarity"):
        teacher = tuple(rows.clone().requires_grad_() for rows in TEACHER)
        build_objective(spec)(*views, Extras(teacher=teacher)).backward()
        assert all(rows.grad is None for rows in teacher)


ALL = Extras(ids, HARD, labels=tensor(LABELS), targets=TARGETS, teacher=TEACHER)
SUMS = {  # of which extras; a part that takes no hard negatives does not see them
    "infonce:temperature=0.3*2 + align_uniform:t=3*0.25": ALL,
    "distill:loss=mse + infonce:hard_weight=1,learn=yes*0.5": ALL,
    "hard_negatives + ntxent + supcon*0.1 + cross_entropy:classes=3": ALL,
    "moco:queue=9*0.5 + distill_similarity*3 + memory_bank:negatives=0": ALL,
    "byol:hidden=8 + byol:hidden=8*0.5": ALL,
    "joint_infonce:temperature=0.4*2 + cpc:offsets=2*0.5 + distill": replace(runs, teacher=TEACHER),
    "infonce + anchor*0.1": replace(ALL, teacher=TARGETS),
    "infonce*3": ALL,
}


@pytest.mark.parametrize("spec", SUMS)
def test_a_sum_is_the_weighted_sum_of_its_parts_whatever_they_remember(spec, views, tiles):
    extras, (x, y) = SUMS[spec], views
    total = Case(spec, None, extras).made()
    made = [(copy.deepcopy(part), weight) for part, weight in zip(total.parts, total.weights, strict=True)]
    for _ in range(2):  # with nothing remembered, and with something
        loss = total(x, y, extras)
        slopes = torch.autograd.grad(loss, (x, y), allow_unused=True)
        expected, parts = 0.0, []
        for part, weight in made:
            alone = part(x, y, extras.only(part.needs | part.takes))
            parts.append(alone.item())
            expected = expected + weight * alone
        assert loss.item() == pytest.approx(expected.item(), abs=DOUBLE)
        assert [value.item() for value in total.part_losses] == pytest.approx(parts)
        expected_slopes = torch.autograd.grad(expected, (x, y), allow_unused=True)
        for slope, expected_slope in zip(slopes, expected_slopes, strict=True):
            assert torch.allclose(slope, expected_slope, atol=DOUBLE)
        total.update(x, y, extras)
        for part, _ in made:
            part.update(x, y, extras)
    for part, (alone, _) in zip(total.parts, made, strict=True):
        for name, value in alone.state_dict().items():
            assert torch.allclose(part.state_dict()[name], value), name


def test_a_sum_says_what_its_parts_are_of(views):
    total = build_objective("infonce:learn=yes,temperature=0.5 + infonce*0.5 + hard_negatives:weight=1 + distill*2")
    assert total.needs == {"negatives", "teacher"} and total.takes == {"guide"} and not total.requires_shared_encoder
    total(*views, ALL)
    metrics = total.log_metrics(*views)
    names = ["infonce", "infonce_2", "hard_negatives", "distill"]
    assert list(metrics)[:4] == [f"loss_{name}" for name in names]
    assert {"temperature", "penalty_entropy", "penalty_entropy_infonce_2"} <= metrics.keys()
    described = total.describe_negatives(8, 1)
    assert described.startswith("1 * infonce (15 in-batch negatives") and "2 * distill (no negatives" in described
    assert total.chance_loss(8) is None
    both = build_objective("ntxent + infonce:symmetric=yes*0.5")
    assert both.chance_loss(6, 1) == pytest.approx(
        math.log(11) + 0.5 * build_objective("infonce:symmetric=yes").chance_loss(6, 1)
    )
    assert build_objective("memory_bank + simple").needs_sentence_ids
    assert build_objective("moco:symmetric=yes + simple").requires_shared_encoder
    assert (
        build_objective("dpr + distill").similarity == "dot"
        and build_objective("simple + distill").similarity == "cosine"
    )
    assert build_objective("cpc + distill").takes == {"runs", "guide"}
    assert build_objective("cpc + simple").takes == {"guide"}
    assert build_objective("byol + distill").momentum(0.5) == build_objective("byol").momentum(0.5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("joint_infonce + infonce", "joint_infonce needs runs .* and infonce pairs"),
     ("dpr + infonce", "dpr scores by inner product and infonce by cosine"),
     ("moco:momentum=0.9 + byol", "moco and byol move the momentum encoder at different rates"),
     ("infonce +  + simple", "a part of objective 'infonce \\+  \\+ simple' is empty"),
     ("infonce + *2", "unknown objective '\\*2'"),
     ("infonce*0 + simple", "weight of an objective must be a positive number"),
     ("infonce:tau=1 + simple", "unknown option of objective 'infonce' 'tau'")],
)  # fmt: skip
def test_objectives_that_cannot_be_added_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        build_objective(spec)


def test_a_sum_of_objects_and_functions(views):
    x, y = views

    def far(x, y):
        return (x - y).square().sum(dim=1).mean()

    total = WeightedSum([(build_objective("infonce"), 1), (far, 0.5)])
    assert total.names == ["InfoNCE", "test_a_sum_of_objects_and_functions.<locals>.far".rpartition(".")[2]]
    expected = build_objective("infonce")(x, y) + 0.5 * far(x, y)
    assert total(x, y).item() == pytest.approx(expected.item(), abs=DOUBLE)
    with pytest.raises(InputError, match="no part"):
        WeightedSum([])
