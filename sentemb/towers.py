"""Two encoders f and g side by side (Quick-Thoughts, DPR): trained on the two sides of a pair, used as [f; g].

Checkpoints with it load with ``sentemb.load``; its two folders f and g are models of their own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from sentemb.geometry import unit


class Towers(InputModule):
    """Module with two SentenceTransformers of one tokenizer; its embedding is both of theirs, each of unit length.

    Source: Logeswaran & Lee 2018 (arXiv 1803.02893), section 4, and its code (use_norm), for [f; g] at evaluation.
    """

    config_file_name: str = "towers_config.json"

    def __init__(self, f: SentenceTransformer, g: SentenceTransformer) -> None:
        super().__init__()
        self.f, self.g = f, g

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        """That of f; g has the same."""
        return self.f.tokenizer

    @property
    def max_seq_length(self) -> Any:
        """Of f and g, in tokens."""
        return self.f.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: Any) -> None:
        self.f.max_seq_length = self.g.max_seq_length = value

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **more: Any) -> dict[str, Any]:
        """Features of texts, for both."""
        return self.f.preprocess(inputs, prompt=prompt, **more)

    def forward(self, features: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` ``[n, d_f + d_g]``."""
        sides: list[Tensor] = [unit(tower(dict(features))["sentence_embedding"]) for tower in (self.f, self.g)]
        return features | {"sentence_embedding": torch.cat(sides, dim=1)}

    def get_embedding_dimension(self) -> int:
        """Of [f; g]."""
        return sum(int(tower.get_embedding_dimension() or 0) for tower in (self.f, self.g))

    def get_config_dict(self) -> dict[str, Any]:
        """Says what the two folders are."""
        return {"f": "f", "g": "g", "normalise": "each"}

    def save(self, output_path: str, *given: Any, safe_serialization: bool = True, **more: Any) -> None:
        """Write f and g as folders of ``output_path``, each a SentenceTransformer."""
        for name, tower in (("f", self.f), ("g", self.g)):
            tower.save(str(Path(output_path) / name), create_model_card=False)
        self.save_config(output_path)


def towers_of(model: SentenceTransformer) -> list[SentenceTransformer]:
    """[f, g] of a model with two towers, else the model alone."""
    first = next(iter(model), None)
    return [first.f, first.g] if isinstance(first, Towers) else [model]
