"""The loop: exact global gradients, one seed one run, resume, an honest log, and clear stops."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb.encoders import HEADS, load, towers_of, two_towers
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, seed_dropout
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import PAIRS, Pairs
from sentemb.registry import build
from sentemb.runs import RunFolder
from sentemb.training import (
    TrainingSettings,
    checkpoints,
    describe,
    learning_rate,
    refuse_misfit,
    total_steps,
)
from sentemb.training.data import Batch
from sentemb.training.log import BatchGeometry, TrainingMonitor
from sentemb.training.state import TrainState
from sentemb.training.step import BatchEncoder, backward, global_loss, seed_of
from tests.devices import DEVICE, DOUBLE, GPU, SINGLE, near, numbers
from tests.helpers import SMALL, STATIC, records, steady, torchrun
from tests.two_processes import hash_of, trained, trained_by

TESTS = Path(__file__).parents[1]
EXACT = 1e-10  # of float64, after sums in another order


CASES = [
    "rnn:hidden=6|infonce",
    "rnn:hidden=6,cell=gru,layers=2,pooling=max|align_uniform",
    "rnn:hidden=6,layers=2,pooling=final|infonce",
    "rnn:hidden=6,skip=mean|infonce",
    "transformer:name=TINY|infonce",
    "transformer:name=TINY|moco:queue=10",
    *[f"{STATIC}|{name}" for name in OBJECTIVES],
    f"{STATIC}|infonce:symmetric=yes,same_side=yes,learn=yes",
    f"{STATIC}|cpc:offsets=2",
    f"{STATIC}|moco:queue=10,symmetric=yes,in_batch=yes",
    f"{STATIC}|distill:loss=mse,map=linear",
    f"{STATIC}|infonce:learn=yes + moco:queue=10*0.5 + distill_similarity*2",
    f"{STATIC}|hard_negatives + memory_bank*0.5 + align_uniform",
    f"{STATIC}|joint_infonce + distill*0.5",
    "transformer:name=TINY|infonce + anchor*0.5",
]


def same(observed: dict, expected: dict) -> None:
    """Losses, gradients and what the objective remembers, in float64."""
    assert observed["losses"] == near(expected["losses"], SINGLE)
    assert set(observed["gradients"]) == set(expected["gradients"])
    total_norm = torch.stack([slope.norm() for slope in expected["gradients"].values()]).norm()
    assert total_norm > 0
    for name, slope in expected["gradients"].items():  # (a key's bias has gradient 0: softmax does not see it)
        assert slope.dtype == torch.float64
        error = (observed["gradients"][name] - slope).norm() / slope.norm().clamp_min(1e-6 * total_norm)
        assert error < SINGLE, (name, float(error))
    assert set(observed["state"]) == set(expected["state"])
    for name, value in expected["state"].items():
        assert torch.allclose(observed["state"][name], value, rtol=SINGLE, atol=DOUBLE), name


def test_two_processes_train_as_one_on_the_joined_batches(tmp_path, tiny):
    cases = [case.replace("TINY", tiny) for case in CASES]
    done = torchrun(str(TESTS / "two_processes.py"), str(tmp_path), *cases, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in cases:
        encoder, objective = case.split("|")
        two = torch.load(tmp_path / f"{hash_of(case)}.pt")
        assert two["world"] == 2
        same(two, trained(encoder, objective, Accelerator(cpu=True)))


SHARED = [  # losses that are shared out over processes, and those that each of them computes
    *[f"{STATIC}|{name}|micro=2" for name in OBJECTIVES],
    *[f"{STATIC}|{name}|guide" for name, kind in OBJECTIVES.items() if "guide" in kind.takes],
    f"{STATIC}|infonce:symmetric=yes,same_side=yes,learn=yes|micro=3",
    f"{STATIC}|infonce:same_side=yes|runs",
    f"{STATIC}|infonce:symmetric=yes|guide|runs|micro=2",
    f"{STATIC}|align_uniform|runs",
    f"{STATIC}|moco:queue=10,symmetric=yes,in_batch=yes|runs|micro=2",
    f"{STATIC}|hard_negatives + memory_bank*0.5 + align_uniform|micro=2",
]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_a_loss_that_is_shared_out_has_the_gradients_of_the_undivided_one(processes, tmp_path):
    script = str(TESTS / "two_processes.py")
    done = torchrun(script, str(tmp_path), *SHARED, cwd=TESTS.parent, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in SHARED:
        several, one = torch.load(tmp_path / f"{hash_of(case)}.pt"), trained_by(case, Accelerator(cpu=True))
        assert several["world"] == processes
        assert several["losses"] == near(one["losses"], EXACT)
        assert several["shares"] == near(one["shares"], EXACT)
        assert several["gradients"].keys() == one["gradients"].keys()
        for name, slope in one["gradients"].items():
            assert slope.dtype == torch.float64
            assert (several["gradients"][name] - slope).norm() <= EXACT * max(1.0, slope.norm()), (case, name)


@pytest.mark.gpus
def test_two_gpus_train_as_one_on_the_joined_batches(tmp_path, tiny):
    cases = [case.replace("TINY", tiny) for case in CASES]
    script = [str(TESTS / "two_processes.py"), str(tmp_path), *cases]
    done = torchrun(*script, cwd=TESTS.parent, environment={"SENTEMB_TEST_DEVICE": "cuda"})
    assert done.returncode == 0, done.stderr[-3000:]
    for case in cases:
        encoder, objective = case.split("|")
        two = torch.load(tmp_path / f"{hash_of(case)}.pt", map_location="cpu")
        assert two["world"] == 2
        same(two, trained(encoder, objective, Accelerator(cpu=True)))


@numbers
@pytest.mark.parametrize("case", CASES[2:])
def test_micro_batches_train_as_the_whole_batch_for_every_objective(case, tiny):
    encoder, objective = case.replace("TINY", tiny).split("|")
    full_batch = trained(encoder, objective, Accelerator(cpu=not GPU))
    same(trained(encoder, objective, Accelerator(cpu=not GPU), micro_batch=2), full_batch)


RESUMED = {
    "rnn": {"spec": "rnn:hidden=6"},
    "final states": {"spec": "rnn:hidden=6,cell=gru,layers=2,dropout=0.2,pooling=final"},
    "skip": {"spec": "rnn:hidden=6,pooling=mean+max,skip=mean+max,train_embeddings=true"},
    "static": {"spec": "static:embeddings=random,dim=6,vocabulary=270"},
    "adam, cosine": {"spec": STATIC, "optimizer": "adam:beta1=0.8", "weight_decay": 0.1, "schedule": "cosine"},
    "sgd, constant": {"spec": STATIC, "optimizer": "sgd:momentum=0.5", "schedule": "constant"},
    "transformer": {"spec": "transformer:name=TINY"},
    "adapters": {"spec": "transformer:name=TINY", "pairs": "dropout", "lora": "rank=2,dropout=0.1"},
    "adapters, moco": {"spec": "transformer:name=TINY", "lora": "rank=3", "objective": "moco:queue=24", "mlm": 0.1},
    "dropout, head, mlm": {"spec": "transformer:name=TINY", "pairs": "dropout", "head": "mlp", "mlm": 0.1},
    "augment": {"spec": SMALL, "pairs": "augment:how=shuffle,rate=0.5"},
    "inverse cloze, two towers": {"spec": SMALL, "pairs": "passages", "two": True, "micro_batch": 5},
    "crops": {"spec": SMALL, "pairs": "passages:kind=crops,overlap=false", "workers": 1},
    "moco": {
        "spec": SMALL + ",layers=2,dropout=0.3",
        "pairs": "dropout",
        "objective": "moco:queue=24,momentum=0.9",
    },
    "memory bank": {"spec": SMALL, "objective": "memory_bank:negatives=20"},
    "byol": {"spec": SMALL, "objective": "byol:hidden=8", "head": "projection:out=5"},
    "cpc": {"spec": SMALL, "objective": "cpc:offsets=2", "pairs": "contiguous"},
    "learned temperature": {"spec": SMALL, "objective": "infonce:learn=yes"},
    "distill": {"spec": SMALL, "objective": "distill", "teacher": 7},
    "distill, runs as pairs": {"spec": SMALL, "objective": "distill_similarity", "teacher": 3, "pairs": "contiguous"},
    "anchor": {"spec": SMALL, "objective": "infonce + anchor*0.5", "teacher": 12},
    "distill, two towers, head": {
        "spec": SMALL,
        "objective": "distill:loss=mse",
        "teacher": 9,
        "two": True,
        "head": "projection:out=5",
    },
    "sum": {
        "spec": SMALL + ",layers=2,dropout=0.3",
        "objective": "distill*2 + moco:queue=24,momentum=0.9*0.5 + infonce:learn=yes + memory_bank:negatives=20",
        "teacher": 7,
        "pairs": "dropout",
    },
    "sum of runs": {
        "spec": SMALL,
        "objective": "joint_infonce + distill:loss=mse*0.5",
        "teacher": 7,
        "pairs": "contiguous",
        "two": True,
    },
    "moco of runs, two towers": {"spec": SMALL, "objective": "moco", "pairs": "contiguous", "two": True},
    "runs, two towers": {"spec": SMALL, "pairs": "contiguous", "objective": "joint_infonce", "two": True},
}


@pytest.mark.parametrize("case", RESUMED)
def test_one_seed_one_log_and_resume_continues_it_exactly(case, job):
    settings = dict(max_steps=11, save_every=4, lr=1e-3, **RESUMED[case])
    straight, again = job("a", **settings), job("b", **settings)
    assert steady(straight) == steady(again)
    cut = job("c", **settings)
    for step in sorted(int(p.name[5:]) for p in (cut / "checkpoints").iterdir())[1:]:
        # as if killed after the first checkpoint, while the log already had more
        (cut / "checkpoints" / f"step-{step}").rename(cut / f"lost-{step}")
    with (cut / "log.jsonl").open("a") as log:
        log.write('{"step": 12, "lo')
    resumed = job("c", resume=True, **settings)
    assert steady(resumed) == steady(straight)
    texts = ["the king sees the cat number 3.", "hello"]
    assert np.array_equal(load(resumed).encode(texts), load(straight).encode(texts))


def test_a_run_ends_at_its_deadline_saved_and_resumes_as_if_it_had_not(job):
    settings = {"max_steps": 6, "save_every": 6, "lr": 1e-3}
    straight = job("a", **settings)
    cut = job("b", deadline=time.monotonic(), **settings)
    assert job.results[-1].step == 1 and job.results[-1].interrupted
    assert [path.name for path in (cut / "checkpoints").iterdir()] == ["step-1"]
    resumed = job("b", resume=True, deadline=time.monotonic() + 3600, **settings)
    assert job.results[-1].step == 6 and not job.results[-1].interrupted
    assert steady(resumed) == steady(straight)


MICRO = {
    "infonce": {"objective": "infonce:symmetric=yes"},
    "align_uniform": {"objective": "align_uniform"},
    "mix": {"objective": "mix:align=1,uniform=1"},
    "joint": {"objective": "joint_infonce", "pairs": "contiguous"},
    "joint, towers": {"objective": "joint_infonce:diagonal=in", "pairs": "contiguous", "two": True},
    "towers": {"objective": "infonce:score=dot,temperature=1", "two": True},
    "runs as pairs": {"objective": "infonce", "pairs": "contiguous"},
    "dropout, head": {"pairs": "dropout", "head": "projection:out=5"},
    "labelled": {"objective": "infonce:hard_weight=0.7", "columns": 4},
}


FEW = ("infonce", "dropout, head", "labelled")  # of the transformer, which takes seconds
SPECS = ["rnn:hidden=6,layers=2,dropout=0.3", "static:dropout=0.3", "transformer:name=TINY"]


@numbers
@pytest.mark.parametrize(("case", "spec"), [(c, s) for c in MICRO for s in SPECS if c in FEW or "TINY" not in s])
def test_micro_batches_give_the_gradient_of_the_whole_batch(case, spec, encoder):
    options = dict(objective="infonce", pairs="neighbours", head="none", two=False, columns=2) | MICRO[case]
    model = two_towers(encoder(spec), encoder(spec)) if options["two"] else encoder(spec)
    model.double().to(DEVICE).train()
    torch.manual_seed(0)
    top = build(HEADS, options["head"], dimension=towers_of(model)[0].get_embedding_dimension())
    embedder = TrainingEncoder(model, top.double().to(DEVICE) if top is not None else None)
    rng, runs = np.random.default_rng(0), options["pairs"] == "contiguous"
    count = 2 if options["two"] and runs else 1 if runs else options["columns"]
    columns = [[rng.integers(3, 260, 3 + i % 5) for i in range(16)] for _ in range(count)]
    columns = [columns[0]] * count if runs or options["pairs"] == "dropout" else columns
    ids = torch.arange(16 * count).view(16, count)
    batch = Batch(columns, ids, torch.arange(16) + (torch.arange(16) > 6) if runs else None)
    objective, accelerator = build(OBJECTIVES, options["objective"]), Accelerator(cpu=not GPU)
    batch_encoder = BatchEncoder(embedder, accelerator, TrainingSettings())
    update = backward(batch_encoder, objective, batch, step=3, micro_batch=2)
    cached = {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}
    embedder.zero_grad()

    # the same masks with one graph: all parts at once
    parts = []
    for number in range(8):
        seed_dropout(seed_of(0, 3, 0, number))
        part = slice(2 * number, 2 * number + 2)
        embeddings = embedder(*batch.features(model, part, DEVICE))
        parts.append(embeddings.chunk(len(columns)))
    together = tuple(torch.cat(column) for column in zip(*parts, strict=True))
    loss, _ = global_loss(objective, together, batch, accelerator)
    loss.backward()
    assert update.loss == near(loss.item(), DOUBLE)
    norm = torch.stack([slope.norm() for slope in cached.values()]).norm()
    assert norm > 0
    for name, p in embedder.named_parameters():
        if name in cached:
            assert (p.grad - cached[name]).norm() <= DOUBLE * max(p.grad.norm(), 1e-6 * norm), name


def test_micro_batches_train_the_same_model(job):
    full_batch_run, parts = job("a", max_steps=4), job("b", max_steps=4, micro_batch=3)  # (no dropout in this encoder)
    for a, b in zip(records(full_batch_run), records(parts), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    texts = ["the king sees the cat number 3.", "hello"]
    assert np.abs(load(parts).encode(texts) - load(full_batch_run).encode(texts)).max() < 1e-4
    again = job("c", max_steps=4, micro_batch=3)
    assert steady(again) == steady(parts)


def test_the_masked_word_task_is_trained_along_in_whole_and_in_parts(job):
    for name, micro in (("a", 0), ("b", 8)):
        log = records(
            job(name, spec="transformer:name=TINY", pairs="dropout", mlm=0.1, max_steps=3, lr=1e-4, micro_batch=micro)
        )
        assert all(math.isfinite(r["loss"]) for r in log)


def test_best_and_last_are_kept_apart_and_a_falling_dev_score_is_told(job, capsys):
    scores = iter([0.5, 0.8, 0.7, 0.6, 0.75])
    run = job("a", max_steps=8, eval_every=2, dev="dev", score=lambda model: {"dev": next(scores)})
    selected = {name: json.loads((run / name / "selected.json").read_text()) for name in ("best", "last")}
    written = {"manifest": True}
    assert selected == {"best": {"step": 2, "dev": 0.8} | written, "last": {"step": 8, "dev": 0.75} | written}
    assert np.array_equal(load(run / "last").encode("hello"), load(run / "model").encode("hello"))
    assert not np.array_equal(load(run / "best").encode("hello"), load(run / "model").encode("hello"))
    warned = [r for r in records(run) if "warnings" in r]
    assert [r["step"] for r in warned] == [4] and "below its best, 0.8 at step 2" in warned[0]["warnings"][0]
    assert capsys.readouterr().err.count("warning: step 4") == 1


def test_best_and_last_that_nobody_wants_are_not_written_and_change_nothing(job):
    saved, unsaved = (
        job(name, max_steps=4, eval_every=2, save_every=2, dev="dev", score=lambda model: {"dev": 0.5}, saves=saves)
        for name, saves in (("a", True), ("b", False))
    )
    assert not (unsaved / "best").exists() and not (unsaved / "last").exists() and (saved / "best").is_dir()
    assert steady(unsaved) == steady(saved) and len(list((unsaved / "checkpoints").glob("step-*"))) == 2


def test_the_best_of_a_resumed_run_is_the_best_of_all(job):
    values = {0: 0.5, 2: 0.9, 4: 0.3, 6: 0.6}
    steps = iter([0, 2, 4])
    run = job("a", max_steps=4, eval_every=2, save_every=2, dev="dev", score=lambda model: {"dev": values[next(steps)]})
    for lost in (run / "checkpoints").glob("step-4"):
        lost.rename(run / "lost")
    later = iter([4, 6])
    score = lambda model: {"dev": values[next(later)]}  # noqa: E731
    job("a", max_steps=6, eval_every=2, save_every=2, dev="dev", resume=True, score=score)
    assert json.loads((run / "best" / "selected.json").read_text())["step"] == 2


def test_identical_views_and_collapse_are_told(job, capsys):
    run = job("a", pairs="dropout", max_steps=2)  # an encoder without dropout
    assert "identical" in records(run)[0]["warnings"][0]
    assert records(run)[0]["alignment"] == pytest.approx(0, abs=1e-9)  # (halves of a batch are summed apart)
    monitor, even = TrainingMonitor(TrainState()), BatchGeometry(0.3, -2.0, -3.0, 0.7, 0.9, 0.5)
    collapsed = replace(even, mean_cosine=0.999)
    assert monitor.check_geometry(1, even, True) is None
    assert "collapse" in monitor.check_geometry(2, collapsed, True)
    assert monitor.check_geometry(3, collapsed, True) is None  # warned of once


def test_pairs_and_objectives_that_do_not_fit_are_refused(job):
    with pytest.raises(InputError, match="pairs contiguous"):
        job("a", objective="joint_infonce")
    for objective in ("memory_bank", "moco:symmetric=yes"):
        with pytest.raises(InputError, match="needs --towers 1"):
            job("b", objective=objective, two=True)
    with pytest.raises(InputError, match="does not use classes"):
        classes = Pairs(np.zeros((4, 2), dtype=np.int64), labels=np.zeros(4, dtype=np.int64))
        refuse_misfit(build(OBJECTIVES, "infonce"), classes)
    with pytest.raises(InputError, match="takes no hard negatives"):
        refuse_misfit(build(OBJECTIVES, "align_uniform"), Pairs(np.zeros((4, 3), dtype=np.int64)))


def test_every_checkpoint_is_a_model_and_nothing_half_written_stays(job):
    run = job("a", max_steps=6, save_every=3)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-3", "step-6"]
    assert np.array_equal(load(run / "checkpoints" / "step-6").encode("hello"), load(run / "model").encode("hello"))
    assert RunFolder(run).newest_checkpoint() == run / "checkpoints" / "step-6"


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path):
    checkpoints.write_folder(tmp_path / "step-1", lambda folder: (folder / "a").write_text("whole"))

    def fail(folder):
        (folder / "a").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoints.write_folder(tmp_path / "step-1", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    assert (tmp_path / "step-1" / "a").read_text() == "whole"


@pytest.mark.parametrize("file", ["training.safetensors", "training.json", "modules.json", "1_LSTM/model.safetensors"])
def test_a_damaged_checkpoint_is_named(file, job):
    run = job("a", max_steps=2, save_every=2)
    damaged = run / "checkpoints" / "step-2" / file
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(InputError, match="step-2"):
        job("a", resume=True, max_steps=4, save_every=2)


def test_the_log_has_step_0_and_what_is_promised(job):
    scores = []

    def score(model):
        scores.append(model.encode("hello"))
        return {"retrieval_mrr": 0.5}

    run = job("a", max_steps=7, eval_every=3, score=score)
    log = records(run)
    assert [r["step"] for r in log] == [0, 2, 3, 4, 6, 7]
    assert [r["step"] for r in log if "retrieval_mrr" in r] == [0, 3, 6, 7] and len(scores) == 4
    assert log[0]["pairs_seen"] == 0 and 90 < log[-1]["pairs_seen"] <= 7 * 16
    for record in log:
        assert record["loss_reference"] in (math.log(16), math.log(9))
        assert record["mutual_information"] == pytest.approx(record["loss_reference"] - record["loss"])
        assert -8 <= record["uniformity"] <= 0 <= record["alignment"] <= 4
        assert record["uniformity_used"] == pytest.approx(record["uniformity"] / record["uniformity_optimum"])
        assert -1 <= record["mean_cosine"] <= 1 and record["spread"] >= 0 and record["peak_memory_mib"] > 10
    assert log[-1]["loss"] < log[0]["loss"]


def test_objectives_without_candidates_have_no_reference(job):
    record = records(job("a", objective="align_uniform", max_steps=2))[0]
    assert record["loss_reference"] is None and "mutual_information" not in record


def test_pretrained_embeddings_stay_as_they_are(job, encoder):
    run = job("a", spec="rnn:hidden=6", max_steps=3)
    assert torch.equal(load(run)[0].emb_layer.weight, encoder("rnn:hidden=6")[0].emb_layer.weight)


def test_a_diverging_run_stops_with_its_step(job, monkeypatch):
    monkeypatch.setattr("sentemb.training.schedule.learning_rate", lambda *arguments: math.inf)
    with pytest.raises(FloatingPointError, match="step 2: .*try a lower --lr"):
        job("a", max_steps=5)


def test_steps_and_learning_rate():
    assert total_steps(TrainingSettings(batch_size=10), 105, 1) == 11  # ten full ones and one of five
    assert total_steps(TrainingSettings(batch_size=10, epochs=2), 105, 2) == 12
    assert total_steps(TrainingSettings(batch_size=10, max_steps=99), 105, 1) == 99  # as many epochs as that takes
    assert total_steps(TrainingSettings(batch_size=10, max_steps=99, epochs=1), 105, 1) == 11
    settings = TrainingSettings(lr=1, warmup=4)
    rates = [learning_rate(settings, step, 10) for step in range(1, 11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    constant = [learning_rate(replace(settings, schedule="constant"), step, 10) for step in range(1, 11)]
    assert constant == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]
    cosine = [learning_rate(replace(settings, schedule="cosine"), step, 10) for step in range(1, 11)]
    wave = [1, (2 + 3**0.5) / 4, 3 / 4, 1 / 2, 1 / 4, (2 - 3**0.5) / 4]
    assert cosine == pytest.approx([0.25, 0.5, 0.75, 1, *wave])
    for schedule in ("constant", "linear", "cosine"):
        without = TrainingSettings(lr=2, warmup=0, schedule=schedule)
        assert learning_rate(without, 1, 7) == 2 and learning_rate(without, 1, 1) == 2
        assert learning_rate(replace(without, warmup=7), 7, 7) == 2


def test_evaluations_to_come_are_those_that_come():
    for every in (0, 1, 3, 4, 50):
        settings = TrainingSettings(eval_every=every)
        for steps in (1, 8, 9):
            for step in range(steps + 1):
                to_come = sum(settings.evaluates_at(later, steps) for later in range(step + 1, steps + 1))
                assert settings.evaluations(step, steps) == to_come


def test_warmup_below_1_is_a_share_of_the_run():
    for share, steps, updates in [(0.1, 60, 6), (0.4, 10, 4), (0.1, 4, 0), (0, 10, 0), (0.999, 10, 10)]:
        assert TrainingSettings(warmup=share).warmup_updates(steps) == updates
        as_number = TrainingSettings(warmup=updates)
        for step in range(1, steps + 1):
            assert learning_rate(TrainingSettings(warmup=share), step, steps) == learning_rate(as_number, step, steps)
    assert TrainingSettings(warmup=1).warmup_updates(10) == 1
    assert TrainingSettings().warmup_updates(200) == 20
    highest = max(learning_rate(TrainingSettings(lr=2e-5), step, 60) for step in range(1, 61))
    assert highest == 2e-5  # also of a short run


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 1},
        {"lr": 0},
        {"lr": math.nan},
        {"epochs": 0},
        {"warmup": -1},
        {"warmup": 1.5},
        {"max_steps": 0},
        {"weight_decay": math.inf},
        {"schedule": "cosines"},
        {"optimizer": "adamv"},
        {"optimizer": "adamw:beta=0.9"},
        {"optimizer": "adamw:beta2=1"},
        {"optimizer": "adam:eps=0"},
        {"optimizer": "sgd:momentum=-0.1"},
        {"mlm": math.nan},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)).replace("_", "-")):
        TrainingSettings(**wrong)


def test_the_first_line_says_what_one_update_sees(encoder):
    pairs, embedder = PAIRS["neighbours"](np.array([[0, 1001]])), TrainingEncoder(encoder("transformer"))
    settings = TrainingSettings(batch_size=32, micro_batch=8)
    description = describe(settings, build(OBJECTIVES, "infonce"), pairs, Accelerator(cpu=True), embedder)
    for part in ("1 process on cpu", "precision no", "attention packed", "in parts of 8", "31 in-batch negatives"):
        assert part in description
    assert "32 steps over 1,000 pairs" in description


@pytest.mark.parametrize("objective", ["infonce", "align_uniform", "joint_infonce"])
def test_a_run_without_any_two_neighbours_teaches_nothing_and_harms_nothing(objective, encoder):
    embedder = TrainingEncoder(encoder("rnn:hidden=4"))
    batch = Batch([[np.arange(3, 8)] * 4], torch.arange(4)[:, None], torch.arange(4) * 5)
    made, accelerator = build(OBJECTIVES, objective), Accelerator(cpu=True)
    update = backward(BatchEncoder(embedder, accelerator, TrainingSettings()), made, batch, step=1)
    assert update.loss == 0 and [len(side) for side in update.positives] == [1, 1]
    assert update.objective_inputs is None
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in embedder.parameters())
