"""The parts of a loss that is shared out add up to it, and so do their gradients; the work is shared out, too.

Processes are threads here, whose gather is differentiable, so that one backward pass is that of all of them. Real
processes are in tests/training/test_loop.py.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sentemb.geometry import l2_normalize, tiled_scores, uniformity, uniformity_of_rows
from sentemb.objectives import OBJECTIVES, AnchorRows, Extras, GuideEmbeddings, InfoNCE, Objective, build_objective
from tests.devices import DEVICE, DOUBLE, GPU, arange, normal, numbers, tensor

pytestmark = numbers

N, DIMENSION, HARD = 9, 4, 2
EXACT = 1e-10
COUNTS = [(9,), (5, 4), (4, 3, 2), (1, 0, 8)]  # anchors of each process
SPECS = [
    *OBJECTIVES,
    "infonce:symmetric=yes,same_side=yes,learn=yes",
    "infonce:same_side=yes,hard_weight=0.7",
    "infonce:score=dot,temperature=2",
    "joint_infonce:diagonal=zero",
    "joint_infonce:diagonal=in",
    "cpc:offsets=3",
    "align_uniform:sides=sum,alpha=1",
    "mix:align=0.5,uniform=2",
    "hard:top=2",
    "moco:queue=10,symmetric=yes,in_batch=yes",
    "memory_bank:negatives=3,in_batch=yes",
    "distill:loss=mse,map=linear",
    "infonce + align_uniform*0.5 + byol*0.1",
]


class Gather:
    """What processes do to rows, of threads: each call waits for all of them."""

    def __init__(self, world: int) -> None:
        self.slots: list[torch.Tensor | None] = [None] * world
        self.barrier = threading.Barrier(world, timeout=60)

    def of(self, rank: int):
        def gather(rows: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
            assert len(rows) == counts[rank]
            self.slots[rank] = rows
            self.barrier.wait()
            together = torch.cat(list(self.slots))
            self.barrier.wait()
            return together

        return gather


def extras_of(objective: Objective, guided: bool) -> Extras:
    """Of a batch with copies, as far as the objective takes it; runs have two ends of documents."""
    wanted = objective.needs | objective.takes
    runs = "runs" in objective.needs
    ids = arange(N * (2 + HARD)).view(N, -1)
    ids[3, 0], ids[5, 1], ids[7, 0], ids[2, 3] = ids[1, 0], ids[4, 0], ids[8, 1], ids[6, 0]
    labels = arange(N) % 3
    teacher = normal(N, 7, seed=8), normal(N, 7, seed=9)
    negatives = normal(N, HARD, DIMENSION, seed=3).requires_grad_() if "negatives" in wanted else None
    of_negatives = None if negatives is None else normal(N, HARD, 3, seed=23)
    guide = GuideEmbeddings(normal(N, 3, seed=21), normal(N, 3, seed=22), of_negatives) if guided else None
    return Extras(
        ids[:, :1] if runs else ids[:, : 2 + HARD * ("negatives" in wanted)],
        negatives,
        tensor([2, 3, 4, 7, 8, 9, 10, 20, 22]) if runs else None,
        labels if "labels" in wanted else None,
        (normal(N, DIMENSION, seed=4), normal(N, DIMENSION, seed=5)) if "targets" in wanted else None,
        teacher[:1] * 2 if runs and "teacher" in wanted else teacher if "teacher" in wanted else None,
        guide,
    )


def made(spec: str, guided: bool) -> Objective:
    """The objective, with parameters that are not those of the start, after a batch to remember."""
    torch.manual_seed(0)
    objective = build_objective(spec)
    objective.teacher_dimension = DIMENSION if "anchor" in spec else 7 if "teacher" in objective.needs else 0
    objective.guide_dimension = 3 if guided else 0
    objective.prepare(DIMENSION, N * (2 + HARD))
    objective = objective.double().to(DEVICE)
    for number, weight in enumerate(objective.parameters()):
        weight.data += 0.1 * normal(weight.numel(), seed=30 + number).view(weight.shape)
    return objective


def leaves(extras: Extras, objective: Objective) -> dict[str, torch.Tensor]:
    tensors = {"x": normal(N, DIMENSION, seed=1), "y": normal(N, DIMENSION, seed=2)}
    tensors |= {} if extras.negatives is None else {"negatives": extras.negatives}
    return {name: rows.requires_grad_() for name, rows in tensors.items()} | dict(objective.named_parameters())


def gradients(loss: torch.Tensor, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    slopes = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    return {name: slope for name, slope in zip(inputs, slopes, strict=True) if slope is not None}


def shared(objective: Objective, x, y, extras: Extras, counts: tuple[int, ...]) -> tuple[list, list]:
    """The loss of each process, and what its guide has counted."""
    gather = Gather(len(counts))

    def part(rank: int):
        guide = extras.guide and GuideEmbeddings(extras.guide.x, extras.guide.y, extras.guide.negatives)
        of_rank = replace(extras, rows=AnchorRows(counts, rank, gather.of(rank)), guide=guide)
        return objective(x, y, of_rank), guide and guide.counts

    with ThreadPoolExecutor(len(counts)) as pool:
        parts = list(pool.map(part, range(len(counts))))
    return [loss for loss, _ in parts], [numbers_of for _, numbers_of in parts]


@pytest.mark.parametrize("tile", ["one tile", "many tiles"])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("guided", [False, True], ids=["", "guided"])
@pytest.mark.parametrize("spec", SPECS)
def test_the_parts_of_a_loss_add_up_to_it_and_so_do_their_gradients(spec, guided, counts, tile, monkeypatch):
    if tile == "many tiles":
        monkeypatch.setattr(tiled_scores, "BLOCK", 2)
        monkeypatch.setattr(tiled_scores, "TILE_SCORES", 4)
        monkeypatch.setattr(tiled_scores, "ROWS", 2)
    objective = made(spec, guided)
    if guided and "guide" not in objective.takes:
        pytest.skip("takes no guide")
    extras = extras_of(objective, guided)
    if "anchor" in spec:
        extras = replace(extras, teacher=(normal(N, DIMENSION, seed=8), normal(N, DIMENSION, seed=9)))
    inputs = leaves(extras, objective)
    x, y = inputs["x"], inputs["y"]
    for _ in range(2):  # before and after something is remembered
        undivided = objective(x, y, extras)
        expected = gradients(undivided, inputs)
        losses, counted = shared(objective, x, y, extras, counts)
        assert sum(losses).item() == pytest.approx(undivided.item(), abs=EXACT, rel=EXACT)
        observed = gradients(sum(losses), inputs)
        assert observed.keys() == expected.keys() >= {"x"}
        for name, slope in expected.items():
            assert (observed[name] - slope).norm() <= EXACT * max(1.0, slope.norm()), name
        if guided:
            for name in ("masked", "seen"):
                assert sum(int(getattr(each, name)) for each in counted) == int(getattr(extras.guide.counts, name))
            assert 0 < extras.guide.counts.share < 1
        with torch.no_grad():
            objective.update(x, y, extras)
        extras = replace(extras, guide=extras.guide and GuideEmbeddings(*extras.guide.sides, extras.guide.negatives))


@pytest.mark.parametrize("spec", ["infonce + align_uniform*0.5 + byol*0.1", "infonce:symmetric=yes + vicreg"])
def test_the_log_has_the_losses_of_all_processes(spec):
    objectives = [made(spec, False) for _ in range(2)]
    extras = extras_of(objectives[0], False)
    x, y = normal(N, DIMENSION, seed=1), normal(N, DIMENSION, seed=2)
    gather = Gather(2)
    with ThreadPoolExecutor(2) as pool:
        parts = [replace(extras, rows=AnchorRows((6, 3), rank, gather.of(rank))) for rank in range(2)]
        list(pool.map(lambda rank: objectives[rank](x, y, parts[rank]), range(2)))
    of_one = made(spec, False)
    of_one(x, y, extras)
    for objective in objectives:
        for loss, expected in zip(objective.part_losses, of_one.part_losses, strict=True):
            assert loss.item() == pytest.approx(expected.item(), abs=DOUBLE)


class Products(TorchDispatchMode):
    """Counts the multiplications of matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), more=None):
        if function.overloadpacket.__name__.rstrip("_") in ("mm", "addmm", "bmm"):
            a, b = [each for each in args if isinstance(each, torch.Tensor)][-2:]
            self.count += a.numel() * b.shape[-1]
        return function(*args, **(more or {}))


WORLD, LARGE = 4, 64
SHARED_WORK = [
    spec
    for spec in SPECS
    if build_objective(spec).shares_loss and "+" not in spec and "simple" not in spec.partition("_")[0]
]


@pytest.mark.parametrize("spec", SHARED_WORK)
def test_each_process_computes_its_part_of_the_scores(spec, monkeypatch):
    """Products of forward and backward; both directions of a symmetric loss share theirs where one process has all."""
    monkeypatch.setattr(tiled_scores, "BLOCK", 4)
    monkeypatch.setattr(tiled_scores, "TILE_SCORES", 16)
    objective = made(spec, False)
    x, y = normal(LARGE, DIMENSION, seed=1).requires_grad_(), normal(LARGE, DIMENSION, seed=2).requires_grad_()
    wanted = objective.needs | objective.takes
    extras = Extras(
        positions=arange(LARGE) if "runs" in objective.needs else None,
        teacher=(normal(LARGE, 7, seed=8), normal(LARGE, 7, seed=9)) if "teacher" in wanted else None,
    )

    def work(rows: AnchorRows | None) -> int:
        with Products() as products:
            objective(x, y, replace(extras, rows=rows)).backward()
        return products.count

    def alone(values: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
        """As if the other processes had the same values."""
        return torch.cat([values] * WORLD)

    part = work(AnchorRows((LARGE // WORLD,) * WORLD, 1, alone))
    most = 2.5 if GPU else 1.6  # on a GPU slopes are not read, so that equal ones save no product
    assert 0 < part < most / WORLD * work(None)


@pytest.mark.parametrize("counts", [(2,), (3,), (1, 1), (2, 1), (6, 5), (3, 4, 5), (1, 0, 7), (30, 20, 14)], ids=str)
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("block", [None, 1, 3])
def test_uniformity_of_rows_counts_each_pair_once(counts, copies, block):
    n = sum(counts)
    x = l2_normalize(normal(n, 3, seed=n))
    ids = arange(n).clamp(min=1) if copies and n > 2 else None
    logs = []  # each process's log sums
    for rank in range(len(counts)):
        rows = AnchorRows(counts, rank, lambda values, _: values).rows
        uniformity_of_rows(x, rows, lambda sums: logs.append(sums) or x.new_zeros(1), block=block, ids=ids)
    assert [len(sums) for sums in logs] == list(counts)
    observed = uniformity_of_rows(x, slice(0, counts[0]), lambda _: torch.cat(logs), block=block, ids=ids)
    assert observed.item() == pytest.approx(uniformity(x, ids=ids).item(), abs=DOUBLE)


class OfScripts(Objective):
    """An objective that knows nothing of rows, as a user would write one."""

    def loss(self, x, y, extras):
        assert extras.rows is None
        return ((x @ y.T).logsumexp(dim=1) - (x * y).sum(dim=1)).mean()


def test_an_objective_that_knows_nothing_of_rows_is_computed_by_each_process():
    x, y = normal(N, DIMENSION, seed=1), normal(N, DIMENSION, seed=2)
    losses, _ = shared(OfScripts(), x, y, Extras(), (5, 4))
    undivided = InfoNCE(1.0)(x, y)
    assert [loss.item() for loss in losses] == pytest.approx([undivided.item() * k / N for k in (5, 4)])


class Weighted(InfoNCE):
    """A script's: anchors count differently."""

    def loss(self, x, y, extras):
        weights = torch.arange(1.0, len(x) + 1, dtype=x.dtype, device=x.device)
        return (weights * (self.log_sums(x, y, extras)[0] - (self.scaled(x) * y).sum(dim=1))).mean()


def test_a_loss_of_a_script_that_inherits_is_exact_and_counted_once():
    x, y = normal(N, DIMENSION, seed=1).requires_grad_(), normal(N, DIMENSION, seed=2).requires_grad_()
    extras = Extras(ids=arange(2 * N).view(N, 2))
    gradients = torch.autograd.grad(Weighted(0.5)(x, y, extras), (x, y))
    a, b = l2_normalize(x), l2_normalize(y)
    rows = 2 * (a @ b.T)
    slow = (torch.arange(1.0, N + 1, dtype=x.dtype, device=DEVICE) * (rows.logsumexp(dim=1) - rows.diagonal())).mean()
    for gradient, expected in zip(gradients, torch.autograd.grad(slow, (x, y)), strict=True):
        assert (gradient - expected).abs().max() < EXACT
    losses, _ = shared(Weighted(0.5), x, y, extras, (5, 4))
    assert sum(loss.item() for loss in losses) == pytest.approx(slow.item())
