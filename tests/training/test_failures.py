"""Runs that are killed, filled up, cut off and lied to: what was saved is whole, and what goes on is exact.

The full counts are in tests/robustness/faults.py; here are a few of each.
"""

import errno
import json
import math
import os
import random
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from recipes import doctor, train_bookcorpus, train_supervised
from sentemb.encoders import load
from sentemb.errors import InputError, TrainingFailed
from sentemb.objectives import OBJECTIVES, InfoNCE
from sentemb.pipeline.claim import claimed
from sentemb.pipeline.resume import differences, on_processes
from sentemb.runs import RunFolder
from sentemb.storage import verify
from sentemb.training import FitResult, TrainingSettings, checkpoints, hardware, loop, nonfinite
from sentemb.training.step import BatchEncoder
from tests.helpers import SMALL, records, steady
from tests.robustness import faults, fuzz

STEPS = {"max_steps": 8, "save_every": 2, "log_every": 1, "lr": 1e-3}


def same(a: Path, b: Path) -> bool:
    return steady(a) == steady(b) and faults.weights(a / "model") == faults.weights(b / "model")


# ---- exact resume


@pytest.mark.parametrize(("kind", "world", "stop"), [("rnn", 1, 6), ("static", 2, 8), ("transformer", 1, 12)])
def test_killed_and_resumed_equals_straight(kind, world, stop, tiny, capsys):
    specs = faults.KINDS | {"transformer": f"transformer:name={tiny},dropout=0.1"}
    assert faults.resume([kind], [world], [stop], specs)[:2] == (1, 1), capsys.readouterr().out


def test_kills_at_random_moments_lose_nothing(capsys):
    assert faults.kills(3, most=0.6)[:2] == (3, 3), capsys.readouterr().out


class Noisy(InfoNCE):
    """Draws from every generator that there is."""

    def loss(self, x, y, extras):
        noise = random.random() + float(np.random.rand()) + torch.rand(()).item()
        return super().loss(x, y, extras) * (1 + noise)


def test_an_objective_with_random_numbers_of_its_own_resumes_exactly(job, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "noisy", Noisy)
    straight = job("a", objective="noisy", **STEPS)
    job("b", objective="noisy", **STEPS | {"keep": 0})
    for lost in ("step-6", "step-8"):
        (straight.parent / "b" / "checkpoints" / lost).rename(straight.parent / lost)
    assert same(straight, job("b", objective="noisy", resume=True, **STEPS))


def test_the_loss_scaler_is_saved_and_resumed(job, monkeypatch):
    made = []

    def scaled(cpu: bool) -> Accelerator:
        made.append(Accelerator(cpu=cpu))
        made[-1].scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
        return made[-1]

    monkeypatch.setattr("tests.conftest.Accelerator", scaled)
    straight = job("a", **STEPS | {"keep": 0})
    assert made[0].scaler.get_scale() == 256.0  # it has grown twice
    state = json.loads((straight / "checkpoints" / "step-4" / "training.json").read_text())["scaler"]
    assert state["scale"] == 128.0 and state["_growth_tracker"] == 1
    job("b", **STEPS | {"keep": 0})
    for lost in ("step-6", "step-8"):
        (straight.parent / "b" / "checkpoints" / lost).rename(straight.parent / lost)
    assert same(straight, job("b", resume=True, **STEPS))
    assert made[2].scaler.get_scale() == 256.0


def test_best_and_last_of_steps_that_are_made_again_are_removed(job):
    scores = {0: 0.1, 2: 0.3, 4: 0.9, 6: 0.5, 8: 0.4}
    steps = iter([0, 2, 4, 6, 8])
    settings = STEPS | {"eval_every": 2, "keep": 0, "dev": "dev"}
    run = job("a", **settings, score=lambda model: {"dev": scores[next(steps)]})
    for lost in ("step-4", "step-6", "step-8"):
        os.truncate(run / "checkpoints" / lost / "training.safetensors", 9)
    job("a", **settings | {"max_steps": 3}, resume=True, score=lambda model: {"dev": 0.2})
    selected = {name: json.loads((run / name / "selected.json").read_text())["step"] for name in ("best", "last")}
    assert selected == {"best": 3, "last": 3}  # that of step 2 was overwritten by that of step 4, which is no more
    assert faults.weights(run / "best") == faults.weights(run / "model")


def test_a_run_goes_on_with_the_settings_it_had(job):
    job("a", **STEPS)
    with pytest.raises(InputError, match="step-8 was made with lr 0.001, and now it is 0.5"):
        job("a", **STEPS | {"lr": 0.5, "max_steps": 9}, resume=True)
    for name, value, before in (("schedule", "cosine", "linear"), ("optimizer", "sgd", "adamw")):
        with pytest.raises(InputError, match=f"step-8 was made with {name} {before}, and now it is {value}"):
            job("a", **STEPS | {name: value, "max_steps": 9}, resume=True)
    with pytest.raises(InputError, match="with global batch 16, and now it is 8"):
        job("a", **STEPS | {"batch_size": 8, "max_steps": 9}, resume=True)


# ---- signals


def test_a_signal_ends_after_the_step_and_what_follows_is_exact(job):
    straight = job("a", **STEPS | {"eval_every": 3}, score=lambda model: {"dev": 0.5}, dev="dev")
    steps = iter(range(9))

    def score(model):
        if next(steps) == 1:  # at step 3
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)  # (another thread reads it)
        return {"dev": 0.5}

    run = job("b", **STEPS | {"eval_every": 3, "save_every": 0}, score=score, dev="dev")
    assert job.results[-1] == FitResult(3, 8, True, run / "checkpoints" / "step-3")
    assert [r["step"] for r in records(straight.parent / "b")] == [0, 1, 2, 3]
    again = job("b", **STEPS | {"eval_every": 3}, score=score, dev="dev", resume=True)
    assert same(straight, again)


def test_sigterm_saves_exits_0_and_prints_the_command_to_go_on(tmp_path):
    arguments = ["--corpus", str(faults.write_corpus(tmp_path / "text.txt")), "--encoder", faults.KINDS["static"]]
    arguments += ["--batch-size", "16", "--max-steps", "100000", "--no-score", "--log-every", "1", "--out"]
    (process,) = faults.start([*arguments, str(tmp_path / "run")], tmp_path)
    wait_for(lambda: (tmp_path / "run" / "log.jsonl").exists() and len(records(tmp_path / "run")) > 3, process)
    process.terminate()
    process.join(60)
    printed = (tmp_path / "printed-0").read_text()
    step = RunFolder(tmp_path / "run").newest_checkpoint()
    assert process.exitcode == 0 and step is not None, printed
    assert re.search(
        rf"stopped after step {step.name[5:]} of 100000, .*resume with\n +\S+ .* --resume --out \S+run", printed
    )
    verify(step)


def wait_for(condition, *processes, seconds: int = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until and all(process.is_alive() for process in processes)
        time.sleep(0.02)


def test_a_rank_that_dies_ends_the_others_with_its_reason(tmp_path):
    arguments = ["--corpus", str(faults.write_corpus(tmp_path / "text.txt")), "--encoder", faults.KINDS["static"]]
    arguments += ["--batch-size", "8", "--max-steps", "100000", "--no-score", "--save-every", "2", "--out"]
    processes = faults.start([*arguments, str(tmp_path / "run")], tmp_path, world=2)
    wait_for(lambda: RunFolder(tmp_path / "run").newest_checkpoint(), *processes)
    processes[1].kill()
    processes[0].join(60)
    printed = (tmp_path / "printed-0").read_text()
    assert processes[0].exitcode == 1 and "stopped: step" in printed, printed
    assert "another process of this run has ended" in printed and "the last good checkpoint is" in printed
    assert "Traceback" not in printed
    verify(RunFolder(tmp_path / "run").newest_checkpoint())


# ---- other numbers of processes


def test_another_number_of_processes_needs_elastic_and_keeps_the_batches(tmp_path):
    plain = faults.KINDS["static"].replace("dropout=0.3", "dropout=0")
    arguments = ["--corpus", str(faults.write_corpus(tmp_path / "text.txt")), "--encoder", plain]
    arguments += ["--batch-size", "16", "--max-steps", "12", "--save-every", "4", "--log-every", "1", "--no-score"]
    arguments += ["--warmup", "2", "--precision", "no", "--eval-every", "0", "--out"]
    faults.finish(faults.start([*arguments, str(tmp_path / "a")], tmp_path), tmp_path)
    faults.finish(faults.start([*arguments, str(tmp_path / "b")], tmp_path, stop=4), tmp_path, killed=True)
    out = ["--resume", "--out", str(tmp_path / "b")]
    refused = faults.start(out, tmp_path, world=2)
    for process in refused:
        process.join(120)
    assert [process.exitcode for process in refused] == [2, 2]
    assert (
        "started on 1 process and now there are 2; start as many, or add --elastic"
        in (tmp_path / "printed-0").read_text()
    )
    faults.finish(faults.start([*out, "--elastic"], tmp_path, world=2), tmp_path)
    assert "note: begun on 1 process, now 2 with 8 pairs each: the same pairs" in (tmp_path / "printed-0").read_text()
    a, b = records(tmp_path / "a"), records(tmp_path / "b")
    assert [(r["step"], r["batch"], r["pairs_seen"]) for r in a] == [
        (r["step"], r["batch"], r["pairs_seen"]) for r in b
    ]
    assert [r["loss"] for r in b][:5] == [r["loss"] for r in a][:5]
    assert [r["loss"] for r in b][5:] == pytest.approx([r["loss"] for r in a][5:], rel=1e-4)
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (config["world_size"], config["settings"]["batch_size"], config["least"]) == (2, 8, 2)
    assert len(config["resumed"]) == 1


def test_what_cannot_be_shared_by_so_many_processes_is_refused():
    config, begun_config = TrainingSettings(batch_size=16), {"world_size": 2, "least": 4}
    assert on_processes(config, begun_config, 2, False) == TrainingSettings(batch_size=16, smallest_batch=4)
    assert on_processes(config, begun_config, 4, True) == TrainingSettings(batch_size=8, smallest_batch=4)
    with pytest.raises(InputError, match="started on 2 process"):
        on_processes(config, begun_config, 1, False)
    uneven = TrainingSettings(batch_size=11, smallest_batch=4, global_batch=32)
    assert on_processes(config, begun_config, 3, True) == uneven
    on_three = {"world_size": 3, "least": 4, "global_batch": 32}
    assert on_processes(TrainingSettings(batch_size=11), on_three, 3, False) == uneven
    assert on_processes(TrainingSettings(batch_size=11), on_three, 2, True) == replace(config, smallest_batch=4)
    with pytest.raises(InputError, match="global batch of 32 pairs is too small for 17 processes"):
        on_processes(config, begun_config, 17, True)
    with pytest.raises(InputError, match="last update of an epoch has 5 pairs, too few for 4"):
        differences(on_processes(config, begun_config, 4, True), begun_config, 4, 9, 37)
    (note,) = differences(config, {"steps": 7}, 1, 9, 64)
    assert "planned for 7 steps, now 9" in note and "warm-up" not in note
    (note,) = differences(config, {"steps": 60}, 1, 200, 64)
    assert "of a run of 200 steps with 20 of them warm-up (was 6)" in note


# ---- numbers that are none


def fill_gradients(encoder: BatchEncoder, value: float) -> None:
    for weight in encoder.encoder.parameters():
        if weight.grad is not None:
            weight.grad.fill_(value)


@pytest.fixture
def broken_at(monkeypatch):
    """Lets the loss and the gradient of the given steps be NaN."""

    def set_steps(*steps: int) -> None:
        before = loop.backward

        def backward(encoder, objective, batch, step, micro_batch):
            update = before(encoder, objective, batch, step, micro_batch)
            if step in steps:
                update.loss = math.nan
                fill_gradients(encoder, math.nan)
            return update

        monkeypatch.setattr(loop, "backward", backward)

    return set_steps


def test_a_loss_that_is_no_number_stops_with_step_batch_and_checkpoint(job, broken_at, tmp_path):
    broken_at(5)
    with pytest.raises(
        FloatingPointError, match=r"step 5: the loss is nan .*\(pairs .* 16 in .*step-5.json\)"
    ) as stopped:
        job("a", **STEPS)
    assert "step-4, and --resume" in str(stopped.value) and "--on-nan skip" in str(stopped.value)
    batch = json.loads((tmp_path / "a" / "nonfinite-step-5.json").read_text())
    assert len(batch["pairs"]) == len(set(batch["pairs"])) == 16 and np.shape(batch["sentences"]) == (16, 2)
    assert [r["step"] for r in records(tmp_path / "a")] == [0, 1, 2, 3, 4]


def test_skipped_updates_change_nothing_and_are_told(job, broken_at):
    broken_at(3, 4)
    run = job("a", **STEPS, on_nan="skip", objective="moco:queue=24,momentum=0.9")
    skipped = {r["step"]: r for r in records(run) if r.get("skipped")}
    assert sorted(skipped) == [3, 4] and skipped[3]["loss"] is None
    assert "the update is skipped" in skipped[3]["warnings"][0]
    states = [load(run / "checkpoints" / f"step-{n}").state_dict() for n in (6, 8)]
    assert all(value.isfinite().all() for state in states for value in state.values())
    job("b", **STEPS | {"keep": 0}, on_nan="skip", objective="moco:queue=24,momentum=0.9")
    weights = [faults.weights(run.parent / "b" / "checkpoints" / f"step-{n}") for n in (2, 4)]
    for kind in weights:  # (the optimiser's and the objective's are in training.safetensors)
        assert len(kind) >= 2
    assert weights[0] == weights[1]


def test_the_loss_scaler_bears_skips_and_its_own_are_counted(job, broken_at, monkeypatch):
    def scaled(cpu: bool) -> Accelerator:
        made = Accelerator(cpu=cpu)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        clip = made.clip_grad_norm_

        def clipped(parameters, norm):  # as accelerate does it under fp16, which no CPU has
            made.scaler.unscale_(made._optimizers[-1].optimizer)
            return clip(parameters, norm)

        made.clip_grad_norm_ = clipped
        return made

    monkeypatch.setattr("tests.conftest.Accelerator", scaled)
    broken_at(3, 4)
    assert [r["step"] for r in records(job("a", **STEPS, on_nan="skip"))] == list(range(9))
    monkeypatch.setattr(nonfinite, "MAX_REJECTED", 2)
    before = loop.backward

    def overflowing(encoder, *arguments):
        update = before(encoder, *arguments)
        update.loss = 1.0  # which is finite
        fill_gradients(encoder, math.inf)
        return update

    monkeypatch.setattr(loop, "backward", overflowing)
    with pytest.raises(FloatingPointError, match="step 4: no finite gradient in 4 updates"):
        job("b", **STEPS)


def test_what_is_remembered_stands_still_where_the_scaler_leaves_a_step_out(job, monkeypatch):
    def scaled(cpu: bool) -> Accelerator:
        made = Accelerator(cpu=cpu)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        clip = made.clip_grad_norm_

        def clipped(parameters, norm):
            made.scaler.unscale_(made._optimizers[-1].optimizer)
            return clip(parameters, norm)

        made.clip_grad_norm_ = clipped
        return made

    monkeypatch.setattr("tests.conftest.Accelerator", scaled)
    before = loop.backward

    def overflowing(encoder, objective, batch, step, micro_batch):
        update = before(encoder, objective, batch, step, micro_batch)
        if step in (3, 4):  # (the loss is finite)
            fill_gradients(encoder, math.inf)
        return update

    monkeypatch.setattr(loop, "backward", overflowing)
    run = job("a", **STEPS | {"keep": 0, "log_every": 1}, objective="moco:queue=200,momentum=0.9")
    weights = {n: faults.weights(run / "checkpoints" / f"step-{n}") for n in (2, 4, 6)}
    assert weights[2] == weights[4]  # model, optimiser, queue and momentum encoder
    assert weights[6] != weights[4]
    states = {n: json.loads((run / "checkpoints" / f"step-{n}" / "training.json").read_text()) for n in (2, 4, 6)}
    assert [states[n]["scaler"]["scale"] for n in (2, 4, 6)] == [64.0, 16.0, 16.0]
    fields_by_step = {r["step"]: (r.get("overflow"), r.get("gradient_norm")) for r in records(run)[1:]}
    assert [step for step, (overflow, norm) in fields_by_step.items() if overflow and norm is None] == [3, 4]
    assert all(norm > 0 for step, (_, norm) in fields_by_step.items() if step not in (3, 4))


def test_too_many_skips_one_after_another_stop(job, broken_at, monkeypatch):
    monkeypatch.setattr(nonfinite, "MAX_REJECTED", 3)
    broken_at(2, 4, 5, 6)
    with pytest.raises(FloatingPointError, match="step 6: .*as of the 2 updates before"):
        job("a", **STEPS, on_nan="skip")


def test_weights_that_are_no_numbers_are_not_saved(job, monkeypatch, tmp_path):
    rate = lambda settings, step, steps: 1e-3 if step < 4 else math.inf  # noqa: E731
    monkeypatch.setattr("sentemb.training.schedule.learning_rate", rate)
    with pytest.raises(
        FloatingPointError, match="step 4: .* is not finite, so it is not saved; the last good .*step-2"
    ):
        job("a", **STEPS)
    assert [p.name for p in (tmp_path / "a" / "checkpoints").iterdir()] == ["step-2"]


# ---- full disks and full memory


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(job, monkeypatch, tmp_path):
    before, calls = checkpoints.save_file, iter(range(99))

    def full(tensors, path):
        if next(calls) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        before(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(
        TrainingFailed, match="step 6: the disk is full; .*the last good checkpoint is .*step-4, and --resume"
    ):
        job("a", **STEPS)
    assert sorted(p.name for p in (tmp_path / "a" / "checkpoints").iterdir()) == ["step-2", "step-4"]
    verify(tmp_path / "a" / "checkpoints" / "step-4")
    monkeypatch.undo()
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    assert same(job("b", **STEPS), job("a", resume=True, **STEPS))


def test_too_little_memory_names_micro_batch(job, monkeypatch):
    def full(*arguments, **more):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")

    monkeypatch.setattr(BatchEncoder, "columns", full)
    with pytest.raises(
        TrainingFailed, match=r"step 1: out of memory .*--micro-batch 4, .*\(now all 16 .*no checkpoint was saved yet"
    ):
        job("a", **STEPS)


# ---- damaged checkpoints


def test_damaged_checkpoints_are_refused_set_aside_and_the_one_before_is_used(capsys):
    assert faults.corruptions(16, kinds=["static"])[:2] == (16, 16), capsys.readouterr().out


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(job, capsys):
    straight = job("a", **STEPS)
    run = job("b", **STEPS)
    for lost in ("step-8",):
        os.truncate(run / "checkpoints" / lost / "training.safetensors", 100)
    again = job("b", resume=True, **STEPS)
    assert "damaged-step-8, and the run resumes from the checkpoint before, " in capsys.readouterr().err
    assert faults.weights(straight / "model") == faults.weights(again / "model")
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["damaged-step-8", "step-6", "step-8"]


def test_no_whole_checkpoint_is_no_reason_to_begin_anew(job):
    run = job("a", **STEPS)
    for folder in (run / "checkpoints").iterdir():
        (folder / "modules.json").unlink()
    with pytest.raises(InputError, match="all checkpoints of .* are damaged: .*modules.json, which .* is missing"):
        job("a", resume=True, **STEPS)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-6", "step-8"]


def test_the_newest_checkpoints_are_kept(job):
    for keep, names in (
        (1, ["step-8"]),
        (3, ["step-4", "step-6", "step-8"]),
        (0, ["step-2", "step-4", "step-6", "step-8"]),
    ):
        run = job(f"keep-{keep}", **STEPS, keep=keep)
        assert sorted(p.name for p in (run / "checkpoints").iterdir()) == names


# ---- broken input


@pytest.mark.parametrize("kind", ["registries", "corpus_files", "senteval_files"])
def test_broken_input_ends_in_a_sentence(kind, tmp_path, capsys):
    made = fuzz.registries() if kind == "registries" else getattr(fuzz, kind)(tmp_path)
    count = 300
    assert fuzz._fuzzed(kind, *made, count) >= count, capsys.readouterr().out


# ---- run folders, doctor


def test_two_processes_do_not_write_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    accelerator = Accelerator(cpu=True)
    with claimed(tmp_path / "a", "x", accelerator) as out:
        assert out == tmp_path / "a"
        with pytest.raises(InputError, match="is in use by another process"), claimed(out, "x", accelerator):
            pass
        monkeypatch.chdir(tmp_path)
        with claimed(None, "x", accelerator) as free, claimed(None, "x", accelerator) as other:
            assert (free, other) == (Path("runs/x"), Path("runs/x-2"))
    with claimed(tmp_path / "a", "x", accelerator):
        pass


def test_a_folder_that_another_run_has_taken_meanwhile_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")  # after this one had looked
    with (
        pytest.raises(InputError, match="a is already a run"),
        claimed(tmp_path / "a", "x", Accelerator(cpu=True), True),
    ):
        pass


def test_a_refused_resume_writes_nothing(book_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    begin = ["--corpus", str(book_file), "--encoder", SMALL, "--batch-size", "16", "--max-steps", "2", "--no-score"]
    train_bookcorpus.main([*begin, "--out", "a"])
    (tmp_path / "a" / "checkpoints" / "step-2" / "modules.json").unlink()
    before = {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    for more, message in (
        (["--max-steps", "4"], "all checkpoints of a are damaged"),
        (["--lr", "1"], "was started with --lr"),
        (["--dev", "stsb"], "was started with --dev"),
    ):
        with pytest.raises(SystemExit) as stopped:
            train_bookcorpus.main(["--resume", "--out", "a", *more])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
        assert {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()} == before
    train_bookcorpus.main(["--resume", "--out", "a", "--precision", "auto", "--dev", "auto"])
    assert "is finished" in capsys.readouterr().out
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for main, arguments, message in (
        (train_supervised.main, ["--resume"], "finds no run in runs/supervised"),
        (train_bookcorpus.main, ["--resume", "--out", "typo"], "typo is not a run that can be resumed"),
        (train_bookcorpus.main, ["--resume", "--out", "full", "--corpus", str(book_file)], "full is not a run"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_resume_without_a_folder_takes_the_newest_run_and_scores_anew_when_asked(
    book_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    begin = ["--corpus", str(book_file), "--encoder", SMALL, "--batch-size", "16", "--max-steps", "4", "--no-score"]
    for _ in range(2):
        train_bookcorpus.main([*begin, "--eval-every", "2"])
    (tmp_path / "runs" / "bookcorpus-other").mkdir()
    capsys.readouterr()
    train_bookcorpus.main(["--resume"])
    captured = capsys.readouterr()
    assert "resuming runs/bookcorpus-2" in captured.err and "is finished" in captured.out
    run = tmp_path / "runs" / "bookcorpus-2"
    before = steady(run)
    train_bookcorpus.main(["--resume", "--select", "best"])
    assert "the best by the dev score" in (run / "model" / "README.md").read_text() and steady(run) == before
    assert faults.weights(run / "model") == faults.weights(run / "best")
    os.truncate(run / "model" / "modules.json", 3)  # a damaged model is made again
    train_bookcorpus.main(["--resume"])
    verify(run / "model")


def test_doctor_looks_and_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    doctor.main(["--offline"])
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("All is well. The notes are optional (") and "data" in last
    assert [line.split()[1] for line in lines[1:]] == [n for n in doctor.CHECKS if n not in ("index", "hub")]
    assert not any(line.startswith("FAIL") for line in lines) and "steps: loss" in lines[-1]
    assert not list(tmp_path.rglob("*"))  # it leaves nothing
    monkeypatch.setitem(doctor.CHECKS, "memory", lambda: 1 / 0)
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["--offline", "--quick"])
    out = capsys.readouterr().out
    assert stopped.value.code == 1 and "FAIL  memory     ZeroDivisionError" in out
    assert out.endswith("Not all is well. Fix what failed (memory), and run sentemb doctor again.\n")


@pytest.mark.parametrize(("limit", "why"), [("3", ", because OMP_NUM_THREADS is 3; unset it"), ("8", ""), ("", "")])
def test_doctor_counts_the_threads_that_training_uses(limit, why, monkeypatch):
    used = list[int]()
    monkeypatch.setattr(hardware, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    for name in (*hardware.LAUNCHED, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    hardware.use_threads(None)
    state, text = doctor.devices()
    assert (state == "note") == bool(why) and f"8 cores usable, PyTorch uses {limit or 8} threads{why}" in text
    assert used == [int(limit or 8)]


def test_unreachable_places_are_notes(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for check in (doctor.index, doctor.hub):
        state, text = check()
        assert state == "note" and "cannot be reached" in text and "secret" not in text
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@localhost:what/simple")
    assert doctor.index()[0] == "note" and "secret" not in doctor.index()[1]
