"""The settings of training: all that decides its result, except model, objective, pairs and processes."""

from dataclasses import dataclass

from sentemb.errors import InputError
from sentemb.registry import build
from sentemb.settings import check_settings, setting
from sentemb.training.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Each field is a flag of the recipes and a keyword argument of ``sentemb.train``."""

    epochs: int | None = setting(
        None, "passes over all pairs; default 1, or as many as --max-steps needs", at_least=1, may_change=True
    )
    max_steps: int | None = setting(None, "stop after at most this number of updates", at_least=1, may_change=True)
    batch_size: int = setting(256, "pairs per process; all other pairs of the global batch are negatives", at_least=2)
    micro_batch: int = setting(
        0,
        "encode this number of pairs at a time: the same gradient in less memory; 0: all at once",
        at_least=0,
        may_change=True,
    )
    lr: float = setting(1e-3, "highest learning rate", above=0)
    warmup: float = setting(
        0.1,
        "updates over which the learning rate rises linearly, before --schedule; below 1: as a share of the run",
        at_least=0,
    )
    schedule: str = setting(
        "linear",
        "the learning rate after the warm-up: constant, linear (falls to 0 in a line) or cosine (falls to 0 as half a "
        "cosine wave)",
        choices=("constant", "linear", "cosine"),
    )
    optimizer: str = setting(
        "adamw",
        "adamw:beta1=0.9,beta2=0.999,eps=1e-8 | adam (the same options; weight decay as a part of the gradient) | "
        "sgd:momentum=0.9",
    )
    weight_decay: float = setting(0.0, "weight decay of all trained weights", at_least=0)
    clip: float = setting(1.0, "largest gradient norm; larger gradients are scaled down to it", above=0)
    mlm: float = setting(
        0.0, "weight of masked-language modelling in addition to the objective (transformers; SimCSE: 0.1)", at_least=0
    )
    seed: int = setting(0, "seed of weights, order and dropout", at_least=0, below=2**32)
    log_every: int = setting(10, "updates between records of log.jsonl", at_least=1, may_change=True)
    eval_every: int = setting(
        100, "updates between held-out scores, last/ and best/; 0: first and last only", at_least=0, may_change=True
    )
    save_every: int = setting(
        500, "updates between checkpoints for --resume, with one more at the end; 0: none", at_least=0, may_change=True
    )
    keep: int = setting(2, "number of newest checkpoints to keep; 0: all", at_least=0, may_change=True)
    on_nan: str = setting(
        "stop",
        "on a loss or gradient that is not finite: stop the run, or skip the update and print a line",
        choices=("stop", "skip"),
        may_change=True,
    )
    compile: bool = setting(False, "torch.compile the forward: compiles for minutes first, and does not pack")
    smallest_batch: int = 0  # pairs of an epoch's last update, at least, on all processes; 0: two a process (no flag)
    global_batch: int = 0  # pairs of an update on all processes, where they do not divide; 0: as many on each (no flag)
    workers: int = setting(
        0, "processes that prepare batches ahead; any number gives the same batches", at_least=0, may_change=True
    )

    def __post_init__(self) -> None:
        check_settings(self)
        build(OPTIMIZERS, self.optimizer, "optimizer")  # InputError for a wrong name or value
        if self.warmup > 1 and self.warmup != int(self.warmup):
            raise InputError(
                f"warmup must be a share of the run below 1 or a whole number of updates, got {self.warmup}"
            )

    def pairs_per_update(self, processes: int) -> int:
        """Pairs of a full update on all processes together."""
        return self.global_batch or self.batch_size * processes

    def warmup_updates(self, steps: int) -> int:
        """Updates of a run of ``steps`` over which the learning rate rises."""
        return round(self.warmup * steps if self.warmup < 1 else self.warmup)

    def evaluates_at(self, step: int, steps: int) -> bool:
        """Whether the model is scored after update ``step`` of ``steps``."""
        return step == steps or (self.eval_every > 0 and step % self.eval_every == 0)

    def is_due(self, step: int, steps: int) -> bool:
        """Whether update ``step`` of ``steps`` is logged, scored or saved."""
        return self.evaluates_at(step, steps) or self.saves_at(step, steps) or step % self.log_every == 0

    def evaluations(self, step: int, steps: int) -> int:
        """How often the model is scored after update ``step``, up to update ``steps``, the last one."""
        if step >= steps:
            return 0
        return 1 + ((steps - 1) // self.eval_every - step // self.eval_every if self.eval_every else 0)

    def saves_at(self, step: int, steps: int) -> bool:
        """Whether a checkpoint is written after update ``step`` of ``steps``."""
        return self.save_every > 0 and (step == steps or step % self.save_every == 0)
