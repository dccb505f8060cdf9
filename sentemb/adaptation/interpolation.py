"""Between the start and a tuned model: the mean of their weights.

Source: Wortsman et al. 2022, arXiv 2109.01903.
"""

import copy

import torch
from sentence_transformers import SentenceTransformer

WEIGHTS = (0.5, 0.25, 0.75)  # of the tuned model, in the order that they are tried in


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


def _between(start: torch.Tensor, tuned: torch.Tensor, weight: float) -> torch.Tensor:
    if not start.is_floating_point():
        return start
    a, b = start.double(), tuned.to(start.device).double()
    return (weight * b + (1 - weight) * a).to(start.dtype)
