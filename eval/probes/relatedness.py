"""Relatedness of two sentences by a regressor over five scores. Arrays in, numbers out."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from eval.sts import correlate


@dataclass(frozen=True)
class Regression:
    """A regressor's results: its predictions ``[test rows]`` on the scale of the scores and its best dev Pearson."""

    predicted: np.ndarray
    devpearson: float


@dataclass(frozen=True)
class RegressorSettings:
    """How the regressor is trained; the defaults are SentEval's.

    Args:
        seed: of weights and order, through generators of its own.
        batch_size: rows a step. round_size: passes between two checks of dev Pearson.
        tenacity: stop after this number of failures in all.
        max_epoch: no round starts after this number of passes.
    """

    seed: int = 1111
    batch_size: int = 64
    round_size: int = 50
    tenacity: int = 3
    max_epoch: int = 1000


def regress(
    train: tuple[np.ndarray, np.ndarray],
    dev: tuple[np.ndarray, np.ndarray],
    test: np.ndarray,
    settings: RegressorSettings = RegressorSettings(),
    device: str = "cpu",
) -> Regression:
    """Relatedness as a distribution over the scores 1 to 5 (Tai, Socher & Manning 2015), as SentEval trains it.

    softmax(xW + b), mean squared error to the two neighbouring whole numbers' shares of the score, Adam at 1e-3; after
    each ``round_size`` passes dev Pearson is taken, and the best round counts.

    Args:
        train, dev: features ``[n, d]`` and scores ``[n]``. test: features.
        settings: of its training.
    """
    x, y = (torch.from_numpy(a).to(device, torch.float32) for a in (train[0], encode_scores(train[1])))
    dev_x, test_x = (torch.from_numpy(a).to(device, torch.float32) for a in (dev[0], test))
    order, chance = np.random.RandomState(settings.seed), torch.Generator().manual_seed(settings.seed)
    edge = 1 / math.sqrt(x.shape[1])  # torch's own start of a linear layer, in its order of drawing
    start = torch.nn.init.kaiming_uniform_(torch.empty(5, x.shape[1]), a=math.sqrt(5), generator=chance)
    weight = start.T.contiguous().to(device).requires_grad_()
    bias = torch.empty(5).uniform_(-edge, edge, generator=chance).to(device).requires_grad_()
    optimiser = torch.optim.Adam([weight, bias], fused=True)
    scale = torch.arange(1.0, 6.0, device=device)
    best, best_weights, failures, passes, stop = -1.0, (weight.detach(), bias.detach()), 0, 0, False

    def predict(features: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> np.ndarray:
        return (torch.softmax(features @ w + b, dim=1) @ scale).cpu().numpy().astype(np.float64)

    with torch.no_grad():
        while not stop and passes <= settings.max_epoch:
            for _ in range(settings.round_size):
                rows = torch.from_numpy(order.permutation(len(x))).to(device)
                for part, gold in zip(
                    x[rows].split(settings.batch_size), y[rows].split(settings.batch_size), strict=True
                ):
                    chances = torch.softmax(part @ weight + bias, dim=1)
                    # The gradient of the mean of (p - y)^2, by hand: autograd doubles the time of a step so small.
                    slope = (chances - gold) * (2 / gold.numel())
                    slope = chances * (slope - (slope * chances).sum(dim=1, keepdim=True))
                    weight.grad, bias.grad = part.T @ slope, slope.sum(dim=0)
                    optimiser.step()
            passes += settings.round_size
            dev_pearson = correlate(predict(dev_x, weight, bias), dev[1]).pearson
            if dev_pearson > best:
                best, best_weights = dev_pearson, (weight.detach().clone(), bias.detach().clone())
            else:
                stop, failures = failures >= settings.tenacity, failures + 1
        return Regression(predict(test_x, *best_weights), best)


def encode_scores(scores: np.ndarray) -> np.ndarray:
    """Scores ``[n]`` as shares ``[n, 5]`` of the two whole numbers around them, 1 to 5 (below 1 a part is lost)."""
    floors = np.floor(scores)
    places = np.arange(1, 6)
    upper = np.where(places == floors[:, None] + 1, (scores - floors)[:, None], 0)
    lower = np.where(places == floors[:, None], (floors - scores + 1)[:, None], 0)
    return (upper + lower).astype(np.float32)
