"""Maps of finished embeddings that need no training: whitening, and removing the strongest directions.

Each is a stock Dense module at the end of the model. Sources: Su et al. 2021 (whitening, arXiv 2103.15316); Mu &
Viswanath 2018 (all-but-the-top, arXiv 1702.01417).
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import nn

from sentemb.encoders import gives_unit_length
from sentemb.geometry import principal_directions

POWERS = (0.25, 0.5, 1.0)  # of whitening; 1 gives each direction the same variance
REMOVED = (0, 1, 4)  # strongest directions; 0: the mean alone is removed
LEAST = 1e-6  # of the largest variance: a smaller one is not made larger


@dataclass(frozen=True)
class LinearMap:
    """``y = (x - mean) @ matrix``."""

    name: str  # "power 0.5"
    mean: NDArray[np.float64]  # [d]
    matrix: NDArray[np.float64]  # [d, d], symmetric

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The rows ``[n, d]`` mapped, float32."""
        return ((np.asarray(rows, dtype=np.float64) - self.mean) @ self.matrix).astype(np.float32)


def linear_maps(rows: np.ndarray) -> list[LinearMap]:
    """The maps that embeddings ``[n, d]`` of sentences suggest.

    Whitening needs as many variances as there are dimensions: of fewer than 2 d rows only directions are removed.
    """
    rows = np.asarray(rows, dtype=np.float64)
    mean, dimension = rows.mean(axis=0), rows.shape[1]
    covariance = np.cov(rows, rowvar=False, bias=True)
    directions = principal_directions(covariance, dimension)  # [d, d], the strongest first
    maps = []
    for count in REMOVED:
        top = directions[:, :count]
        maps.append(LinearMap(f"{count} removed" if count else "centred", mean, np.eye(dimension) - top @ top.T))
    if len(rows) < 2 * dimension:
        return maps
    variances = ((rows - mean) @ directions).var(axis=0)
    variances = np.maximum(variances / variances.max(), LEAST)
    for power in POWERS:
        matrix = (directions * variances ** (-power / 2)) @ directions.T
        maps.append(LinearMap(f"power {power:g}", mean, matrix))
    return maps


def with_map(model: SentenceTransformer, linear: LinearMap) -> SentenceTransformer:
    """A copy of the model with the map as a Dense module at its end, before a last Normalize if it has one.

    The map applies to the model's embeddings as ``encode`` returns them, so that a model that ends with Normalize keeps
    it and gets a second one.
    """
    modules = [*copy.deepcopy(model)]
    weight = torch.from_numpy(linear.matrix.T.copy()).float()
    bias = torch.from_numpy(-linear.mean @ linear.matrix).float()
    dense = Dense(
        len(linear.mean), len(linear.mean), activation_function=nn.Identity(), init_weight=weight, init_bias=bias
    )
    ends = [Normalize()] if gives_unit_length(model) else []
    made = SentenceTransformer(
        modules=[*modules, dense, *ends],
        device=str(model.device),
        prompts=dict(model.prompts),  # type: ignore[arg-type]  # (None is a prompt, too)
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )
    return made.eval()
