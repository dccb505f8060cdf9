"""Objectives that remember: a queue of keys, a bank of sentences, a predictor. What they remember is saved and resumed.

It is a function of the global batch alone, and so the same on every process.
"""

import math

import torch
from torch import Tensor, nn

from sentemb.geometry import LeftOut, log_sum_exp, unit
from sentemb.objectives.base import Extras, Objective, count, order, positive, share
from sentemb.objectives.contrastive import joined
from sentemb.objectives.decorrelation import standardised


class MoCo(Objective):
    """Pick the partner's key among the keys of past batches: keys are made by a slowly moving average of the encoder.

    While the queue is empty (the first step) the batch's other keys stand in. Keys of copies are no negatives.

    Args:
        temperature: tau, > 0.
        queue: keys kept, the newest ones; the paper has 65,536.
        momentum: share of the averaged encoder that stays in each update, in [0, 1].
        in_batch: the other keys of the batch are candidates, too (ESimCSE).
        symmetric: the mean of both directions; else x is the query and y the key.

    Source: He et al. 2020, arXiv 1911.05722, eqs. 1, 2 and algorithm 1; for sentences: Wu et al. 2021 (ESimCSE,
    arXiv 2109.04380), momentum 0.995 and a queue of 2.5 batches.
    """

    formula = "mean_i -log(exp x_i.k_i / (exp x_i.k_i + sum over the queue of exp x_i.k)), k = twin(y), over tau"
    contrasted = "queue + in_batch * (n - 1)"
    both_ways = "option symmetric"
    source = "He et al. 2020, eqs. 1, 2"
    needs = frozenset({"targets"})
    contrastive = True
    queue: Tensor  # [size, d] keys
    queue_ids: Tensor  # int64 [size], -1 for no sentence known
    filled: Tensor  # int64 [], keys there
    place: Tensor  # int64 [], where the next one goes

    def __init__(
        self,
        temperature: float = 0.07,
        queue: int = 4096,
        momentum: float = 0.999,
        in_batch: bool = False,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.size = positive("temperature", temperature), count("queue", queue)
        self.rate, self.in_batch = share("momentum", momentum), in_batch
        self.symmetric = self.one_space = symmetric

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The queue."""
        if not hasattr(self, "queue"):
            self.register_buffer("queue", torch.zeros(self.size, dimension))
            self.register_buffer("queue_ids", torch.full((self.size,), -1))
            self.register_buffer("filled", torch.tensor(0))
            self.register_buffer("place", torch.tensor(0))

    def momentum(self, done: float) -> float:
        """Constant."""
        return self.rate

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """InfoNCE over keys."""
        keys_x, keys_y = extras.targets or (x.detach(), y.detach())
        loss = self._direction(x, keys_y, extras.ids, 1)
        return (loss + self._direction(y, keys_x, extras.ids, 0)) / 2 if self.symmetric else loss

    def _direction(self, queries: Tensor, keys: Tensor, ids: Tensor | None, side: int) -> Tensor:
        filled, scaled = int(self.filled), queries / self.temperature
        kin = None if ids is None else ids[:, :2]
        partner = (scaled * keys).sum(dim=1)
        parts = [partner]
        if filled:
            known = None if kin is None else LeftOut(kin, self.queue_ids[:filled])
            parts.append(log_sum_exp(scaled, self.queue[:filled], known))
        if self.in_batch or not filled:
            known = LeftOut(kin, ids[:, side] if ids is not None else None, itself=order(keys)[:, None])
            parts.append(log_sum_exp(scaled, keys, known))
        return (joined(parts) - partner).mean()

    def remember(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Put the batch's keys in the place of the oldest ones."""
        keys_x, keys_y = extras.targets or (x, y)
        of_x, of_y = torch.full((2, len(y)), -1, device=y.device) if extras.ids is None else extras.ids[:, :2].T
        keys, ids = keys_y, of_y
        if self.symmetric:
            keys, ids = torch.cat([keys_y, keys_x]), torch.cat([of_y, of_x])
        keys, ids = keys[-self.size :], ids[-self.size :]
        places = (self.place + order(keys)) % self.size
        self.queue[places], self.queue_ids[places] = keys.to(self.queue.dtype), ids
        self.place.copy_((self.place + len(keys)) % self.size)
        self.filled.copy_((self.filled + len(keys)).clamp(max=self.size))

    def candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """The partner, the queue as it is now, the batch."""
        filled = int(getattr(self, "filled", 0))
        return 1 + filled + (n - 1) * (self.in_batch or not filled)

    def negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of the queue."""
        also = f" and {n - 1} of the batch" if self.in_batch else ""
        return f"up to {self.size} keys of past batches{also} as negatives per anchor (copies of a sentence are none)"


class MemoryBank(Objective):
    """Pick the partner's stored embedding among those of other sentences: one entry for each sentence of the corpus.

    An entry is the running mean, of unit length, of what its sentence looked like; until it was seen, the partner's
    embedding of now. Both directions.

    Args:
        temperature: tau, > 0.
        negatives: stored entries drawn in each step, the same for all anchors; 0: all of them (the full softmax).
        momentum: share of an entry that stays when its sentence is seen again, in [0, 1].
        in_batch: the batch's other entries are candidates, too; while nothing is stored they stand in.

    Entries are as old as their sentence's last turn, an epoch: an encoder that moves fast can tell them by their age
    and collapse (it did in 200 steps of an LSTM at 1e-3, with and without ``in_batch``). Meant for many epochs of few
    sentences.

    Source: Wu et al. 2018 (instance discrimination), arXiv 1805.01978, eq. 2 and section 3.2, with a softmax over the
    entries drawn; temperature, momentum and number are those of its code.
    """

    formula = (
        "mean_i -log(exp x_i.b_y(i) / (exp x_i.b_y(i) + sum over drawn entries, and the batch's, of exp x_i.b)), "
        "over tau; and of y"
    )
    contrasted = "negatives + in_batch * (n - 1)"
    both_ways = "yes"
    source = "Wu et al. 2018, eq. 2, sec. 3.2"
    contrastive = one_space = numbered = True
    bank: Tensor  # [sentences, d]
    seen: Tensor  # bool [sentences]
    steps: Tensor  # int64 [], which decides the next draw

    def __init__(
        self, temperature: float = 0.07, negatives: int = 4096, momentum: float = 0.5, in_batch: bool = False
    ) -> None:
        super().__init__()
        self.temperature, self.number = positive("temperature", temperature), count("negatives", negatives, least=0)
        self.rate, self.in_batch = share("momentum", momentum), in_batch

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The bank: 4 * dimension bytes a sentence."""
        if not hasattr(self, "bank"):
            self.register_buffer("bank", torch.zeros(sentences, dimension))
            self.register_buffer("seen", torch.zeros(sentences, dtype=torch.bool))
            self.register_buffer("steps", torch.tensor(0))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Softmax over the partner's entry and the drawn ones."""
        ids = self._known(x, extras.ids)
        stored = self.seen.nonzero()[:, 0]
        if self.number and len(stored) > self.number:
            generator = torch.Generator().manual_seed(int(self.steps))
            stored = stored[torch.randint(len(stored), (self.number,), generator=generator).to(stored.device)]
        losses, drawn = [], self.bank[stored]
        for rows, partners, side in ((x, y, 1), (y, x, 0)):
            scaled, own = rows / self.temperature, ids[:, side]
            entries = torch.where(self.seen[own, None], self.bank[own], partners.detach())
            partner = (scaled * entries).sum(dim=1)
            parts = [partner]
            if len(stored):
                parts.append(log_sum_exp(scaled, drawn, LeftOut(ids, stored)))
            if self.in_batch or not len(stored):
                parts.append(log_sum_exp(scaled, entries, LeftOut(ids, own, itself=order(x)[:, None])))
            losses.append((joined(parts) - partner).mean())
        return torch.stack(losses).mean()

    def _known(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Ids ``[n, 2]`` that have a place in the bank; without any given, a pair is a sentence."""
        ids = order(x)[:, None].expand(-1, 2) if ids is None else ids[:, :2]
        missing = int(ids.max()) + 1 - len(self.bank)
        if missing > 0:  # (outside the loop, which says how many sentences there are)
            self.bank = torch.cat([self.bank, self.bank.new_zeros(missing, x.shape[1])])
            self.seen = torch.cat([self.seen, self.seen.new_zeros(missing)])
        return ids

    def remember(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Move the entries of the batch's sentences towards what they look like now."""
        ids, places = self._known(x, extras.ids).T.flatten().unique(return_inverse=True)
        sums = torch.zeros(len(ids), x.shape[1], dtype=x.dtype, device=x.device)
        now = unit(sums.index_put((places,), torch.cat([x, y]), accumulate=True))  # (in one order, on a GPU too)
        moved = unit(self.rate * self.bank[ids] + (1 - self.rate) * now)
        self.bank[ids] = torch.where(self.seen[ids, None], moved, now)
        self.seen[ids] = True
        self.steps += 1

    def candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """The partner, the entries drawn, the batch's."""
        stored = int(self.seen.sum()) if hasattr(self, "seen") else 0
        return 1 + min(stored, self.number or stored) + (n - 1) * (self.in_batch or not stored)

    def negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of the bank."""
        also = f"{n - 1} of the batch and " if self.in_batch else ""
        drawn = f"{self.number} drawn from" if self.number else "all of"
        return f"{also}{drawn} one stored embedding a sentence as negatives per anchor (copies of a sentence are none)"


class BYOL(Objective):
    """Predict the averaged twin's view of the partner from one's own, both ways: no negatives. Watch uniformity.

    The predictor is two dense layers, standardised over the batch and rectified between; it is trained along and
    dropped. The paper's projector is ``--head projection:hidden=4096,out=256``.

    Args:
        hidden: units between the predictor's layers.
        momentum: share of the twin that stays in the first update; it rises to 1 as a cosine does.

    Source: Grill et al. 2020, arXiv 2006.07733, eqs. 1, 2 and section 3.2 (momentum 0.996).
    """

    formula = "mean_i (2 - 2 cos(q(x_i), twin(y)_i)) + (2 - 2 cos(q(y_i), twin(x)_i)), q learned"
    both_ways = "yes"
    source = "Grill et al. 2020, eqs. 1, 2"
    needs = frozenset({"targets"})
    normalise = False

    def __init__(self, hidden: int = 1024, momentum: float = 0.996) -> None:
        super().__init__()
        self.hidden, self.rate = count("hidden", hidden), share("momentum", momentum)
        self.first: nn.Linear | None = None
        self.second: nn.Linear | None = None

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The predictor."""
        if self.first is None:
            self.first, self.second = nn.Linear(dimension, self.hidden), nn.Linear(self.hidden, dimension)

    def momentum(self, done: float) -> float:
        """From ``momentum`` at the start to 1 at the end."""
        return 1 - (1 - self.rate) * (math.cos(math.pi * done) + 1) / 2

    def predict(self, x: Tensor) -> Tensor:
        """q: rows ``[n, d]`` to rows of unit length."""
        assert self.first is not None and self.second is not None
        return unit(self.second(torch.relu(standardised(self.first(x)))))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean squared distance of predicted and seen, of rows of unit length."""
        twin_x, twin_y = extras.targets or (x.detach(), y.detach())
        forth = 2 - 2 * (self.predict(x) * unit(twin_y)).sum(dim=1)
        back = 2 - 2 * (self.predict(y) * unit(twin_x)).sum(dim=1)
        return (forth + back).mean()

    def negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """None."""
        return "no negatives, an averaged twin of the encoder is the target"
