"""Run by test_train under torch.distributed.run: one update's gradients over the global batch, on two processes."""

import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from sentemb.encoders import ENCODERS
from sentemb.forward import Embedder, collate
from sentemb.objectives import OBJECTIVES
from sentemb.registry import build
from sentemb.train import gather

ROWS = [np.arange(3, 3 + 1 + i * 7 % 9) for i in range(16)]  # token rows of several lengths: 8 pairs


def gradients(encoder: str, objective: str, accelerator: Accelerator | None) -> dict[str, torch.Tensor]:
    """Gradients of every trained parameter, on this process' rows of the 8 pairs (all of them without accelerator)."""
    torch.manual_seed(0)
    model = build(ENCODERS, encoder, "encoder", texts=lambda: ["a few words, and a few more"], max_length=16).double()
    for name, weight in model.named_parameters():
        weight.requires_grad_("pooler" not in name)
    model.eval()  # no dropout
    world, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    mine = [ROWS[i] for i in range(rank, 8, world)] + [ROWS[8 + i] for i in range(rank, 8, world)]
    embedder: torch.nn.Module = Embedder(model)
    if accelerator:
        embedder = accelerator.prepare(embedder)
    x, y = (gather(view) for view in embedder(collate(model, mine)).chunk(2))
    loss = build(OBJECTIVES, objective)(x, y)
    accelerator.backward(loss) if accelerator else loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def main() -> None:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2, f"world size {accelerator.num_processes}"
    for case in sys.argv[2:]:
        encoder, objective = case.split("|")
        found = gradients(encoder, objective, accelerator)
        if accelerator.is_main_process:
            torch.save(
                {"world": accelerator.num_processes, "gradients": found}, Path(sys.argv[1]) / f"{hash_of(case)}.pt"
            )
    accelerator.end_training()


def hash_of(case: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in case)


if __name__ == "__main__":
    main()
