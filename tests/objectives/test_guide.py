"""Guided masking: what a guide finds nearer than the positive is not a negative, of any contrastive objective."""

from dataclasses import replace

import pytest
import torch

from sentemb.geometry import l2_normalize, tiled_scores
from sentemb.objectives import OBJECTIVES, Extras, GuideEmbeddings, GuideMargin, build_objective
from tests import references as slow
from tests.devices import DEVICE, DOUBLE, arange, eye, normal, numbers, ones, tensor, zeros
from tests.objectives.test_objectives import HARD, IDS, LABELS, POSITIONS, TARGETS, keep, rows

pytestmark = numbers

U = slow.unit
GUIDE = normal(6, 3, seed=21), normal(6, 3, seed=22), normal(6, 2, 3, seed=23)  # x, y, hard negatives
MARGINS = {"nearer": (0.0, 0.0), "absolute": (0.4, 0.0), "relative": (0.0, 0.6), "both": (-0.2, -0.1)}


def guide(margin: str = "nearer", rows: tuple[torch.Tensor, ...] = GUIDE) -> GuideEmbeddings:
    return GuideEmbeddings(*rows, margin=GuideMargin(*MARGINS[margin]))


def slow_guide(margin: str, rows: tuple[torch.Tensor, ...] = GUIDE) -> slow.Guide:
    absolute, relative = MARGINS[margin]
    return slow.Guide(U(rows[0]), U(rows[1]), [U(negatives) for negatives in rows[2]], absolute, relative)


def first_keys(x, y, guide):
    """MoCo before any batch is remembered."""
    keys = U(TARGETS[1])
    wrong = [slow.others(i, U(x), keys, 0.07, (), range(6), guide.of_pair(i, 0, guide.sides[1])) for i in range(6)]
    return sum(slow.pick(slow.dot(a, keys[i]) / 0.07, wrong[i]) for i, a in enumerate(U(x))) / 6


ids, hard = tensor(IDS), (HARD.tolist(), 0.0)
pair_ids = [row[:2] for row in IDS]
unit_hard = [U(HARD[i]) for i in range(6)]
plain, with_ids, with_hard = Extras(), Extras(ids[:, :2]), Extras(ids, HARD)
runs = Extras(tensor([[0], [1], [2], [0], [4], [5]]), positions=tensor(POSITIONS))
run_ids, identity = [0, 1, 2, 0, 4, 5], eye(4).tolist()
both_sides = {"symmetric": True, "same_side": True}
CASES = {  # spec: what it is given, and the loop over rows x, y with a guide g
    "infonce": (plain, lambda x, y, g: slow.contrast(U(x), U(y), guide=g)),
    "infonce:temperature=0.3,symmetric=yes": (
        with_ids,
        lambda x, y, g: slow.contrast(U(x), U(y), 0.3, symmetric=True, ids=pair_ids, guide=g),
    ),
    "infonce:temperature=0.3,same_side=yes": (
        with_ids,
        lambda x, y, g: slow.contrast(U(x), U(y), 0.3, same_side=True, ids=pair_ids, guide=g),
    ),
    "infonce:temperature=0.3,hard_weight=1.5": (
        with_hard,
        lambda x, y, g: slow.contrast(U(x), U(y), 0.3, ids=IDS, hard=(unit_hard, 1.5), guide=g),
    ),
    "hard_negatives:temperature=0.3": (
        Extras(negatives=HARD),
        lambda x, y, g: slow.contrast(U(x), U(y), 0.3, hard=(unit_hard, 0.0), guide=g),
    ),
    "dpr": (with_hard, lambda x, y, g: slow.contrast(rows(x), rows(y), 1, ids=IDS, hard=hard, guide=g)),
    "ntxent": (with_ids, lambda x, y, g: slow.contrast(U(x), U(y), 0.1, **both_sides, ids=pair_ids, guide=g)),
    "dcl": (plain, lambda x, y, g: slow.contrast(U(x), U(y), 0.1, **both_sides, decoupled=True, guide=g)),
    "cmc": (plain, lambda x, y, g: 2 * slow.contrast(U(x), U(y), 0.07, symmetric=True, guide=g)),
    "supcon:temperature=0.5": (
        replace(with_ids, labels=tensor(LABELS)),
        lambda x, y, g: slow.supcon(U(x), U(y), 0.5, LABELS, pair_ids, g),
    ),
    **{
        f"joint_infonce:temperature=0.4,diagonal={diagonal}": (
            runs,
            lambda x, y, g, diagonal=diagonal: slow.joint(U(x), U(y), 0.4, diagonal, POSITIONS, run_ids, g),
        )
        for diagonal in ("out", "zero", "in")
    },
    "cpc": (plain, lambda x, y, g: slow.cpc(rows(x), rows(y), [identity], guide=g)),
    "cpc:offsets=2": (
        Extras(positions=tensor(POSITIONS)),
        lambda x, y, g: slow.cpc(rows(x), rows(y), [identity] * 2, POSITIONS, g),
    ),
    "mix:align=2,temperature=0.2": (
        plain,
        lambda x, y, g: slow.contrast(U(x), U(y), 0.2, guide=g) + 2 * slow.align(U(x), U(y), 2),
    ),
    "simple:weight=3": (with_ids, lambda x, y, g: slow.simple(U(x), U(y), 3, IDS, guide=g)),
    "hard:temperature=0.5,quantile=0.5": (plain, lambda x, y, g: slow.hard(U(x), U(y), 0.5, keep(0.5), g)),
    "hard_simple:top=2": (with_ids, lambda x, y, g: slow.simple(U(x), U(y), 1, IDS, lambda n: 2, g)),
    "moco": (Extras(targets=TARGETS), first_keys),
    "memory_bank": (
        Extras(arange(12).view(2, 6).T),
        lambda x, y, g: slow.contrast(U(x), U(y), 0.07, symmetric=True, guide=g),
    ),
}


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    """Everything once in one tile and once in tiles of four."""
    if request.param == "many tiles":
        monkeypatch.setattr(tiled_scores, "BLOCK", 4)
        monkeypatch.setattr(tiled_scores, "TILE_SCORES", 8)
        monkeypatch.setattr(tiled_scores, "ROWS", 2)


def made(spec: str):
    torch.manual_seed(0)
    objective = build_objective(spec)
    objective.guide_dimension = 3
    objective.prepare(4, 32)
    return objective.double().to(DEVICE)


def test_every_objective_with_negatives_takes_a_guide_and_has_a_reference():
    guided = {name for name, kind in OBJECTIVES.items() if "guide" in kind.takes}
    assert guided == {spec.partition(":")[0] for spec in CASES}
    assert guided >= {name for name, kind in OBJECTIVES.items() if kind.contrastive}
    assert "guide" not in build_objective("mix:contrastive=0,align=1").takes


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("spec", CASES)
def test_the_loss_equals_a_loop_over_what_the_guide_leaves(spec, margin, views, tiles):
    extras, loop = CASES[spec]
    observed = made(spec)(*views, replace(extras, guide=guide(margin))).item()
    assert observed == pytest.approx(loop(*views, slow_guide(margin)), abs=DOUBLE)
    assert observed != pytest.approx(made(spec)(*views, extras).item(), abs=DOUBLE)


@pytest.mark.parametrize("spec", CASES)
def test_gradients_are_exact(spec, views, tiles):
    objective, (x, y), extras = made(spec), views, replace(CASES[spec][0], guide=guide("absolute"))
    if spec in ("memory_bank", "moco"):  # the positive is a constant to it: its copy is held still
        objective.update(x, y, extras)
    loss = lambda x, y, *_: objective(x, y, extras)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (x, y, *objective.parameters()), nondet_tol=DOUBLE)


@pytest.mark.parametrize("spec", CASES)
def test_order_of_pairs_and_length_of_the_guide_s_rows_are_irrelevant(spec, views):
    extras, order = replace(CASES[spec][0], guide=guide()), tensor([3, 1, 5, 0, 2, 4])
    at = {
        name: None if (value := getattr(extras, name)) is None else value[order]
        for name in ("ids", "negatives", "positions", "labels")
    }
    if extras.positions is None and spec == "cpc":
        at["positions"] = None
    targets = None if extras.targets is None else tuple(side[order] for side in extras.targets)
    longer = guide(rows=tuple(5 * side[order] for side in GUIDE))
    loss = made(spec)(*(side[order] for side in views), Extras(**at, targets=targets, guide=longer))
    assert loss.item() == pytest.approx(made(spec)(*views, extras).item(), abs=DOUBLE)


@pytest.mark.parametrize("spec", CASES)
def test_a_guide_that_finds_nothing_nearer_changes_nothing(spec, views):
    extras = CASES[spec][0]
    sides = torch.cat([eye(6, dtype=torch.float64)] * 2, dim=1)  # a sentence is like itself and its positive only
    far = -sides[:, None].expand(6, 2, 12)
    if extras.positions is not None:  # of runs all neighbours are alike
        sides, far = ones(6, 12, dtype=torch.float64), far
    nothing = GuideEmbeddings(sides, sides, far)
    loss = made(spec)(*views, replace(extras, guide=nothing))
    assert loss.item() == pytest.approx(made(spec)(*views, extras).item(), abs=DOUBLE)
    assert nothing.counts.share == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["all nearer", "zero", "identical"])
@pytest.mark.parametrize("spec", CASES)
def test_losses_and_gradients_are_finite_whatever_the_guide_says(spec, kind, dtype, views):
    sides = {"zero": zeros(6, 3), "identical": ones(6, 3)}
    x, y = (side.detach().to(dtype).requires_grad_() for side in views)
    embeddings = ones(6, 3), -ones(6, 3), ones(6, 2, 3)  # the positive is opposite to the anchor
    if kind in sides:
        embeddings = sides[kind], sides[kind], sides[kind][:, None].expand(6, 2, 3)
    extras = replace(CASES[spec][0], guide=GuideEmbeddings(*embeddings, margin=GuideMargin(0.5 * (kind != "zero"))))
    if extras.negatives is not None:
        extras = replace(extras, negatives=extras.negatives.to(dtype))
    if extras.targets is not None:
        extras = replace(extras, targets=tuple(side.to(dtype) for side in extras.targets))
    objective = build_objective(spec)
    for _ in range(2):  # with nothing remembered, and with something
        loss = objective(x, y, extras)
        loss.backward()
        assert loss.isfinite() and x.grad.isfinite().all() and (y.grad is None or y.grad.isfinite().all())
        objective.update(x, y, extras)
        x.grad = y.grad = None
    assert all(value.isfinite().all() for value in objective.state_dict().values())


def test_without_negatives_there_is_nothing_to_pick_from(views):
    x, y = views
    opposite = GuideEmbeddings(ones(6, 3), -ones(6, 3), ones(6, 2, 3))  # the same side is nearer, the other one as near
    extras = Extras(negatives=HARD, guide=replace(opposite, margin=GuideMargin(0.1)))
    assert made("infonce:same_side=yes")(x, y, extras).item() == pytest.approx(0, abs=DOUBLE)
    assert extras.guide.counts.share == 1
    assert made("dcl")(x, y, Extras(guide=extras.guide)).item() == 0


@pytest.mark.parametrize("backward", [False, True])
def test_the_share_is_of_negatives_each_counted_once(backward, views, tiles):
    extras, g = replace(with_hard, guide=guide()), slow_guide("nearer")
    loss = made("infonce:symmetric=yes,same_side=yes")(*views, extras)
    if backward:
        loss.backward()
    left_out = negatives = 0
    for side in (0, 1):
        for i, row in enumerate(IDS):
            kin = set(row[:2])
            candidates = [(IDS[j][1 - side], g.sides[1 - side][j]) for j in range(6) if j != i]
            candidates += [(IDS[j][side], g.sides[side][j]) for j in range(6) if j != i]
            if side == 0:
                candidates += [(IDS[j][2 + k], g.hard[j][k]) for j in range(6) for k in range(2)]
            stay = [rows for name, rows in candidates if name not in kin]
            negatives += len(stay)
            left_out += len(g.of_pair(i, side, stay))
    assert extras.guide.counts.share == pytest.approx(left_out / negatives) and 0 < left_out < negatives


def test_the_queue_remembers_the_guide_s_embeddings(views):
    (x, y), objective = views, made("moco:queue=8,temperature=0.5")
    remembered = [(normal(6, 3, seed=s), normal(6, 3, seed=s + 9)) for s in (31, 32)]
    for number, sides in enumerate(remembered):
        targets = tuple(normal(6, 4, seed=41 + number + k) for k in range(2))
        names = arange(12).view(2, 6).T + 100 * (1 + number)
        objective.update(x, y, Extras(names, targets=targets, guide=GuideEmbeddings(*sides)))
    queue, theirs, g = objective.queue.tolist(), objective.queue_guide.tolist(), slow_guide("absolute")
    assert torch.allclose(objective.queue_guide[:4], l2_normalize(remembered[1][1])[2:])  # the newest, in a circle
    total, targets = 0.0, U(TARGETS[1])
    for i, a in enumerate(U(x)):
        out = g.of_pair(i, 0, theirs)
        wrong = [slow.dot(a, row) / 0.5 for j, row in enumerate(queue) if j not in out]
        total += slow.pick(slow.dot(a, targets[i]) / 0.5, wrong)
    extras = Extras(arange(12).view(2, 6).T, targets=TARGETS, guide=guide("absolute"))
    assert objective(x, y, extras).item() == pytest.approx(total / 6, abs=DOUBLE)


def test_a_symmetric_queue_has_the_guide_s_embeddings_of_both_sides(views):
    objective = made("moco:queue=12,symmetric=yes")
    objective.update(*views, Extras(targets=TARGETS, guide=guide()))
    expected = torch.cat([l2_normalize(GUIDE[1]), l2_normalize(GUIDE[0])])
    assert torch.allclose(objective.queue_guide, expected)


@pytest.mark.parametrize("batch", [False, True])
def test_the_bank_remembers_the_guide_s_embeddings(batch, views):
    (x, y), objective = views, made(f"memory_bank:temperature=0.5,negatives=0,in_batch={batch}")
    names = tensor([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [0, 11]])  # the first and the last share a sentence
    embeddings = normal(12, 3, seed=51)
    sides = tuple(embeddings[names[:, side]] for side in (0, 1))
    extras = Extras(names, guide=GuideEmbeddings(*sides, margin=GuideMargin(0.1)))
    objective.update(x, y, extras)
    stored = objective.seen.nonzero()[:, 0].tolist()
    theirs, bank = U(embeddings), objective.bank.tolist()
    assert torch.allclose(objective.bank_guide[stored], tensor([theirs[j] for j in stored], dtype=torch.float64))
    g, total = slow.Guide(*(U(side) for side in sides), absolute=0.1), 0.0
    for a, side in ((U(x), 1), (U(y), 0)):
        for i in range(6):
            pair, out = names[i].tolist(), g.of_pair(i, 1 - side, theirs)
            wrong = [slow.dot(a[i], bank[j]) / 0.5 for j in stored if j not in pair and j not in out]
            others = names[:, side].tolist() if batch else []
            wrong += [
                slow.dot(a[i], bank[k]) / 0.5 for j, k in enumerate(others) if j != i and k not in pair and k not in out
            ]
            total += slow.pick(slow.dot(a[i], bank[pair[side]]) / 0.5, wrong) / 12
    assert objective(x, y, extras).item() == pytest.approx(total, abs=DOUBLE)


def test_each_part_of_a_sum_takes_the_guide_or_leaves_it(views):
    extras = replace(with_hard, guide=guide(), targets=TARGETS)
    spec = "infonce:temperature=0.3*2 + align_uniform*0.5 + moco:queue=9"
    total = made(spec)
    assert "guide" in total.takes and total.parts[2].guide_dimension == 3
    for _ in range(2):
        parts = [made(part)(*views, extras.only(made(part).takes | made(part).needs)) for part in ("align_uniform",)]
        loss = total(*views, extras)
        assert total.part_losses[1].item() == pytest.approx(parts[0].item())
        alone = made("infonce:temperature=0.3")(*views, extras).item()
        assert total.part_losses[0].item() == pytest.approx(alone, abs=DOUBLE) and loss.isfinite()
        total.update(*views, extras)
    assert total.parts[2].queue_guide.abs().sum() > 0


def test_no_gradient_reaches_the_guide(views):
    learnable = tuple(side.clone().requires_grad_() for side in GUIDE)
    made("infonce")(*views, Extras(negatives=HARD, guide=guide(rows=learnable))).backward()
    assert all(side.grad is None for side in learnable)


def test_ties_stay_whichever_way_they_are_rounded(views):
    """Candidates that the guide cannot tell from the positive are no nearer than it."""
    sides = normal(1, 384, seed=61).float().expand(6, 384)
    tied = GuideEmbeddings(sides, sides.roll(1, 0))
    loss = build_objective("infonce")(*(side.detach().float() for side in views), Extras(guide=tied))
    assert loss.isfinite() and tied.counts.share == 0


@pytest.mark.parametrize("margins", [(2.1, 0), (float("nan"), 0), (0, 1.5)])
def test_margins_have_bounds(margins):
    with pytest.raises(ValueError, match=r"margin must lie in \["):
        GuideMargin(*margins)


@pytest.mark.parametrize("hard_negatives", [False, True])
@pytest.mark.parametrize(("strategy", "margin"), [("absolute", 0.0), ("absolute", 0.3), ("relative", 0.4)])
def test_it_is_the_loss_of_sentence_transformers_where_that_has_the_same_candidates(
    strategy, margin, hard_negatives, views
):
    from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss

    theirs = CachedGISTEmbedLoss.__new__(CachedGISTEmbedLoss)  # (its constructor takes models, and embeds)
    torch.nn.Module.__init__(theirs)
    settings = {"temperature": 0.1, "mini_batch_size": 4, "margin_strategy": strategy, "margin": margin}
    settings |= {"contrast_anchors": True, "contrast_positives": False, "gather_across_devices": False}
    settings |= {"similarity_fct": torch.nn.CosineSimilarity(dim=-1), "cross_entropy_loss": torch.nn.CrossEntropyLoss()}
    for name, value in (settings | {"show_progress_bar": False}).items():
        setattr(theirs, name, value)
    columns, columns_of_guide = list(views), list(GUIDE[:2])
    if hard_negatives:
        columns += HARD.unbind(dim=1)
        columns_of_guide += GUIDE[2].unbind(dim=1)
    expected = theirs.calculate_loss([[column] for column in columns], [[column] for column in columns_of_guide])

    margins = GuideMargin(**{strategy: margin})
    extras = Extras(
        negatives=HARD if hard_negatives else None, guide=GuideEmbeddings(*GUIDE[: 2 + hard_negatives], margin=margins)
    )
    loss = made("infonce:temperature=0.1,same_side=yes")(*views, extras)
    assert loss.item() == pytest.approx(expected.item(), abs=DOUBLE)
    for mine, other in zip(torch.autograd.grad(loss, views), torch.autograd.grad(expected, views), strict=True):
        assert torch.allclose(mine, other, atol=DOUBLE)
