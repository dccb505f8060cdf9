"""The real tokens of a padded batch in the order in which a recurrence reads them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class TimeSteps:
    """Where the tokens of each time step lie.

    Rows are sorted, the longest first: those that still have a token at step t are then the first ``alive[t]``. Tokens
    follow one another step by step, ``N`` in all; the backward direction reads each row from its last token, so that
    its steps have as many rows as the forward direction's.
    """

    alive: list[int]  # rows with a token at each step, falling
    starts: list[int]  # the first token of each step
    rows: int
    length: int
    tokens: Tensor  # int64 [2, N] into rows * length: what the forward and the backward direction read
    mirrored: Tensor  # int64 [N]: the forward direction's number of the token that the backward direction reads
    previous: Tensor  # int64 [N - alive[0]]: of each token after the first step, that of its row's step before
    order: Tensor  # int64 [n]: the rows, the longest first
    counts: Tensor  # int64 [n]: the real tokens of these
    last: Tensor  # int64 [n]: the token of the last step of these

    @classmethod
    def of(cls, lengths: Tensor, length: int) -> "TimeSteps":
        """Of rows of ``lengths`` ``[n]`` tokens, at most ``length`` each, padded at the end.

        An empty row has one step, as in sentence-transformers; it reads the first padding.
        """
        counts, order = lengths.sort(descending=True, stable=True)
        descending = counts.clamp(min=1)
        steps = torch.arange(int(descending[0]) if len(lengths) else 0)
        is_alive = steps[:, None] < descending
        alive = is_alive.sum(dim=1)
        starts = alive.cumsum(0) - alive
        step, row = is_alive.nonzero(as_tuple=True)
        mirror = descending[row] - 1 - step
        first = order[row] * length
        return cls(
            alive=alive.tolist(),
            starts=starts.tolist(),
            rows=len(lengths),
            length=length,
            tokens=torch.stack([first + step, first + mirror]),
            mirrored=starts[mirror] + row,
            previous=(starts[step - 1] + row)[int(alive[0]) if len(alive) else 0 :],
            order=order,
            counts=counts,
            last=starts[descending - 1] + torch.arange(len(lengths)),
        )

    @property
    def count(self) -> int:
        """Tokens."""
        return self.tokens.shape[1]

    @cached_property
    def slices(self) -> list[slice]:
        """The tokens of each step."""
        return [slice(start, start + alive) for start, alive in zip(self.starts, self.alive, strict=True)]

    def blocks(self, rows: Tensor) -> Tensor:
        """Numbers ``[L, N]``, of each lane's tokens, step by step: those of all lanes at step 0, then at step 1, ..."""
        return torch.cat([rows[:, now].flatten() for now in self.slices])
