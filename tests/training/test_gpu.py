"""On a GPU: fp16's scaler, losses as on the CPU, resume; and the parts of benchmarks/gpu.py, tried on the CPU."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import GradScalerKwargs

from benchmarks import gpu
from benchmarks.shapes import OLD
from sentemb.encoders import load
from sentemb.forward.packed import Packing, attend
from sentemb.geometry import l2_normalize, log_sum_exp_both, uniformity
from sentemb.objectives import OBJECTIVES, build_objective
from sentemb.training import loop, nonfinite
from tests.devices import COARSE, HALF, near
from tests.helpers import records
from tests.robustness import faults

ROOT = Path(__file__).parents[2]
SPECS = {
    "static": "static:embeddings=random,dim=16,vocabulary=400",
    "lstm": "rnn:hidden=16,layers=2,embeddings=random,dim=16,vocabulary=400",
    "gru": "rnn:cell=gru,hidden=16,embeddings=random,dim=16,vocabulary=400",
    "transformer": "transformer:name=TINY,dropout=0",
}


def options(device: str) -> argparse.Namespace:
    return argparse.Namespace(device=device, max_length=24, batch_size=32, steps=12)


@pytest.fixture(scope="module")
def text() -> gpu.Text:
    return gpu.Text.of(40)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", SPECS)
def test_a_gpu_trains_as_the_cpu_does(kind, text, tiny, tmp_path):
    spec, models, logs = SPECS[kind].replace("TINY", tiny), {}, {}
    for device in ("cpu", "cuda"):
        models[device] = gpu.Case(spec, "no", options(device), text).fit(tmp_path / device, 12)
        logs[device] = records(tmp_path / device)
    assert [r["batch"] for r in logs["cuda"]] == [r["batch"] for r in logs["cpu"]]
    assert [r["loss"] for r in logs["cuda"]] == near([r["loss"] for r in logs["cpu"]], 10 * COARSE)
    if OLD and kind in ("lstm", "gru"):
        return  # (its encode needs sentence-transformers 6.2)
    embeddings = [models[device].to(device).encode(text.sentences[:50]) for device in ("cpu", "cuda")]
    assert np.abs(embeddings[0] - embeddings[1]).max() < 50 * COARSE


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_run_on_a_gpu_resumes_and_its_model_loads_on_a_cpu(precision, text, tiny, tmp_path):
    spec = SPECS["transformer"].replace("TINY", tiny)
    case = gpu.Case(spec, precision, options("cuda"), text)
    case.fit(tmp_path / "straight", 12, save_every=6)
    case.fit(tmp_path / "cut", 12, save_every=6)
    (tmp_path / "cut" / "checkpoints" / "step-12").rename(tmp_path / "lost")
    model = case.fit(tmp_path / "cut", 12, resume=True, save_every=6)
    straight, cut = records(tmp_path / "straight"), records(tmp_path / "cut")
    assert [r["batch"] for r in cut] == [r["batch"] for r in straight]
    assert [r["loss"] for r in cut] == near([r["loss"] for r in straight], COARSE if precision == "no" else HALF)
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    assert 3 * weights < straight[-1]["peak_memory_mib"] < torch.cuda.mem_get_info()[1] / 2**20  # and AdamW's two
    back = load(tmp_path / "cut" / "checkpoints" / "step-12", device="cpu").encode(text.sentences[:20])
    assert np.abs(back - model.encode(text.sentences[:20])).max() < COARSE


@pytest.mark.gpu
def test_on_a_gpu_what_is_remembered_stands_still_where_fp16_overflows(text, tmp_path, monkeypatch):
    """A scale of 2^60 overflows some updates until it has been halved often enough."""
    made = lambda **more: Accelerator(**more, kwargs_handlers=[GradScalerKwargs(init_scale=2.0**60)])  # noqa: E731
    monkeypatch.setattr("accelerate.Accelerator", made)
    monkeypatch.setattr(nonfinite, "MAX_REJECTED", 100)
    case = gpu.Case(SPECS["lstm"], "fp16", options("cuda"), text, "moco:queue=128,momentum=0.9")
    case.fit(tmp_path / "a", 80, save_every=1, keep=0, log_every=1)
    overflows = {r["step"] for r in records(tmp_path / "a") if r.get("overflow")}
    assert overflows and len(overflows) < 80
    saved = tmp_path / "a" / "checkpoints"
    weights = {
        step: faults.weights(saved / f"step-{step}") for step in range(1, 81)
    }  # queue, momentum encoder, optimiser, too
    assert {step for step in range(2, 81) if weights[step] == weights[step - 1]} == overflows - {1}


PLAIN = [name for name, kind in OBJECTIVES.items() if not kind.needs and not build_objective(name).remembers]


@pytest.fixture
def strict(monkeypatch):
    """Lets anything between update 3 and the last one that makes the host wait for the GPU be an error."""
    before = loop.backward

    def until(last: int) -> None:
        def backward(encoder, objective, batch, step, micro_batch):
            torch.cuda.set_sync_debug_mode("error" if 2 < step < last else "default")
            return before(encoder, objective, batch, step, micro_batch)

        monkeypatch.setattr(loop, "backward", backward)

    yield until
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kind", "objective", "precision"),
    [
        *[(kind, "infonce", precision) for kind in SPECS for precision in ("no", "bf16")],
        *[("static", objective, "no") for objective in PLAIN if objective != "infonce"],
        ("transformer", "infonce:symmetric=true,same_side=true,learn=true", "bf16"),
    ],
)
def test_no_update_waits_for_the_gpu(kind, objective, precision, text, tiny, tmp_path, strict):
    strict(10)
    case = gpu.Case(SPECS[kind].replace("TINY", tiny), precision, options("cuda"), text, objective)
    case.fit(tmp_path / "a", 10, log_every=100)
    assert [r["step"] for r in records(tmp_path / "a")] == [0, 10]


@pytest.mark.gpu
def test_on_a_gpu_an_update_that_is_not_finite_changes_nothing(text, tmp_path, monkeypatch):
    before = loop.backward

    def backward(encoder, objective, batch, step, micro_batch):
        update = before(encoder, objective, batch, step, micro_batch)
        if step in (3, 4):
            for weight in encoder.encoder.parameters():
                weight.grad.fill_(float("nan"))
        return update

    monkeypatch.setattr(loop, "backward", backward)
    case = gpu.Case(SPECS["lstm"], "no", options("cuda"), text)
    case.fit(tmp_path / "a", 6, log_every=100, save_every=2, keep=0, on_nan="skip")
    assert [r["step"] for r in records(tmp_path / "a") if r.get("skipped")] == [3, 4]
    weights = [faults.weights(tmp_path / "a" / "checkpoints" / f"step-{step}") for step in (2, 4, 6)]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_over_rows_of_any_length_is_that_of_each_row(dtype):
    lengths, heads, size = [5, 1, 9, 3], 2, 16
    mask = (torch.arange(9) < torch.tensor(lengths)[:, None]).long().cuda()
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, sum(lengths), size, generator=draw).cuda().to(dtype) for _ in range(3))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    packing = Packing.of(mask, sum(lengths))
    out, _ = attend(torch.nn.Module(), q, k, v, None, packing=packing)
    expected = []
    for row in torch.arange(sum(lengths)).split(lengths):
        of_row = [x[0, :, row.to(x.device)].float() for x in inputs]
        weights = (of_row[0] @ of_row[1].transpose(1, 2) * size**-0.5).softmax(dim=2)
        expected.append((weights @ of_row[2]).transpose(0, 1))
    expected = torch.cat(expected)[None]
    assert out.shape == expected.shape and torch.allclose(out.float(), expected, rtol=HALF, atol=HALF)
    slopes = torch.randn(out.shape, generator=draw).cuda()
    for mine, theirs in zip(
        torch.autograd.grad((out.float() * slopes).sum(), inputs),
        torch.autograd.grad((expected * slopes).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(mine.float(), theirs.float(), rtol=2 * HALF, atol=2 * HALF)
    seeded = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seeded.append(attend(torch.nn.Module(), q, k, v, None, 0.5, packing=packing)[0])
    assert torch.equal(seeded[0], seeded[1]) and not torch.equal(seeded[0], seeded[2])


@pytest.mark.gpu
def test_tiles_as_large_as_a_gpu_s_cache_sum_all_scores():
    x, y = (l2_normalize(torch.randn(n, 24, generator=torch.Generator().manual_seed(n))) for n in (9000, 3000))
    exact = [side.double() for side in (x, y)]
    scores = (exact[0] / 0.1) @ exact[1].T
    over_rows, over_columns = log_sum_exp_both(x.cuda() / 0.1, y.cuda())
    assert torch.allclose(over_rows.cpu().double(), scores.logsumexp(dim=1), rtol=0, atol=COARSE)
    assert torch.allclose(over_columns.cpu().double(), scores.logsumexp(dim=0), rtol=0, atol=COARSE)
    assert uniformity(x.cuda()).item() == near(uniformity(exact[0]).item(), COARSE)


# ---- the parts, without a GPU


@pytest.mark.slow
def test_without_a_gpu_each_part_says_so_and_is_no_failure():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for part in gpu.PARTS:
        done = subprocess.run(["make", "-s", "test-gpu", f"PART={part}", f"PYTHON={sys.executable}"],
                              cwd=ROOT, capture_output=True, text=True, timeout=120)  # fmt: skip
        assert done.returncode == 0 and done.stdout.startswith("skipped: torch "), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "more", "begins"),
    [
        ("train", [], ["train rnn/no: ", "train transformer/bf16: "]),
        ("bench", ["--only", "train"], ["train minilm-bf16: ours ", "train minilm-bf16: sentence-transformers' "]),
        ("bench", ["--only", "loss", "probe", "encode"], ["loss infonce 128: ", "probe MR: ", "encode: ours "]),
        ("profile", [], ["profile minilm: ", "profile lstm: "]),
    ],
)
def test_a_part_does_what_it_does_on_a_gpu_on_the_cpu(part, more, begins, tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", part, "--device", "cpu", "--steps", "12", "--batch-size", "16"]
    command += more
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "SENTEMB_CACHE": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[-1].startswith(f"{part}: ok in ")
    for begin in begins:
        assert any(line.startswith(begin) for line in lines), begin


@pytest.mark.slow
def test_tests_that_need_a_gpu_say_so_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu or gpus",
        "-rs",
        "-p",
        "no:cacheprovider",
        "tests/training/test_gpu.py",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "needs 1 GPU(s); torch sees 0" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_device_that_is_not_there_is_an_error():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "numbers",
        "-p",
        "no:cacheprovider",
        "tests/geometry/test_metrics.py",
    ]
    environment = os.environ | {"SENTEMB_TEST_DEVICE": "xpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4 and "SENTEMB_TEST_DEVICE=xpu cannot be used here" in done.stderr + done.stdout
