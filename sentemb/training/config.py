"""The settings of a training run, and what follows from them."""

import math
from dataclasses import dataclass

from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.training.samplers import EpochLayout


@dataclass(frozen=True)
class FitConfig:
    """How to train: everything the result depends on besides model, objective, pairs and number of processes."""

    epochs: int | None = None  # None: one, or as many as max_steps needs
    max_steps: int | None = None  # stop here at the latest
    batch_size: int = 256  # pairs per process
    lr: float = 1e-3  # highest learning rate of AdamW, reached after the warm-up, then falling linearly to 0
    warmup: int = 100  # steps
    weight_decay: float = 0.0
    clip: float = 1.0  # greatest gradient norm
    seed: int = 0
    log_every: int = 10  # steps
    eval_every: int = 0  # steps between held-out scores; 0: at the first and the last step only
    save_every: int = 0  # steps between checkpoints; 0: none
    keep: int = 2  # newest checkpoints that are kept; 0: all
    on_nan: str = "stop"  # or skip: what a step does whose loss or gradient is not finite
    least: int = 0  # pairs of the smallest update, an epoch's last; 0: two a process
    micro_batch: int = 0  # pairs encoded at a time, to hold a large batch in little memory; 0: all
    mlm: float = 0.0  # weight of masked-language modelling beside the objective
    compile: bool = False  # torch.compile the forward and backward
    workers: int = 0  # processes that make batches ahead; 0: they are made in between

    def __post_init__(self) -> None:
        least = {"epochs": 1, "max_steps": 1, "batch_size": 2, "log_every": 1}
        least |= dict.fromkeys(
            ("warmup", "weight_decay", "eval_every", "save_every", "keep", "micro_batch", "mlm", "seed", "workers"), 0
        )
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and not value >= bound:
                raise InputError(f"{name.replace('_', '-')} must be at least {bound}, got {value}")
        choose("on-nan", self.on_nan, ("stop", "skip"))
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2^32, got {self.seed}")
        for name in ("lr", "clip"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise InputError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("weight_decay", "mlm"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"{name.replace('_', '-')} must be a number, got {getattr(self, name)}")

    def steps(self, pairs: int, processes: int) -> int:
        """Updates of the whole run over ``pairs`` pairs; InputError if they are too few for one."""
        epoch = len(EpochLayout(pairs, self.batch_size, processes, self.least))
        if not epoch:
            raise InputError(f"{pairs} usable pair(s) are too few to train on; each of {processes} process(es) needs 2")
        if self.max_steps is None:
            return epoch * (self.epochs or 1)
        return self.max_steps if self.epochs is None else min(self.max_steps, epoch * self.epochs)

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of update number ``step`` (1, 2, ...) of ``steps``."""
        if step <= self.warmup:
            return self.lr * step / self.warmup
        return self.lr * (steps - step + 1) / max(1, steps - self.warmup)
