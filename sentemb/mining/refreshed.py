"""Hard negatives that the model in training finds again at intervals. A checkpoint stores those of its step."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.mining.mine import MinedNegatives
from sentemb.pairs import Numbers

# A model's hard negatives, and the folders of the cache that their search has made.
Mine = Callable[[SentenceTransformer], tuple[MinedNegatives, Sequence[Path]]]
NEVER = -1


class StoredNegatives:
    """Hard negatives in memory, for a process that makes batches ahead.

    Args:
        rows: int32 ``[m, k]``; -1 is none.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    @property
    def per_pair(self) -> int:
        """Hard negatives a pair."""
        return int(self.rows.shape[1])

    def of(self, numbers: Numbers) -> Numbers:
        """As :meth:`sentemb.pairs.PairNegatives.of`."""
        return self.rows[numbers].astype(np.int64)


class RefreshedNegatives(nn.Module):
    """Hard negatives (:class:`sentemb.pairs.PairNegatives`) that are replaced while a model trains.

    They are a part of the run's checkpoints: a resumed run has those that the run had at that step.

    Args:
        pairs: their number. per_pair: hard negatives of each.
        every: updates after which the model in training finds them again; 0: it finds them once, before the first.
        mine: finds them by a model.
        first: those that training begins with; None: the model finds them.

    Source: Xiong et al. 2021 (ANCE), arXiv 2007.00808.
    """

    rows: torch.Tensor
    mined_at: torch.Tensor

    def __init__(self, pairs: int, per_pair: int, every: int, mine: Mine, first: MinedNegatives | None = None) -> None:
        super().__init__()
        self.every, self.mine = every, mine
        rows = torch.full((pairs, per_pair), -1, dtype=torch.int32)
        if first is not None:
            rows.copy_(torch.from_numpy(first.rows.astype(np.int32)))
        self.register_buffer("rows", rows)
        self.register_buffer("mined_at", torch.tensor(NEVER if first is None else 0))

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredNegatives, (self.rows.numpy(),)

    @property
    def per_pair(self) -> int:
        """Hard negatives a pair."""
        return int(self.rows.shape[1])

    def of(self, numbers: Numbers) -> Numbers:
        """As :meth:`sentemb.pairs.PairNegatives.of`."""
        return self.rows.numpy()[numbers].astype(np.int64)

    def is_due(self, step: int) -> bool:
        """Whether the model is to find them after ``step`` updates."""
        return int(self.mined_at) != (step - step % self.every if self.every else 0)

    def next_due(self, step: int, steps: int) -> int:
        """The next update after which they are found again, at most ``steps``."""
        return min(steps, step - step % self.every + self.every) if self.every else steps

    def refresh(self, model: SentenceTransformer, step: int, everyone: Callable[[], None]) -> None:
        """Replace them by those that the model finds.

        Args:
            model: that is trained. step: updates it has had.
            everyone: returns when all processes have called it; then the files of the search are removed.
        """
        mined, folders = self.mine(model)
        self.rows.copy_(torch.from_numpy(mined.rows.astype(np.int32)))
        self.mined_at.fill_(step)
        everyone()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
