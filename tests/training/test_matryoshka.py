"""Prefixes in the loop: processes, micro-batches and resumed runs agree, for every objective."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb.encoders import load
from sentemb.objectives import OBJECTIVES, build_objective
from sentemb.pairs import PAIRS, Pairs, neighbours
from tests.devices import GPU, SINGLE, near, numbers
from tests.helpers import STATIC, records, steady, torchrun
from tests.training.test_loop import same
from tests.two_processes import PREFIXED, hash_of, trained

TESTS = Path(__file__).parents[1]
PREFIXES = "2:0.5,3"  # of five dimensions
SUMS = ["infonce:learn=yes + moco:queue=10*0.5 + distill_similarity*2", "joint_infonce + distill*0.5"]
MORE = ["cpc:offsets=2", "moco:queue=10,symmetric=yes,in_batch=yes", "distill:loss=mse,map=linear", *SUMS]
CASES = [f"{STATIC}|{name}|{PREFIXED}{PREFIXES}" for name in (*OBJECTIVES, *MORE)]
CASES += [f"rnn:hidden=6|infonce|{PREFIXED}{PREFIXES}", f"{STATIC}|memory_bank|{PREFIXED}{PREFIXES}|guide"]


def by_one_process(case: str, micro_batch: int = 0) -> dict:
    encoder, objective, _, *more = case.split("|")
    accelerator = Accelerator(cpu=not GPU)
    return trained(encoder, objective, accelerator, micro_batch, "guide" in more, matryoshka=PREFIXES)


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_joined_batches(tmp_path):
    done = torchrun(str(TESTS / "two_processes.py"), str(tmp_path), *CASES, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        two = torch.load(tmp_path / f"{hash_of(case)}.pt")
        assert two["world"] == 2
        same(two, by_one_process(case))


@numbers
@pytest.mark.parametrize("case", CASES)
def test_micro_batches_train_as_the_undivided_batch(case):
    undivided = by_one_process(case)
    same(by_one_process(case, micro_batch=2), undivided)
    encoder, objective, *_ = case.split("|")
    plain = trained(encoder, objective, Accelerator(cpu=not GPU))
    assert undivided["losses"] != near(plain["losses"], SINGLE)


def with_hard_negatives(ranges: np.ndarray) -> Pairs:
    """Neighbours, each with the sentence behind them as a hard negative."""
    rows = neighbours(ranges).rows[:]
    return Pairs(np.column_stack([rows, np.where(rows[:, 1] + 1 < ranges.max(), rows[:, 1] + 1, rows[:, 0] - 1)]))


def data_for(objective: str) -> dict:
    """Pairs and a teacher that an objective can learn from."""
    made, options = build_objective(objective), {}
    if "runs" in made.needs:
        options["pairs"] = "contiguous"
    if "labels" in made.needs:
        options["pairs"] = "neighbours:classes=true"
    if "negatives" in made.needs:
        options["pairs"] = "hard"
    if "teacher" in made.needs:
        options["teacher"] = 5 if any(term.teacher_is_start for term in made.terms()) else 7
    return options


@pytest.mark.parametrize("name", [*OBJECTIVES, *SUMS])
def test_a_resumed_run_goes_on_exactly(name, job, monkeypatch):
    monkeypatch.setitem(PAIRS, "hard", with_hard_negatives)
    objective = "cross_entropy:classes=12" if name == "cross_entropy" else name
    settings = dict(spec=STATIC, objective=objective, matryoshka=PREFIXES, max_steps=7, save_every=3, lr=1e-3)
    settings |= data_for(objective)
    straight, cut = job("a", **settings), job("b", **settings)
    for step in (6, 7):
        (cut / "checkpoints" / f"step-{step}").rename(cut / f"lost-{step}")
    resumed = job("b", resume=True, **settings)
    assert steady(resumed) == steady(straight)
    texts = ["the king sees the cat number 3.", "hello"]
    assert np.array_equal(load(resumed).encode(texts), load(straight).encode(texts))


def test_the_log_has_loss_and_geometry_of_each_prefix(job):
    run = job("a", spec=STATIC, matryoshka=PREFIXES, max_steps=4)
    for record in records(run):
        of_prefixes = [record[f"loss_{size}d"] for size in (2, 3, 5)]
        assert record["loss"] == near(np.average(of_prefixes, weights=(0.5, 1, 1)), SINGLE)
        assert {"alignment_2d", "uniformity_3d", "penalty_entropy_2d"} <= record.keys()
        assert record["loss_reference"] == near(np.log(16), SINGLE)
