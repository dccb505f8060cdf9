"""Pick the positive's stored embedding among those of other sentences: instance discrimination with a memory bank."""

import torch
from torch import Tensor

from sentemb.geometry import CandidateMask, l2_normalize, log_sum_exp
from sentemb.objectives.base import Extras, Objective, count, order, positive, share
from sentemb.objectives.contrastive import joined
from sentemb.objectives.guide import guide_scores


class MemoryBank(Objective):
    """Pick the positive's stored embedding among those of other sentences: one entry for each sentence of the corpus.

    An entry is the running mean, of unit length, of what its sentence looked like; until it was seen, the positive's
    current embedding. Both directions.

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
    negatives_per_anchor = "negatives + in_batch * (n - 1)"
    interchangeable_views = "yes"
    source = "Wu et al. 2018, eq. 2, sec. 3.2"
    takes = frozenset({"guide"})
    contrastive = requires_shared_encoder = needs_sentence_ids = shares_loss = True
    bank: Tensor  # [sentences, d]
    bank_guide: Tensor  # [sentences, D], the guide's embeddings; only with a guide
    seen: Tensor  # bool [sentences]
    steps: Tensor  # int64 [], which decides the next draw

    def __init__(
        self, temperature: float = 0.07, negatives: int = 4096, momentum: float = 0.5, in_batch: bool = False
    ) -> None:
        super().__init__()
        self.temperature, self.number = positive("temperature", temperature), count("negatives", negatives, least=0)
        self.rate, self.in_batch = share("momentum", momentum), in_batch

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The bank: 4 * dimension bytes a sentence, and with a guide as many for each of its dimensions."""
        if not hasattr(self, "bank"):
            self.register_buffer("bank", torch.zeros(sentences, dimension))
            self.register_buffer("seen", torch.zeros(sentences, dtype=torch.bool))
            self.register_buffer("steps", torch.tensor(0))
        if self.guide_dimension and not hasattr(self, "bank_guide"):
            self.register_buffer("bank_guide", torch.zeros(len(self.bank), self.guide_dimension))

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Softmax over the positive's entry and the drawn ones."""
        ids = self._ids_in_bank(x, extras.ids)
        stored = self.seen.nonzero()[:, 0]
        if self.number and len(stored) > self.number:
            generator = torch.Generator().manual_seed(int(self.steps))
            stored = stored[torch.randint(len(stored), (self.number,), generator=generator).to(stored.device)]
        losses, drawn, guide, anchors = [], self.bank[stored], extras.guide, extras.anchors
        for rows, positives, side in ((x, y, 1), (y, x, 0)):
            scaled, positive_ids = anchors(rows) / self.temperature, ids[:, side]
            entries = torch.where(self.seen[positive_ids, None], self.bank[positive_ids], positives.detach())
            positive_scores = (scaled * anchors(entries)).sum(dim=1)
            parts = [positive_scores]
            if len(stored):
                of_stored = None if guide is None else guide.scores(1 - side, self.bank_guide[stored])
                parts.append(log_sum_exp(scaled, drawn, anchors(CandidateMask(ids, stored, guide=of_stored))))
            if self.in_batch or not len(stored):
                of_batch, itself = guide_scores(guide, 1 - side, side), order(x)[:, None]
                mask = CandidateMask(ids, positive_ids, itself=itself, guide=of_batch)
                parts.append(log_sum_exp(scaled, entries, anchors(mask)))
            losses.append(extras.mean(joined(parts) - positive_scores))
        return torch.stack(losses).mean()

    def _ids_in_bank(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Ids ``[n, 2]`` that have a place in the bank; without any given, a pair is a sentence."""
        ids = order(x)[:, None].expand(-1, 2) if ids is None else ids[:, :2]
        missing = int(ids.max()) + 1 - len(self.bank)
        if missing > 0:  # (outside the loop, which says how many sentences there are)
            self.bank = torch.cat([self.bank, self.bank.new_zeros(missing, x.shape[1])])
            self.seen = torch.cat([self.seen, self.seen.new_zeros(missing)])
            if hasattr(self, "bank_guide"):
                self.bank_guide = torch.cat([self.bank_guide, self.bank_guide.new_zeros(missing, self.guide_dimension)])
        return ids

    def update_state(self, x: Tensor, y: Tensor, extras: Extras) -> None:
        """Move the entries of the batch's sentences towards what they look like now."""
        ids, places = self._ids_in_bank(x, extras.ids).T.flatten().unique(return_inverse=True)
        now = _means(torch.cat([x, y]), places, len(ids))
        moved = l2_normalize(self.rate * self.bank[ids] + (1 - self.rate) * now)
        self.bank[ids] = torch.where(self.seen[ids, None], moved, now)
        self.seen[ids] = True
        if extras.guide is not None:
            self.bank_guide[ids] = _means(torch.cat(extras.guide.sides), places, len(ids))
        self.steps += 1

    def num_candidates(self, n: int, hard: int = 0, runs: bool = False) -> int:
        """The positive, the entries drawn, the batch's."""
        stored = int(self.seen.sum()) if hasattr(self, "seen") else 0
        return 1 + min(stored, self.number or stored) + (n - 1) * (self.in_batch or not stored)

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Of the bank."""
        also = f"{n - 1} of the batch and " if self.in_batch else ""
        drawn = f"{self.number} drawn from" if self.number else "all of"
        return f"{also}{drawn} one stored embedding a sentence as negatives per anchor (copies of a sentence are none)"


def _means(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Of the rows ``[m, d]`` of each place, brought to unit length, ``[count, d]``; in one order, on a GPU too."""
    sums = torch.zeros(count, rows.shape[1], dtype=rows.dtype, device=rows.device)
    return l2_normalize(sums.index_put((places,), rows, accumulate=True))
