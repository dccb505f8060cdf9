"""Run by test_nonfinite under torch.distributed.run: what happens, in order, when MoCo's loss is NaN under fp16.

No CPU computes in fp16, so the loss scaler alone is real here; tests/training/test_gpu.py trains in fp16.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sentemb.corpus import Tokens
from sentemb.encoders import ENCODERS
from sentemb.forward import TrainingEncoder
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import Pairs
from sentemb.registry import build
from sentemb.training import Evaluation, RunTarget, TrainingData, TrainingSettings, fit, loop
from sentemb.training.checkpoints import Checkpointer
from sentemb.training.evaluator import Evaluator
from sentemb.training.log import RunLog
from sentemb.training.momentum_encoder import MomentumEncoder
from sentemb.training.nonfinite import NonFiniteGuard

STEPS, NAN_STEP = 4, 3


class Events:
    """The names of what is called, in order, and under which update."""

    def __init__(self) -> None:
        self.names: dict[int, list[str]] = {step: [] for step in range(STEPS + 1)}
        self.step = 0

    def watch(self, owner: Any, name: str, event: str | None = None) -> None:
        """Note each call of ``owner.name``."""
        before = getattr(owner, name)

        def called(*arguments: Any, **more: Any) -> Any:
            if name == "set_learning_rate":
                self.step = arguments[2]
            self.names[self.step].append(event or name)
            return before(*arguments, **more)

        setattr(owner, name, called)


def main() -> None:
    folder, events = Path(sys.argv[1]), Events()
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)

    def unscale() -> None:  # as accelerate does it under fp16, when it clips
        accelerator.scaler.unscale_(accelerator._optimizers[-1].optimizer)

    accelerator.unscale_gradients = unscale  # type: ignore[method-assign]

    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(3, 9, 64).cumsum()])
    tokens = Tokens(rng.integers(3, 90, offsets[-1]).astype(np.uint16), offsets)
    torch.manual_seed(0)
    texts = ["a few words, and a few more of them"]
    model = build(
        ENCODERS, "static:embeddings=random,dim=6,vocabulary=90", "encoder", texts=lambda: texts, max_length=9
    )
    objective = build(OBJECTIVES, "moco:queue=24,momentum=0.9")
    loss = objective.loss

    def nan_at_step(*arguments: Any) -> Any:
        return loss(*arguments) * (math.nan if events.step == NAN_STEP else 1.0)

    objective.loss = nan_at_step
    for owner, name, event in (
        (loop, "set_learning_rate", None),
        (MomentumEncoder, "forward", "momentum encoder forward"),
        (objective, "forward", "loss"),
        (accelerator, "backward", None),
        (loop, "average_gradients", None),
        (accelerator, "unscale_gradients", None),
        (accelerator, "clip_grad_norm_", None),
        (NonFiniteGuard, "accepts", "guard"),
        (NonFiniteGuard, "_write_batch", "nonfinite-step-N.json"),
        (accelerator.scaler, "update", "scaler.update"),
        (torch.optim.AdamW, "step", "optimizer.step"),
        (objective, "update", "objective.update"),
        (MomentumEncoder, "follow", "momentum encoder follows"),
        (Evaluator, "evaluate", None),
        (RunLog, "record", "log.record"),
        (loop, "any_rank", None),
        (Checkpointer, "save", "checkpoint"),
    ):
        events.watch(owner, name, event)
    settings = TrainingSettings(
        max_steps=STEPS, batch_size=8, warmup=0, log_every=1, eval_every=3, save_every=3, on_nan="skip"
    )
    data = TrainingData(Pairs(np.arange(64).reshape(-1, 2)), tokens)
    target = RunTarget(folder / "run")
    result = fit(TrainingEncoder(model), objective, data, settings, accelerator, target, Evaluation(lambda model: {}))
    assert (result.step, result.interrupted) == (STEPS, False)
    scale = accelerator.scaler.get_scale()
    content = {"events": events.names, "scale": scale}
    (folder / f"events-{accelerator.process_index}.json").write_text(json.dumps(content))
    accelerator.end_training()


if __name__ == "__main__":
    main()
