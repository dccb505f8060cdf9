"""Models whose embeddings are cut to their first dimensions, as ``SentenceTransformer(path, truncate_dim=64)`` does.

The weights are shared with the model that is cut. Of a model of two towers, [f; g], each tower's embedding is cut.
"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize

from sentemb.encoders.two_tower import Towers, towers_of
from sentemb.errors import InputError
from sentemb.geometry import l2_normalize


def gives_unit_length(model: SentenceTransformer) -> bool:
    """Whether the model brings its embeddings to unit length itself, in PyTorch or within an ONNX graph."""
    last = list(model)[-1]
    return isinstance(last, Normalize) or getattr(last, "normalised", False) is True


def truncated(model: SentenceTransformer, dimension: int) -> SentenceTransformer:
    """A model with the same weights whose ``encode`` gives the first ``dimension`` dimensions.

    Raises:
        InputError: the embeddings (of a tower) have fewer dimensions, or ``dimension`` is below 1.
    """
    available = int(full_size(towers_of(model)[0]).get_embedding_dimension() or 0)
    if not 1 <= dimension <= available:
        raise InputError(
            f"embeddings cannot be cut to {dimension} dimensions, as they have {available}; name 1 to {available}"
        )
    return _with_dimension(model, dimension)


def full_size(model: SentenceTransformer) -> SentenceTransformer:
    """The model without any truncation: itself where there is none, or where it is not a SentenceTransformer."""
    return _with_dimension(model, None) if is_truncated(model) else model


def is_truncated(model: Any) -> bool:
    """Whether a model's embeddings are cut."""
    if not isinstance(model, SentenceTransformer):
        return False
    return any(part.truncate_dim is not None for part in (model, *towers_of(model)))


def cut_rows(model: SentenceTransformer, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings ``[n, d]`` by the full model as ``model`` cuts them."""
    towers = towers_of(model) if is_truncated(model) else []
    if len(towers) == 2:
        width = int(full_size(towers[0]).get_embedding_dimension() or 0)
        sides = ((towers[0], rows[:, :width]), (towers[1], rows[:, width:]))
        cut = [l2_normalize(torch.from_numpy(side[:, : tower.truncate_dim])) for tower, side in sides]
        rows = torch.cat(cut, dim=1).numpy()
    return np.ascontiguousarray(rows[:, : model.truncate_dim]) if towers else rows


def _with_dimension(model: SentenceTransformer, dimension: int | None) -> SentenceTransformer:
    made = copy.copy(model)  # (its modules are those of the model)
    towers = towers_of(model)
    made.truncate_dim = None if len(towers) > 1 else dimension
    if len(towers) > 1:
        first = next(iter(model._modules))
        made._modules = {**model._modules, first: Towers(*(_with_dimension(tower, dimension) for tower in towers))}
    return made
