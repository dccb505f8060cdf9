"""Two encoders f and g side by side (Quick-Thoughts, DPR): trained on the two sides of a pair, used as [f; g].

Checkpoints with it load with ``sentemb.load``; its two folders f and g are models of their own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule, Router
from sentence_transformers.sentence_transformer.modules import WordEmbeddings
from torch import Tensor

from sentemb.encoders.loading import load
from sentemb.errors import InputError
from sentemb.geometry import l2_normalize

OF_G = "g_"  # before the names of g's features, where its texts have another prompt


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
        """Features of texts, for both; without a ``prompt`` each uses its own default; f's features first, then g's."""
        of_f, of_g = (default_prompt(tower) if prompt is None else prompt for tower in (self.f, self.g))
        features = self.f.preprocess(inputs, prompt=of_f or None, **more)
        if of_f == of_g:
            return features
        other = self.g.preprocess(inputs, prompt=of_g or None, **more)
        return features | {OF_G + name: value for name, value in other.items()}

    def forward(self, features: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` ``[n, d_f + d_g]``; where a tower's embeddings are cut, what is left of them."""
        other = {name.removeprefix(OF_G): value for name, value in features.items() if name.startswith(OF_G)}
        shared = {name: value for name, value in features.items() if not name.startswith(OF_G)}
        inputs = ((self.f, shared), (self.g, other or shared))
        sides: list[Tensor] = [
            l2_normalize(tower(dict(tower_features))["sentence_embedding"][:, : tower.truncate_dim])
            for tower, tower_features in inputs
        ]
        return features | {"sentence_embedding": torch.cat(sides, dim=1)}

    def get_embedding_dimension(self) -> int:
        """Of [f; g]."""
        return sum(int(tower.get_embedding_dimension() or 0) for tower in (self.f, self.g))

    def get_config_dict(self) -> dict[str, Any]:
        """Says what the two folders are."""
        return {"f": "f", "g": "g", "normalise": "each"}

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **more: Any) -> "Towers":  # type: ignore[override]
        """The module in a folder, for ``SentenceTransformer(path, trust_remote_code=True)``; ``more`` as it passes it.

        f and g are read as ``sentemb.load`` reads them: no code of theirs runs.
        """
        names = [str(Path(subfolder, name)) for name in "fg"]
        for name in names:
            if Path(model_name_or_path).is_dir() and not Path(model_name_or_path, name).is_dir():
                raise InputError(f"{Path(model_name_or_path, name)} is missing; copy the folder again")
        where = {key: more[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in more}
        folders = [cls.load_dir_path(model_name_or_path, name, **where) for name in names]
        return cls(*(load(str(folder), device="cpu") for folder in folders))

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **more: Any) -> None:
        """Write f and g as folders of ``output_path``, each a SentenceTransformer."""
        for name, tower in (("f", self.f), ("g", self.g)):
            tower.save(str(Path(output_path) / name), create_model_card=False)
        self.save_config(output_path)


def default_prompt(model: SentenceTransformer) -> str:
    """The prompt that ``encode`` puts before each text; "" for none."""
    return (model.prompts.get(model.default_prompt_name) or "") if model.default_prompt_name is not None else ""


def towers_of(model: SentenceTransformer) -> list[SentenceTransformer]:
    """[f, g] of a model with two towers, else the model alone."""
    first = next(iter(model), None)
    return [first.f, first.g] if isinstance(first, Towers) else [model]


def as_router(model: SentenceTransformer) -> SentenceTransformer | None:
    """A model with two towers as one of the stock Router, which sentence-transformers loads without sentemb.

    ``encode_query`` is then f's ``encode`` and ``encode_document`` g's, prompts included. ``encode`` alone is g's, as
    that library has it. Both towers' weights are shared, not copied.

    Returns:
        None where there is one encoder; where a module of a tower (such as a GRU) belongs to sentemb; or where
        towers begin with WordEmbeddings, as LSTMs do: its tokenizer refuses the task that the Router of
        sentence-transformers 6.2 passes to it.
    """
    towers = towers_of(model)
    parts = [part for tower in towers for part in tower]
    stock = all(type(part).__module__.startswith("sentence_transformers.") for part in parts)
    if len(towers) < 2 or not stock or any(isinstance(part, WordEmbeddings) for part in parts):
        return None
    f, g = towers
    prompts = {"query": default_prompt(f), "document": default_prompt(g)}
    return SentenceTransformer(
        modules=[Router.for_query_document(query_modules=list(f), document_modules=list(g))],  # type: ignore[arg-type]
        device=str(model.device),  # (left out, the towers would move to the best device)
        prompts=prompts,
        default_prompt_name="document" if prompts["document"] else None,
        similarity_fn_name=model.similarity_fn_name,
    )
