"""In which order things happen when a loss is not finite."""

import json
from pathlib import Path

from tests.helpers import torchrun

ACCEPTED = [
    "set_learning_rate",
    "momentum encoder forward",
    "loss",
    "backward",
    "average_gradients",
    "clip_grad_norm_",
    "unscale_gradients",
    "guard",
    "optimizer.step",
    "scaler.update",
    "objective.update",
    "momentum encoder follows",
    "log.record",
    "any_rank",
]
REJECTED = [
    *ACCEPTED[: ACCEPTED.index("guard") + 1],
    "scaler.update",  # halves its scale; neither the optimiser nor the queue nor the momentum encoder moves
    "nonfinite-step-N.json",
    "evaluate",
    "log.record",
    "any_rank",
    "checkpoint",
]


def test_a_nan_under_fp16_on_two_processes_with_moco_moves_nothing(tmp_path):
    script = Path(__file__).parent / "nan_order.py"
    done = torchrun(str(script), str(tmp_path), cwd=script.parents[2])
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        content = json.loads((tmp_path / f"events-{rank}.json").read_text())
        assert content["events"]["2"] == ACCEPTED
        assert content["events"]["3"] == REJECTED
        assert content["scale"] == 32.0
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r.get("skipped")] == [3]
    assert len(json.loads((tmp_path / "run" / "nonfinite-step-3.json").read_text())["pairs"]) == 16
