"""What is checked and said before the first update."""

import torch
from accelerate import Accelerator

from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder
from sentemb.objectives import NEEDS, OBJECTIVES, Objective
from sentemb.pairs import Pairs
from sentemb.training.config import FitConfig


def _deciding(config: FitConfig, processes: int) -> dict[str, float]:
    """The settings that a run must go on with."""
    names = ("lr", "warmup", "weight_decay", "clip", "seed", "mlm")
    return {name: getattr(config, name) for name in names} | {"global batch": config.batch_size * processes}


def refuse_misfit(objective: Objective, pairs: Pairs, towers: int = 1) -> None:
    """InputError where an objective lacks what it needs of the pairs, or would leave out what they have."""
    name = next((key for key, kind in OBJECTIVES.items() if kind is type(objective)), type(objective).__name__)
    there = {
        "runs": pairs.are_contiguous,
        "labels": pairs.labels is not None,
        "negatives": pairs.num_hard_negatives > 0,
        "targets": True,
    }
    for need in sorted(objective.needs):
        if not there[need]:
            raise InputError(f"objective {name} needs {NEEDS[need]}")
    if pairs.num_hard_negatives and "negatives" not in objective.needs | objective.takes:
        raise InputError(
            f"objective {name} takes no hard negatives, and the pairs have {pairs.num_hard_negatives} each; choose "
            "infonce, hard_negatives or dpr, or leave their columns out (negatives=none)"
        )
    if pairs.labels is not None and "labels" not in objective.needs:
        raise InputError(
            f"objective {name} makes no use of classes; choose supcon or cross_entropy, or leave label= "
            "(of neighbours: classes=) out"
        )
    classes = getattr(objective, "classes", None)
    found = 0 if pairs.labels is None else int(pairs.labels.max(initial=-1)) + 1
    if classes is not None and found > classes:
        raise InputError(f"objective {name} has {classes} classes and the pairs {found}; write {name}:classes={found}")
    if towers > 1 and objective.requires_shared_encoder:
        raise InputError(f"objective {name} keeps what both sides look like in one place; it needs --towers 1")


def describe(
    config: FitConfig, objective: Objective, pairs: Pairs, accelerator: Accelerator, embedder: TrainingEncoder
) -> str:
    """The first log line: what one update sees and computes with, and how long the run is."""
    processes = accelerator.num_processes
    whole = min(config.batch_size * processes, len(pairs))
    each = min(config.batch_size, len(pairs) // processes)
    what = "consecutive sentences" if pairs.are_contiguous else "pairs"
    parts = f" in parts of {config.micro_batch}" if 0 < config.micro_batch < each else ""
    negatives_per_anchor = objective.describe_negatives(whole, pairs.num_hard_negatives, pairs.are_contiguous)
    how = f"attention {embedder.attention}, " if embedder.attention != "none" else ""
    return (
        f"{processes} process(es) on {accelerator.device.type}, precision {accelerator.mixed_precision}, {how}"
        f"{'compiled, ' if config.compile else ''}{torch.get_num_threads()} thread(s); "
        f"batch {each} {what} per process{parts}, {whole} in all, {negatives_per_anchor}; "
        f"{config.steps(len(pairs), processes)} steps over {len(pairs):,} {what}"
    )
