"""A GPU leaves out by itself what is not finite, and the host judges an update when the next one is on its way.

A CPU stands in for the GPU: its fused optimisers look at the same number.
"""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb.objectives import OBJECTIVES, build_objective
from sentemb.training import loop, setup
from sentemb.training.optimizers import OPTIMIZERS, step_unless
from tests.helpers import records
from tests.robustness import faults
from tests.training.test_failures import STEPS, broken_at, same  # noqa: F401


@pytest.fixture
def late(monkeypatch):
    """Lets runs judge their updates as on a GPU; returns the order of what happens."""
    events: list[tuple[str, int]] = []
    before, backward, record = loop.set_up, loop.backward, loop.RunLog.record

    def set_up(*arguments):
        run = before(*arguments)
        run.judges_late = True
        return run

    def backward_of(encoder, objective, batch, step, micro_batch):
        events.append(("backward", step))
        return backward(encoder, objective, batch, step, micro_batch)

    def recorded(log, update, batch):
        events.append(("record", update.step))
        record(log, update, batch)

    monkeypatch.setattr(loop, "set_up", set_up)
    monkeypatch.setattr(loop, "backward", backward_of)
    monkeypatch.setattr(loop.RunLog, "record", recorded)
    return events


def test_a_run_that_judges_late_is_the_run_that_judges_at_once(job, monkeypatch, request):
    settings = STEPS | {"log_every": 3, "eval_every": 4}
    straight = job("a", **settings)
    events = request.getfixturevalue("late")
    assert same(straight, job("b", **settings))
    # Updates 1, 5 and 7 are judged after the next one; what is logged (3, 6), scored (4, 8) or saved (2, ...) at once.
    due, order = {2, 3, 4, 6, 8}, []
    for step in range(1, 9):
        order += [("backward", step)]
        order += [("record", step - 1)] if step - 1 not in due | {0} else []
        order += [("record", step)] if step in due else []
    assert events == order


@pytest.mark.usefixtures("late")
def test_an_update_that_is_not_finite_is_left_out_and_recorded_by_its_number(job, broken_at):  # noqa: F811
    broken_at(3, 4, 7)
    settings = {"max_steps": 8, "save_every": 2, "log_every": 8, "lr": 1e-3, "on_nan": "skip", "keep": 0}
    run = job("a", **settings)
    skipped = {r["step"]: r for r in records(run) if r.get("skipped")}
    assert sorted(skipped) == [3, 4, 7] and "step 7: " in skipped[7]["warnings"][0]
    weights = {n: faults.weights(run / "checkpoints" / f"step-{n}") for n in (2, 4, 6, 8)}
    assert weights[2] == weights[4] != weights[6] != weights[8]  # the optimiser's are among them


def test_a_loss_that_is_no_number_stops_the_run_an_update_later(job, broken_at, late, tmp_path):  # noqa: F811
    broken_at(5)
    with pytest.raises(FloatingPointError, match=r"step 5: the loss is .*\(pairs .* 16 in .*step-5.json\)"):
        job("a", **STEPS | {"save_every": 4, "log_every": 8})
    assert late[-2:] == [("record", 4), ("backward", 5)] or late[-1] == ("backward", 6)
    assert max(step for name, step in late if name == "record") == 4
    assert (tmp_path / "a" / "checkpoints" / "step-4").exists()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_refused_step_changes_neither_weights_nor_optimiser(name):
    torch.manual_seed(0)
    weights = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
    optimizer = OPTIMIZERS[name]().of(weights, 0.1, 0.01)
    accelerated = Accelerator(cpu=True).prepare(optimizer)

    def step(refused: float, slope: float) -> list[np.ndarray]:
        for weight in weights:
            weight.grad = torch.full_like(weight, slope)
        step_unless(accelerated, torch.tensor(refused))
        moments = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        return [np.array(value.detach()) for value in [*weights, *moments]]

    first = step(0.0, 1.0)
    for a, b in zip(step(1.0, math.nan), first, strict=True):
        assert (a == b).all()
    assert all((a != b).any() for a, b in zip(step(0.0, 1.0)[:2], first[:2], strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_refused_first_step_leaves_no_trace(name):
    """torch's SGD would begin with a momentum that nothing has written."""
    results = []
    for slopes in ((math.nan, 1.0, 2.0), (1.0, 2.0)):
        torch.manual_seed(0)
        weight = torch.randn(3, 2, requires_grad=True)
        optimizer = OPTIMIZERS[name]().of([weight], 0.1, 0.01)
        for slope in slopes:
            weight.grad = torch.full_like(weight, slope)
            step_unless(optimizer, torch.tensor(float(math.isnan(slope))))
        results.append(weight.detach().numpy())
    assert np.array_equal(*results)


def test_what_remembers_is_judged_at_once(monkeypatch):
    remembering = {name for name in OBJECTIVES if build_objective(name).remembers}
    assert remembering == {"moco", "memory_bank"}
    assert build_objective("infonce + moco").remembers and not build_objective("infonce + align_uniform").remembers
    assert setup.TrainingRun.__dataclass_fields__["judges_late"].default is False
