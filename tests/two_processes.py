"""Run by tests under torch.distributed.run: three updates by the loop's own gradients, on two or three processes.

Arguments: a folder, and cases `encoder|objective`, each with any of `|guide`, `|runs` (pairs from runs of sentences),
`|micro=2` (pairs a part) and LoRA's options.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sentemb.encoders import ENCODERS, LoraAdapters, parse_lora
from sentemb.forward import TrainingEncoder
from sentemb.objectives import Matryoshka, build_objective
from sentemb.registry import build
from sentemb.runs import parse_prefixes
from sentemb.training import TrainingSettings
from sentemb.training.data import Batch
from sentemb.training.distributed import average_gradients, refuse_drift
from sentemb.training.momentum_encoder import MomentumEncoder
from sentemb.training.step import BatchEncoder, backward

GPU = os.environ.get("SENTEMB_TEST_DEVICE", "cpu") != "cpu"  # (a script sees no package of tests)
SIZES = (8, 8, 7)  # pairs of the three batches; the last one is smaller, and two processes share it unevenly
SENTENCES = 60
TEACHER = 7  # dimensions of the teacher's embeddings
GUIDE = 5  # and of the guide's
PREFIXED = "matryoshka="  # what an option of a case begins with


def batch_of(
    number: int,
    objective: str,
    part: slice,
    counts: tuple[int, ...] | None = None,
    guided: bool = False,
    width: int = TEACHER,
    as_runs: bool = False,
) -> Batch:
    """The number-th batch's pairs of ``part``, with what the objective needs; the first two of each are copies.

    ``as_runs``: of neighbours in runs, also for an objective of pairs.
    """
    rng = np.random.default_rng(number)
    rows = [np.arange(3, 4 + int(length)) + int(shift) for length, shift in rng.integers(0, 9, (SENTENCES, 2))]
    made = build_objective(objective)
    runs, k = as_runs or "runs" in made.needs, 3 if "negatives" in made.needs else 2
    ids = torch.from_numpy(rng.permutation(SENTENCES)[: SIZES[number] * k].reshape(-1, k))
    ids[1] = ids[0]
    teacher = None
    if "teacher" in made.needs:
        sides = ids[part, : 1 if runs else 2]
        teacher = torch.from_numpy(rng.standard_normal((SENTENCES, width)))[sides]
    guide = torch.from_numpy(rng.standard_normal((SENTENCES, GUIDE))) if guided else None
    if runs:
        positions = torch.arange(SIZES[number]) + (torch.arange(SIZES[number]) > 2)
        column = [rows[i] for i in ids[part, 0]]
        rows_of_guide = None if guide is None else guide[ids[part, :1]]
        return Batch(
            [column], ids[part, :1], positions[part], teacher=teacher, pairs_per_rank=counts, guide=rows_of_guide
        )
    labels = torch.arange(SIZES[number]) % 3 if "labels" in made.needs else None
    columns = [[rows[i] for i in column] for column in ids[part].T]
    labels = None if labels is None else labels[part]
    rows_of_guide = None if guide is None else guide[ids[part]]
    return Batch(columns, ids[part], labels=labels, teacher=teacher, pairs_per_rank=counts, guide=rows_of_guide)


def trained(
    encoder: str,
    objective: str,
    accelerator: Accelerator,
    micro_batch: int = 0,
    guided: bool = False,
    lora: str = "",
    as_runs: bool = False,
    matryoshka: str = "",
) -> dict[str, Any]:
    """Losses of three updates, gradients of the last one, and what the objective remembers after it.

    ``guided``: with a guide, whose share of masked negatives comes in addition. ``matryoshka``: prefixes that the
    objective is applied to.
    """
    torch.manual_seed(0)
    model = build(ENCODERS, encoder, "encoder", texts=lambda: ["a few words, and a few more"], max_length=16).double()
    for name, weight in model.named_parameters():
        weight.requires_grad_("pooler" not in name)
    if lora:
        LoraAdapters(model, parse_lora(lora))
        model.double()
    model.eval()  # no dropout: its masks differ between processes
    world, rank = accelerator.num_processes, accelerator.process_index
    embedder, made = TrainingEncoder(model), build_objective(objective)
    if matryoshka:
        made = Matryoshka(made, parse_prefixes(matryoshka))
    width = embedder.dimension if any(term.teacher_is_start for term in made.terms()) else TEACHER
    made.teacher_dimension = width if "teacher" in made.needs else 0
    made.guide_dimension = GUIDE if guided else 0
    made.prepare(embedder.dimension, SENTENCES)
    made.double()
    momentum_encoder = MomentumEncoder(embedder).to(accelerator.device) if "targets" in made.needs else None
    prepared: torch.nn.Module = accelerator.prepare(embedder)
    weights = {name: p for module in (model, made) for name, p in module.named_parameters()}
    losses, shares = [], []
    batch_encoder = BatchEncoder(prepared, accelerator, TrainingSettings(), momentum_encoder)
    for number, size in enumerate(SIZES):
        prepared.zero_grad()
        made.zero_grad()
        bounds = [each * size // world for each in range(world + 1)]
        counts = tuple(np.diff(bounds).tolist())
        batch = batch_of(number, objective, slice(bounds[rank], bounds[rank + 1]), counts, guided, width, as_runs)
        update = backward(batch_encoder, made, batch, number + 1, micro_batch)
        average_gradients(made, accelerator)
        losses.append(update.loss)
        if update.objective_inputs is not None and update.objective_inputs[2].guide is not None:
            shares.append(update.objective_inputs[2].guide.counts.share)
        with torch.no_grad():
            for weight in weights.values():
                if weight.grad is not None:
                    weight -= 0.05 * weight.grad
        if update.objective_inputs is not None:
            made.update(*update.objective_inputs)
        if momentum_encoder:
            momentum_encoder.follow(embedder, 0.5)
    for module in filter(None, (made, momentum_encoder)):
        refuse_drift(module, accelerator)
    return {
        "world": world,
        "losses": losses,
        "shares": shares,
        "gradients": {name: weight.grad for name, weight in weights.items() if weight.grad is not None},
        "state": made.state_dict(),
    }


def trained_by(case: str, accelerator: Accelerator) -> dict[str, Any]:
    """:func:`trained` by the options of a case."""
    encoder, objective, *more = case.split("|")
    micro_batch = sum(int(option.removeprefix("micro=")) for option in more if option.startswith("micro="))
    prefixes = "".join(option.removeprefix(PREFIXED) for option in more if option.startswith(PREFIXED))
    others = ("guide", "runs")
    lora = "".join(o for o in more if o not in others and not o.startswith(("micro=", PREFIXED)))
    return trained(encoder, objective, accelerator, micro_batch, "guide" in more, lora, "runs" in more, prefixes)


def main() -> None:
    accelerator = Accelerator(cpu=not GPU)
    assert accelerator.num_processes == int(os.environ["WORLD_SIZE"]) > 1, f"world size {accelerator.num_processes}"
    for case in sys.argv[2:]:
        case_results = trained_by(case, accelerator)
        if accelerator.is_main_process:
            torch.save(case_results, Path(sys.argv[1]) / f"{hash_of(case)}.pt")
    drifted = torch.nn.Linear(2, 2).to(accelerator.device)
    torch.nn.init.constant_(drifted.weight, accelerator.process_index)
    try:
        refuse_drift(drifted, accelerator)
    except RuntimeError as error:
        assert "differs between processes" in str(error)
    else:
        raise AssertionError("a drift between processes was not seen")
    accelerator.end_training()


def hash_of(case: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in case)


if __name__ == "__main__":
    main()
