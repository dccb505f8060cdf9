"""The settings of training: everything its result depends on, besides model, objective, pairs and processes."""

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
    max_steps: int | None = setting(None, "stop after so many updates at the latest", at_least=1, may_change=True)
    batch_size: int = setting(256, "pairs per process; all other pairs of the global batch are negatives", at_least=2)
    micro_batch: int = setting(
        0,
        "encode so many pairs at a time: the same gradient in less memory; 0: all at once",
        at_least=0,
        may_change=True,
    )
    lr: float = setting(1e-3, "highest learning rate", above=0)
    warmup: float = setting(
        0.1,
        "updates over which the learning rate rises linearly, before --schedule: below 1 a share of the run, else "
        "their number",
        at_least=0,
    )
    schedule: str = setting(
        "linear",
        "what the learning rate does after the warm-up: constant, or it falls to 0 in a line (linear) or as half a "
        "cosine wave (cosine)",
        choices=("constant", "linear", "cosine"),
    )
    optimizer: str = setting(
        "adamw",
        "adamw:beta1=0.9,beta2=0.999,eps=1e-8 | adam (the same options; weight decay as a part of the gradient) | "
        "sgd:momentum=0.9",
    )
    weight_decay: float = setting(0.0, "of the optimiser, on all weights that are trained", at_least=0)
    clip: float = setting(1.0, "greatest gradient norm", above=0)
    mlm: float = setting(
        0.0, "weight of masked-language modelling beside the objective (transformers; SimCSE: 0.1)", at_least=0
    )
    seed: int = setting(0, "of weights, order and dropout", at_least=0, below=2**32)
    log_every: int = setting(10, "updates between records of log.jsonl", at_least=1, may_change=True)
    eval_every: int = setting(
        100, "updates between held-out scores, last/ and best/; 0: first and last only", at_least=0, may_change=True
    )
    save_every: int = setting(
        500, "updates between checkpoints to resume from, and one at the end; 0: none", at_least=0, may_change=True
    )
    keep: int = setting(2, "newest checkpoints that stay; 0: all", at_least=0, may_change=True)
    on_nan: str = setting(
        "stop",
        "what an update does whose loss or gradient is not finite: stop the run, or skip it and say so",
        choices=("stop", "skip"),
        may_change=True,
    )
    compile: bool = setting(False, "torch.compile the forward: minutes of compiling first, and no packing")
    smallest_batch: int = 0  # pairs of an epoch's last update, at least, on all processes; 0: two a process (no flag)
    global_batch: int = 0  # pairs of an update on all processes, where they do not divide; 0: as many on each (no flag)
    workers: int = setting(
        0, "processes that make batches ahead; the same batches for any number", at_least=0, may_change=True
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

    def evaluations(self, step: int, steps: int) -> int:
        """How often the model is scored after update ``step``, up to update ``steps``, the last one."""
        if step >= steps:
            return 0
        return 1 + ((steps - 1) // self.eval_every - step // self.eval_every if self.eval_every else 0)

    def saves_at(self, step: int, steps: int) -> bool:
        """Whether a checkpoint is written after update ``step`` of ``steps``."""
        return self.save_every > 0 and (step == steps or step % self.save_every == 0)
