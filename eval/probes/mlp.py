"""SentEval's PyTorch classifier, many fits at once: every fold and weight decay is a slice of one batched product.

Fits with as many train rows see the same order of them and start from the same weights, because upstream seeds every
fit alike; so they can take their steps together, and each comes out as if it had been alone.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.init import kaiming_uniform_

Rows = tuple[np.ndarray, np.ndarray | None, np.ndarray]  # train, dev, test
SEED = 1111  # SentEval's
GATHERED = 256 * 2**20  # bytes of features that one step may gather
TRAINED = 1024 * 2**20  # bytes of weights, gradients, moments and best weights of the fits trained at once

OPTIMISERS = {
    "adadelta": torch.optim.Adadelta,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "asgd": torch.optim.ASGD,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
}


def optimiser(text: str) -> tuple[Any, dict[str, float]]:
    """The class and settings of ``"sgd,lr=0.1"``; ValueError for an unknown one or a setting that is not a number."""
    name, *settings = (part.strip() for part in text.split(","))
    if name not in OPTIMISERS:
        raise ValueError(f"unknown optim {name!r}; valid: {', '.join(sorted(OPTIMISERS))}")
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        try:
            values[key.strip()] = float(value)
        except ValueError:
            raise ValueError(f"optim setting {setting!r} is not name=number") from None
    kind = OPTIMISERS[name]
    if name == "sgd" and "lr" not in values:
        raise ValueError('optim sgd needs its learning rate, as in optim="sgd,lr=0.1"')
    try:
        kind([torch.zeros(1, requires_grad=True)], **values)
    except TypeError as error:
        raise ValueError(f"optim {text!r}: {error}") from None
    return kind, values


@dataclass(frozen=True)
class MlpSettings:
    """The options of SentEval's PyTorch classifier.

    Args:
        nhid: hidden units. optim: ``adam``, ``rmsprop``, ``sgd``, ...; with settings in quotes, as in
            ``mlp:optim="adam,lr=0.01",nhid=50``.
        batch_size: rows a step. tenacity: stop after this number of rounds that did not improve dev accuracy, in all.
        epoch_size: passes a round. max_epoch: no round starts after this number of passes. dropout: of hidden units.
        seed: of weights, order and dropout, through generators of its own.

    Raises:
        ValueError: a value out of range.
    """

    nhid: int = 0
    optim: str = "adam"
    batch_size: int = 64
    tenacity: int = 5
    epoch_size: int = 4
    max_epoch: int = 200
    dropout: float = 0.0
    seed: int = SEED

    def __post_init__(self) -> None:
        counts_valid = self.nhid >= 0 and min(self.batch_size, self.epoch_size) >= 1
        if not (counts_valid and self.tenacity >= 0 and self.max_epoch >= 0 and 0 <= self.dropout < 1):
            raise ValueError("nhid, tenacity, max_epoch >= 0, batch_size, epoch_size >= 1 and 0 <= dropout < 1 wanted")
        if self.dropout and not self.nhid:
            raise ValueError("dropout applies to hidden units; give nhid as well")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be between 0 and 2^32 - 1, got {self.seed}")
        optimiser(self.optim)  # a wrong one is refused now


def train_many(
    x: np.ndarray, y: np.ndarray, rows: Sequence[Rows], decays: Sequence[float], settings: MlpSettings, device: str
) -> list[np.ndarray]:
    """Labels of each fit's test rows at each weight decay, ``[decays, test rows]`` int16.

    Without dev rows 5 % of the train rows are held out, as upstream does. Memory in addition to a float32 copy of
    ``x``: at most GATHERED and TRAINED, or one fold's where that is more.
    """
    features = torch.from_numpy(np.ascontiguousarray(x)).to(device, torch.float32)
    labels = torch.from_numpy(np.asarray(y, dtype=np.int64)).to(device)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (train, dev, _) in enumerate(rows):
        groups[len(train), -1 if dev is None else len(dev)].append(number)
    classes = int(labels.max()) + 1
    width, nhid = features.shape[1], settings.nhid
    weights = width * nhid + nhid * classes if nhid else width * classes
    size = max(1, min(GATHERED // (4 * settings.batch_size * width), TRAINED // (24 * weights * len(decays))))
    predictions: list[np.ndarray] = [np.empty(0)] * len(rows)
    for members in groups.values():
        for first in range(0, len(members), size):
            chosen = members[first : first + size]
            group = _Group(features, labels, [rows[i] for i in chosen], decays, settings)
            best = group.fit()
            for position, i in enumerate(chosen):
                test = torch.from_numpy(rows[i][2]).to(features.device)
                predictions[i] = group.predict([w[position] for w in best], test).cpu().numpy().astype(np.int16)
    return predictions


class _Group:
    """Fits that have the same number of train rows: F folds times V weight decays.

    A parameter is ``[F, inputs, V * outputs]``: one product serves all V fits of a fold, which read the same rows.
    """

    def __init__(
        self, x: Tensor, y: Tensor, rows: Sequence[Rows], decays: Sequence[float], settings: MlpSettings
    ) -> None:
        self.x, self.y, self.settings, self.nhid = x, y, settings, settings.nhid
        self.values, self.classes = len(decays), int(y.max()) + 1
        self.order = np.random.RandomState(settings.seed)  # upstream's stream, not the global one
        self.chance = torch.Generator().manual_seed(settings.seed)
        self.parameters = self._start(len(rows))
        kind, options = optimiser(settings.optim)
        self.optimiser = kind(self.parameters, **options)
        # torch's Rprop has no weight decay, so neither has upstream with it
        self.decay = torch.tensor(decays, device=x.device) * (kind is not torch.optim.Rprop)
        trains, devs = np.stack([train for train, _, _ in rows]), []
        if rows[0][1] is None:
            order = self.order.permutation(trains.shape[1])
            held = int(0.05 * trains.shape[1])
            trains, dev = trains[:, order[held:]], trains[:, order[:held]]
            devs = list(dev)
        else:
            devs = [dev for _, dev, _ in rows if dev is not None]
        self.trains = torch.from_numpy(trains).to(x.device)  # [F, train rows]
        self.devs = torch.from_numpy(np.stack(devs)).to(x.device)  # [F, dev rows]

    def _start(self, folds: int) -> list[Tensor]:
        """The weights torch gives its Linear layers, in its order of drawing."""
        widths = [self.x.shape[1], *([self.nhid] if self.nhid else []), self.classes]
        parameters = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            weight = kaiming_uniform_(torch.empty(outputs, inputs), a=math.sqrt(5), generator=self.chance)
            edge = 1 / math.sqrt(inputs)
            bias = torch.empty(outputs).uniform_(-edge, edge, generator=self.chance)
            for tensor in (weight.T, bias[None]):
                copies = tensor.repeat(1, self.values)[None].repeat(folds, 1, 1)  # [F, inputs or 1, V * outputs]
                parameters.append(copies.to(self.x.device).requires_grad_())
        return parameters

    def fit(self) -> list[Tensor]:
        """Train with early stopping; returns each parameter of each fit at its best round."""
        shape = (len(self.trains), self.values)
        best = torch.full(shape, -1.0, device=self.x.device)
        failures, running = torch.zeros_like(best), torch.ones_like(best, dtype=torch.bool)
        best_parameters = [p.detach().clone() for p in self.parameters]
        running_folds = torch.arange(shape[0], device=self.x.device)  # folds with a fit that still runs
        passes = 0
        while running.any() and passes <= self.settings.max_epoch:
            for _ in range(self.settings.epoch_size):
                self._epoch()
            passes += self.settings.epoch_size
            accuracy = torch.stack([self._accuracy(i) for i in range(len(running_folds))])  # [running folds, V]
            live = running[running_folds]
            better = live & (accuracy > best[running_folds])
            best[running_folds] = torch.where(better, accuracy, best[running_folds])
            for store, parameter in zip(best_parameters, self.parameters, strict=True):
                old = store[running_folds].unflatten(2, (self.values, -1))
                new = parameter.detach().unflatten(2, (self.values, -1))
                store[running_folds] = torch.where(better[:, None, :, None], new, old).flatten(2)
            # The count includes all failures, not only those in a row, and is checked before it grows.
            stopped = live & ~better & (failures[running_folds] >= self.settings.tenacity)
            failures[running_folds] += (live & ~better).float()
            running[running_folds] = live & ~stopped
            self._keep(running[running_folds].any(dim=1))
            running_folds = running_folds[running[running_folds].any(dim=1)]
        return best_parameters

    def _keep(self, folds: Tensor) -> None:
        """Remove the folds that are done."""
        if folds.all():
            return
        self.trains, self.devs = self.trains[folds], self.devs[folds]
        for parameter in self.parameters:
            state = self.optimiser.state[parameter]
            for key, value in state.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    state[key] = value[folds]
            parameter.grad = None
            parameter.data = parameter.data[folds]

    def _epoch(self) -> None:
        order = torch.from_numpy(self.order.permutation(self.trains.shape[1])).to(self.x.device)
        for part in order.split(self.settings.batch_size):
            rows = self.trains[:, part]  # [F, batch]
            scores = self._scores(self.x[rows], self.parameters, train=True)  # [F, batch, V, K]
            labels = self.y[rows][:, :, None].expand(scores.shape[:3])
            loss = cross_entropy(scores.flatten(0, 2), labels.flatten(), reduction="sum") / len(part)
            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()
            for parameter in self.parameters:
                # weight_decay of torch's optimisers, with a value of its own for each fit
                assert parameter.grad is not None
                by_value = parameter.detach().unflatten(2, (self.values, -1)) * self.decay[:, None]
                parameter.grad += by_value.flatten(2)
            self.optimiser.step()

    def _scores(self, x: Tensor, parameters: Sequence[Tensor], train: bool = False) -> Tensor:
        """``[F, rows, V, K]`` of features ``[F, rows, d]``."""
        hidden = torch.baddbmm(parameters[1], x, parameters[0]).unflatten(2, (self.values, -1))
        if not self.nhid:
            return hidden
        if train and self.settings.dropout:
            mask = torch.empty(x.shape[1], self.nhid).bernoulli_(1 - self.settings.dropout, generator=self.chance)
            hidden = hidden * (mask / (1 - self.settings.dropout)).to(x.device)[None, :, None]
        weight = parameters[2].unflatten(2, (self.values, -1))  # [F, nhid, V, K]
        bias = parameters[3].unflatten(2, (self.values, -1))  # [F, 1, V, K]
        return torch.einsum("fbvh,fhvk->fbvk", torch.sigmoid(hidden), weight) + bias

    def _accuracy(self, fold: int) -> Tensor:
        """Dev accuracy ``[V]`` of a fold that is still here."""
        dev = self.devs[fold]
        return (self.predict([p[fold] for p in self.parameters], dev) == self.y[dev]).float().mean(dim=1)

    @torch.no_grad()
    def predict(self, weights: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Labels ``[V, rows]`` by one fold's weights."""
        scores = self._scores(self.x[rows][None], [w[None] for w in weights])
        return scores[0].argmax(dim=2).T
