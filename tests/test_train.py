"""The loop: exact global gradients, one seed one run, resume, an honest log, and clear stops."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb import checkpoint
from sentemb.corpus import open_corpus
from sentemb.encoders import load, tokenizer_of
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import neighbours, usable
from sentemb.registry import InputError, build
from sentemb.train import FitConfig, describe, fit
from tests.two_processes import gradients, hash_of

HERE = Path(__file__).parent


def torchrun(*command: str, cwd: Path, timeout: int = 300) -> subprocess.CompletedProcess:
    # accelerate launch --cpu --num_processes 2 starts one process; this starts two
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {k: v for k, v in os.environ.items() if k != "ACCELERATE_USE_CPU"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*runner, *command], cwd=cwd, env=environment, timeout=timeout, capture_output=True, text=True
    )


CASES = [
    "rnn:hidden=6|infonce",
    "rnn:hidden=6,embeddings=random,dim=5,vocabulary=270|infonce:symmetric=yes",
    "rnn:hidden=6,cell=gru,layers=2,pooling=max|align_uniform",
    "static:embeddings=random,dim=5,vocabulary=270|mix:align=1,uniform=0.5",
    "transformer|infonce",
]


def test_two_processes_have_the_gradients_of_one_on_the_joined_batch(tmp_path):
    done = torchrun(str(HERE / "two_processes.py"), str(tmp_path), *CASES, cwd=HERE.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        encoder, objective = case.split("|")
        two = torch.load(tmp_path / f"{hash_of(case)}.pt")
        one = gradients(encoder, objective, None)
        assert two["world"] == 2 and set(two["gradients"]) == set(one)
        whole = torch.stack([slope.norm() for slope in one.values()]).norm()
        for name, expected in one.items():  # (a key's bias has gradient 0: softmax does not see it)
            error = (two["gradients"][name] - expected).norm() / expected.norm().clamp_min(1e-9 * whole)
            assert error < 1e-5, (case, name, float(error))
            assert expected.dtype == torch.float64


@pytest.fixture
def job(book_file, encoder, tmp_path, monkeypatch):
    """Runs fit() on the little corpus, in a new folder each time unless told which; returns its folder."""
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus(str(book_file), progress=False)

    def run(name: str, spec: str = "rnn:hidden=6", objective: str = "infonce", resume=False, score=None, **settings):
        model = encoder(spec)
        tokens = corpus.tokens(tokenizer_of(model), 12)
        pairs = usable(neighbours(corpus.split()[0]), tokens.ids, tokens.offsets)
        config = FitConfig(**{"batch_size": 16, "lr": 1e-2, "warmup": 3, "log_every": 2} | settings)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        made = build(OBJECTIVES, objective)
        fit(model, made, pairs, tokens, config, Accelerator(cpu=True), folder, score=score, resume=resume)
        model.save(str(folder / "model"), create_model_card=False)
        return folder

    return run


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


VARIES = {"seconds", "pairs_per_second", "peak_memory_mib"}


def steady(run: Path) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in VARIES} for record in records(run)]


@pytest.mark.parametrize("spec", ["rnn:hidden=6", "static:embeddings=random,dim=6,vocabulary=270", "transformer"])
def test_one_seed_one_log_and_resume_continues_it_exactly(spec, job):
    settings = dict(spec=spec, max_steps=11, save_every=4, lr=1e-3)
    straight, again = job("a", **settings), job("b", **settings)
    assert steady(straight) == steady(again)
    cut = job("c", **settings)
    for step in (8, 11):  # as if killed after step 4, while the log already had more
        (cut / "checkpoints" / f"step-{step}").rename(cut / f"lost-{step}")
    with (cut / "log.jsonl").open("a") as log:
        log.write('{"step": 12, "lo')
    resumed = job("c", resume=True, **settings)
    assert steady(resumed) == steady(straight)
    texts = ["the king sees the cat number 3.", "hello"]
    assert np.array_equal(load(resumed).encode(texts), load(straight).encode(texts))


def test_every_checkpoint_is_a_model_and_nothing_half_written_stays(job):
    run = job("a", max_steps=6, save_every=3)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-3", "step-6"]
    assert np.array_equal(load(run / "checkpoints" / "step-6").encode("hello"), load(run / "model").encode("hello"))
    assert checkpoint.newest(run) == run / "checkpoints" / "step-6"


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path):
    checkpoint.write_whole(tmp_path / "step-1", lambda folder: (folder / "a").write_text("whole"))

    def fail(folder):
        (folder / "a").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoint.write_whole(tmp_path / "step-1", fail)
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
    run = job("a", max_steps=3)
    assert torch.equal(load(run)[0].emb_layer.weight, encoder("rnn:hidden=6")[0].emb_layer.weight)


def test_a_diverging_run_stops_with_its_step(job, monkeypatch):
    monkeypatch.setattr(FitConfig, "lr_at", lambda self, step, steps: math.inf)
    with pytest.raises(FloatingPointError, match="step 2: .*try a lower --lr"):
        job("a", max_steps=5)


def test_steps_and_learning_rate():
    assert FitConfig(batch_size=10).steps(105, 1) == 11  # ten full ones and one of five
    assert FitConfig(batch_size=10, epochs=2).steps(105, 2) == 12
    assert FitConfig(batch_size=10, max_steps=99).steps(105, 1) == 99  # as many epochs as that takes
    assert FitConfig(batch_size=10, max_steps=99, epochs=1).steps(105, 1) == 11
    rates = [FitConfig(lr=1, warmup=4).lr_at(step, 10) for step in range(1, 11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 1}, {"lr": 0}, {"lr": math.nan}, {"epochs": 0}, {"warmup": -1}, {"max_steps": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)).replace("_", "-")):
        FitConfig(**wrong)


def test_the_first_line_says_what_one_update_sees():
    said = describe(FitConfig(batch_size=32), build(OBJECTIVES, "infonce"), 1000, Accelerator(cpu=True))
    assert "1 process(es) on cpu" in said and "31 in-batch negatives" in said and "32 steps over 1,000 pairs" in said
