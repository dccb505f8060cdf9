"""Between the start and a tuned model: the mean of their weights.

Source: Wortsman et al. 2022, arXiv 2109.01903.
"""

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from sentence_transformers import SentenceTransformer

WEIGHTS = (0.5, 0.25, 0.75)  # of the tuned model, in the order that they are tried in
SCORED_WEIGHTS = len(WEIGHTS) + 1  # with the refined one
TARGET = 0.9  # of the allowed loss, at which the refined weight aims
SMALLEST_STEP = 0.05  # a refined weight is at least so far from the weights that were tried


def interpolated(start: SentenceTransformer, tuned: SentenceTransformer, weight: float) -> SentenceTransformer:
    """A new model whose weights are ``weight * tuned + (1 - weight) * start``; 0 is the start, and 1 the tuned one.

    What is not a floating-point number (positions, counts) is the start's.

    Raises:
        ValueError: the models have not the same weights, or ``weight`` is not between 0 and 1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie between 0 and 1, got {weight}")
    made = copy.deepcopy(start)
    first, second = start.state_dict(), tuned.state_dict()
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        raise ValueError("the two models do not have the same weights")
    made.load_state_dict({name: _between(first[name], second[name], weight) for name in first})
    return made.eval()


def refined_weight(losses: Mapping[float, float], allowed: float) -> float | None:
    """The weight at which the loss comes near the allowed one, by a line between the two weights around it.

    Args:
        losses: points of general quality that are lost, by weight; without 0, which loses nothing.
        allowed: points that may be lost.

    Returns:
        A weight of two decimals; None: the tuned model loses no more than is allowed, or nothing lies between.
    """
    points = sorted(({0.0: 0.0} | dict(losses)).items())
    for (low, before), (high, after) in pairwise(points):
        if before <= allowed < after:
            weight = round(low + (high - low) * max(0.0, TARGET * allowed - before) / (after - before), 2)
            return weight if min(weight - low, high - weight) >= SMALLEST_STEP else None
    return None


def _between(start: torch.Tensor, tuned: torch.Tensor, weight: float) -> torch.Tensor:
    if not start.is_floating_point():
        return start
    a, b = start.double(), tuned.to(start.device).double()
    return (weight * b + (1 - weight) * a).to(start.dtype)
