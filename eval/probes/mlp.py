"""SentEval's PyTorch classifier, many fits at once: every fold and weight decay is a slice of one batched product.

Fits with as many train rows see the same order of them and start from the same weights, because upstream seeds every
fit alike; so they can take their steps together, and each comes out as if it had been alone.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.init import kaiming_uniform_

Rows = tuple[np.ndarray, np.ndarray | None, np.ndarray]  # train, dev, test
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
    """The class and settings of ``"sgd,lr=0.1"``; ValueError for an unknown one or a setting that is no number."""
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


def train_many(
    x: np.ndarray,
    y: np.ndarray,
    rows: Sequence[Rows],
    decays: Sequence[float],
    *,
    nhid: int,
    optim: str,
    batch_size: int,
    tenacity: int,
    epoch_size: int,
    max_epoch: int,
    dropout: float,
    seed: int,
    device: str,
) -> list[np.ndarray]:
    """Labels of each fit's test rows at each weight decay, ``[decays, test rows]`` int8.

    Without dev rows 5 % of the train rows are held out, as upstream does. Memory beside a float32 copy of ``x``:
    at most GATHERED and TRAINED, or one fold's where that is more.
    """
    features = torch.from_numpy(np.ascontiguousarray(x)).to(device, torch.float32)
    labels = torch.from_numpy(np.asarray(y, dtype=np.int64)).to(device)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (train, dev, _) in enumerate(rows):
        groups[len(train), -1 if dev is None else len(dev)].append(number)
    classes = int(labels.max()) + 1
    weights = features.shape[1] * nhid + nhid * classes if nhid else features.shape[1] * classes
    size = max(1, min(GATHERED // (4 * batch_size * features.shape[1]), TRAINED // (24 * weights * len(decays))))
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    for members in groups.values():
        for first in range(0, len(members), size):
            chosen = members[first : first + size]
            group = _Group(features, labels, [rows[i] for i in chosen], decays, nhid, optim, batch_size, dropout, seed)
            best = group.fit(tenacity, epoch_size, max_epoch)
            for position, i in enumerate(chosen):
                test = torch.from_numpy(rows[i][2]).to(features.device)
                found[i] = group.predict([w[position] for w in best], test).cpu().numpy().astype(np.int8)
    return found


class _Group:
    """Fits that have the same number of train rows: F folds times V weight decays.

    A parameter is ``[F, inputs, V * outputs]``: one product serves all V fits of a fold, which read the same rows.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        rows: Sequence[Rows],
        decays: Sequence[float],
        nhid: int,
        optim: str,
        batch_size: int,
        dropout: float,
        seed: int,
    ) -> None:
        self.x, self.y, self.batch_size, self.dropout, self.nhid = x, y, batch_size, dropout, nhid
        self.values, self.classes = len(decays), int(y.max()) + 1
        self.order = np.random.RandomState(seed)  # upstream's stream, not the global one
        self.chance = torch.Generator().manual_seed(seed)
        self.parameters = self._start(len(rows))
        self.kind, self.settings = optimiser(optim)
        self.optimiser = self.kind(self.parameters, **self.settings)
        # torch's Rprop has no weight decay, so neither has upstream with it
        self.decay = torch.tensor(decays, device=x.device) * (self.kind is not torch.optim.Rprop)
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
        found = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            weight = kaiming_uniform_(torch.empty(outputs, inputs), a=math.sqrt(5), generator=self.chance)
            edge = 1 / math.sqrt(inputs)
            bias = torch.empty(outputs).uniform_(-edge, edge, generator=self.chance)
            for tensor in (weight.T, bias[None]):
                copies = tensor.repeat(1, self.values)[None].repeat(folds, 1, 1)  # [F, inputs or 1, V * outputs]
                found.append(copies.to(self.x.device).requires_grad_())
        return found

    def fit(self, tenacity: int, epoch_size: int, max_epoch: int) -> list[Tensor]:
        """Train with early stopping; returns each parameter of each fit at its best round."""
        shape = (len(self.trains), self.values)
        best = torch.full(shape, -1.0, device=self.x.device)
        failures, running = torch.zeros_like(best), torch.ones_like(best, dtype=torch.bool)
        kept = [p.detach().clone() for p in self.parameters]
        here = torch.arange(shape[0], device=self.x.device)  # folds with a fit that still runs
        passes = 0
        while running.any() and passes <= max_epoch:
            for _ in range(epoch_size):
                self._epoch()
            passes += epoch_size
            accuracy = torch.stack([self._accuracy(i) for i in range(len(here))])  # [running folds, V]
            live = running[here]
            better = live & (accuracy > best[here])
            best[here] = torch.where(better, accuracy, best[here])
            for store, parameter in zip(kept, self.parameters, strict=True):
                old = store[here].unflatten(2, (self.values, -1))
                new = parameter.detach().unflatten(2, (self.values, -1))
                store[here] = torch.where(better[:, None, :, None], new, old).flatten(2)
            # The count is of all failures, not of those in a row, and is looked at before it grows.
            stopped = live & ~better & (failures[here] >= tenacity)
            failures[here] += (live & ~better).float()
            running[here] = live & ~stopped
            self._keep(running[here].any(dim=1))
            here = here[running[here].any(dim=1)]
        return kept

    def _keep(self, folds: Tensor) -> None:
        """Leave the folds behind that are done."""
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
        for part in order.split(self.batch_size):
            rows = self.trains[:, part]  # [F, batch]
            scores = self._scores(self.x[rows], self.parameters, train=True)  # [F, batch, V, K]
            own = self.y[rows][:, :, None].expand(scores.shape[:3])
            loss = cross_entropy(scores.flatten(0, 2), own.flatten(), reduction="sum") / len(part)
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
        if train and self.dropout:
            mask = torch.empty(x.shape[1], self.nhid).bernoulli_(1 - self.dropout, generator=self.chance)
            hidden = hidden * (mask / (1 - self.dropout)).to(x.device)[None, :, None]
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
