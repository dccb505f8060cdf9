"""Pick the positive's key among the keys of past batches, which a queue remembers: momentum contrast.

What the queue holds is saved and resumed. It depends on the global batch alone, so it is the same on every process.
"""

from typing import Any

import torch
from torch import Tensor

from sentemb.geometry import CandidateMask, log_sum_exp
from sentemb.objectives.base import Extras, Objective, count, order, positive, share
from sentemb.objectives.contrastive import joined
from sentemb.objectives.guide import guide_scores


class MoCo(Objective):
    """Pick the positive's key among the keys of past batches: keys are made by a slowly moving average of the encoder.

    While the queue is empty (the first step) the batch's other keys stand in. Keys of copies are not negatives, nor are
    those whose sentences a guide finds nearer than the positive: with a guide the queue has its embeddings, too.

    Args:
        temperature: tau, > 0.
        queue: keys kept, the newest ones; the paper has 65,536.
        momentum: share of the averaged encoder that stays in each update, in [0, 1].
        in_batch: the other keys of the batch are candidates, too (ESimCSE).
        symmetric: the mean of both directions; else x is the query and y the key.

    Source: He et al. 2020, arXiv 1911.05722, eqs. 1, 2 and algorithm 1; for sentences: Wu et al. 2021 (ESimCSE,
    arXiv 2109.04380), momentum 0.995 and a queue of 2.5 batches.
    """

    formula = "mean_i -log(exp x_i.k_i / (exp x_i.k_i + sum over the queue of exp x_i.k)), k = m(y), over tau"
    negatives_per_anchor = "queue + in_batch * (n - 1)"
    interchangeable_views = "option symmetric"
    source = "He et al. 2020, eqs. 1, 2"
    needs = frozenset({"targets"})
    takes = frozenset({"guide"})
    contrastive = shares_loss = True
    queue: Tensor  # [size, d] keys
    queue_ids: Tensor  # int64 [size], -1 for no sentence known
    queue_guide: Tensor  # [size, D], the guide's embeddings of the keys' sentences; only with a guide
    filled: Tensor  # int64 [], keys there
    place: Tensor  # int64 [], where the next one goes
    _num_filled: int | None = None  # ``filled``, so that no update waits for its device; None: to be read

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
        self.symmetric = self.requires_shared_encoder = symmetric

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The queue."""
        if not hasattr(self, "queue"):
            self.register_buffer("queue", torch.zeros(self.size, dimension))
            self.register_buffer("queue_ids", torch.full((self.size,), -1))
            self.register_buffer("filled", torch.tensor(0))
            self.register_buffer("place", torch.tensor(0))
        if self.guide_dimension and not hasattr(self, "queue_guide"):
            self.register_buffer("queue_guide", torch.zeros(self.size, self.guide_dimension))

    @property
    def num_filled(self) -> int:
        """Keys there."""
        if self._num_filled is None:
            self._num_filled = int(self.filled) if hasattr(self, "filled") else 0
        return self._num_filled

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        super()._load_from_state_dict(*arguments, **more)
        self._num_filled = None

    def momentum(self, done: float) -> float:
        """Constant."""
        return self.rate

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """InfoNCE over keys."""
        keys_x, keys_y = extras.targets or (x.detach(), y.detach())
        loss = self._direction(x, keys_y, extras, 1)
        return (loss + self._direction(y, keys_x, extras, 0)) / 2 if self.symmetric else loss

    def _direction(self, queries: Tensor, keys: Tensor, extras: Extras, side: int) -> Tensor:
        """Loss of queries of one side and keys of the other (``side``: 0 for x, 1 for y)."""
        filled, ids, guide, anchors = self.num_filled, extras.ids, extras.guide, extras.anchors
        scaled, kin = anchors(queries) / self.temperature, None if ids is None else ids[:, :2]
        positive_scores = (scaled * anchors(keys)).sum(dim=1)
        parts = [positive_scores]
        if filled:
            queued = None if guide is None else guide.scores(1 - side, self.queue_guide[:filled])
            mask = CandidateMask(kin, self.queue_ids[:filled], guide=queued)
            parts.append(log_sum_exp(scaled, self.queue[:filled], anchors(mask)))
        if self.in_batch or not filled:
            other = ids[:, side] if ids is not None else None
            mask = CandidateMask(kin, other, itself=order(keys)[:, None], guide=guide_scores(guide, 1 - side, side))
            parts.append(log_sum_exp(scaled, keys, anchors(mask)))
        return extras.mean(joined(parts) - positive_scores)

    def update_state(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Replace the oldest keys by those of the batch."""
        keys_x, keys_y = extras.targets or (x, y)
        of_x, of_y = torch.full((2, len(y)), -1, device=y.device) if extras.ids is None else extras.ids[:, :2].T
        keys, ids = keys_y, of_y
        if self.symmetric:
            keys, ids = torch.cat([keys_y, keys_x]), torch.cat([of_y, of_x])
        keys, ids = keys[-self.size :], ids[-self.size :]
        places = (self.place + order(keys)) % self.size
        self.queue[places], self.queue_ids[places] = keys.to(self.queue.dtype), ids
        if extras.guide is not None:
            rows = torch.cat([extras.guide.y, extras.guide.x]) if self.symmetric else extras.guide.y
            self.queue_guide[places] = rows[-self.size :]
        self.place.copy_((self.place + len(keys)) % self.size)
        filled = min(self.num_filled + len(keys), self.size)
        self.filled.fill_(filled)
        self._num_filled = filled

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """The positive, the queue as it is now, the batch."""
        filled = self.num_filled
        return 1 + filled + (n - 1) * (self.in_batch or not filled)

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of the queue."""
        also = f" and {n - 1} of the batch" if self.in_batch else ""
        return f"up to {self.size} keys of past batches{also} as negatives per anchor (copies of a sentence are none)"
