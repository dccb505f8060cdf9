"""OUT/config.json: everything that is needed to repeat a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer

from sentemb.corpus import CleaningResult, Corpus
from sentemb.encoders import Prompts
from sentemb.program import command_line
from sentemb.runs import PREFIXES, RunFolder
from sentemb.storage import write_text
from sentemb.versions import versions_of

PACKAGES = (
    "torch",
    "sentence-transformers",
    "transformers",
    "scikit-learn",
    "numpy",
    "accelerate",
    "datasets",
    "sentemb",
)


@dataclass(frozen=True)
class RunDescription:
    """The facts of a run that its settings do not say."""

    text: str  # the first line: what one update sees and computes with
    steps: int
    smallest_batch: int  # pairs of an epoch's last update, at least
    global_batch: int  # pairs of an update on all processes
    pairs: int
    cleaned: CleaningResult | None
    prompts: Prompts
    retrieval: dict[str, str]  # how held-out pairs are ranked
    teacher: dict[str, Any] | None  # whose embeddings are learned from, and what they are
    guide: dict[str, Any] | None  # whose embeddings say which candidates are not negatives
    negatives: dict[str, Any] | None = None  # what has found hard negatives, and how many there are not
    prefixes: Sequence[int] = ()  # lengths that embeddings can be cut to


def write_config(
    out: Path,
    settings: Mapping[str, Any],
    description: RunDescription,
    corpus: Corpus,
    model: SentenceTransformer,
    accelerator: Accelerator,
    begun: Mapping[str, Any],
) -> None:
    """Write the file; ``begun`` is what it holds of a run that is continued."""
    command = command_line()
    content = {
        "settings": dict(settings),
        "command": begun.get("command", command),
        **({"resumed": [*begun.get("resumed", []), command]} if begun else {}),
        "description": description.text,
        "steps": description.steps,
        "least": description.smallest_batch,
        "global_batch": description.global_batch,
        "first_batch_size": begun.get("first_batch_size", begun.get("settings", settings).get("batch_size")),
        "prompts": asdict(description.prompts),
        "retrieval": description.retrieval,
        "teacher": description.teacher,
        "guide": description.guide,
        "negatives": description.negatives,
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "documents": len(corpus.documents) - 1,
            "sentences": len(corpus),
            "pairs": description.pairs,
            "least_held_out": corpus.least_held_out,
            "notes": list(corpus.notes),
            "dropped": description.cleaned.dropped if description.cleaned else None,
        },
        "encoder": {
            "dimension": model.get_embedding_dimension(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
        **({PREFIXES: list(description.prefixes)} if description.prefixes else {}),
        "world_size": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "device": accelerator.device.type,
        "threads": torch.get_num_threads(),
        "versions": versions_of([*PACKAGES, *(["peft"] if settings.get("lora") else [])]),
    }
    write_text(RunFolder(out).config, json.dumps(content, indent=2) + "\n")
