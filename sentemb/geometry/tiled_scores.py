"""Sums over all scores ``a_i . b_j`` of two sets of rows, with exact gradients and without ever holding all scores.

Scores are made a tile at a time, and once more for the gradient: memory is O((n + m) d + tile), the time 8 n m d
operations where the plain form takes 6. Where only sums over rows are wanted, tiles are whole rows (ROWS of them) and
the gradient is taken on the way, in 6 n m d. Few scores (TILE_SCORES) are one tile. The method is that of streaming
log-sum-exp: Milakov & Gimelshein 2018, arXiv 1805.02867; Cheng et al. 2024, arXiv 2410.17243.

On a CPU a tile stays in the cores' caches. A GPU needs larger ones: each tile costs the host some thirty launches, and
a product of 1,024 rows with 384 columns has work for a fifth of an H100 only. There a tile fills the GPU's cache.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sentemb.geometry.host_reads import reads_are_free

BLOCK = 1024  # rows of a tile, and on a CPU its columns
ROWS = 512  # rows of a tile of whole rows
TILE_SCORES = 2048 * 2048  # the most scores in a tile of a CPU; fewer are one tile everywhere
# Changes a tile in place: (scores, rows, columns), with -inf where a score does not count, or a constant added.
ScoreTransform = Callable[[Tensor, slice, slice], None]


def log_sum_exp(
    a: Tensor,
    b: Tensor,
    edit: ScoreTransform | None = None,
    scale: float = 1.0,
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
    above: bool = False,
    block: int | None = None,
) -> Tensor:
    """log sum_j exp(s_ij) of the scores s_ij = scale * a_i . b_j + row_bias_i + column_bias_j.

    Args:
        a: ``[n, d]``. b: ``[m, d]``. row_bias: ``[n]``. column_bias: ``[m]``.
        edit: what is done to a tile of scores before it is summed, or None.
        above: only j > i count (n = m): each unordered pair of rows once.
        block: rows and columns of a tile; None: a number that suits the device.

    Returns:
        ``[n]``; -inf, with gradient 0, where nothing counts.
    """
    plain = scale == 1 and row_bias is None and column_bias is None and not above and block is None
    if plain and torch.is_grad_enabled() and a.requires_grad:
        return _RowSums.apply(a, b, edit)
    plan = _Plan(scale, above, edit, None, columns=False, block=block)
    return _LogSumExp.apply(a, b, row_bias, column_bias, plan)[0]


def log_sum_exp_for_mean(a: Tensor, b: Tensor, edit: ScoreTransform | None = None) -> Tensor:
    """As :func:`log_sum_exp`, of sums whose slopes are all equal, as those of a mean are: that is not checked."""
    if torch.is_grad_enabled() and a.requires_grad:
        return _RowSums.apply(a, b, edit, True)
    return log_sum_exp(a, b, edit)


def log_sum_exp_of_band(
    a: Tensor,
    b: Tensor,
    edit: ScoreTransform,
    reach: int,
    scale: float,
    row_bias: Tensor,
    column_bias: Tensor,
    block: int | None = None,
) -> Tensor:
    """As :func:`log_sum_exp`, of scores of which only those of i < j <= i + ``reach`` count, or fewer of them.

    ``edit`` leaves out what does not count. Tiles of such scores alone are not made.
    """
    plan = _Plan(scale, True, edit, None, columns=False, block=block, reach=reach)
    return _LogSumExp.apply(a, b, row_bias, column_bias, plan)[0]


def log_sum_exp_both(
    a: Tensor,
    b: Tensor,
    edit: ScoreTransform | None = None,
    column_edit: ScoreTransform | None = None,
    above: bool = False,
) -> tuple[Tensor, Tensor]:
    """log sum_j exp(a_i . b_j), ``[n]``, and log sum_i exp(a_i . b_j), ``[m]``, for little more than one of them.

    ``column_edit`` is the edit of the second and sees transposed tiles, anchors in rows; else as
    :func:`log_sum_exp`. Of one set of rows with itself (``above``), the two together are the sums over all others.
    """
    return _LogSumExp.apply(a, b, None, None, _Plan(1.0, above, edit, column_edit, columns=True))


def sum_above(a: Tensor, b: Tensor, floor: Tensor, edit: ScoreTransform | None = None) -> tuple[Tensor, Tensor]:
    """sum_j a_i . b_j over the scores of at least ``floor_i``, and how many these are, both ``[n]``.

    Arguments as for :func:`log_sum_exp`; floors as :func:`nearest` gives them.
    """
    return _SumAbove.apply(a, b, floor, edit)


def expected_scores(
    a: Tensor, b: Tensor, target_a: Tensor, target_b: Tensor, edit: ScoreTransform | None = None
) -> Tensor:
    """sum_j p_ij a_i . b_j, where p_i is the softmax over j of the scores target_a_i . target_b_j.

    Args:
        a: ``[n, d]``. b: ``[m, d]``.
        target_a: ``[n, D]``. target_b: ``[m, D]``; no gradient reaches these two.
        edit: what is done to a tile of the targets' scores, as for :func:`log_sum_exp`.

    Returns:
        ``[n]``; 0, with gradient 0, where nothing counts.
    """
    return _ExpectedScores.apply(a, b, target_a, target_b, edit)


@torch.no_grad()
def nearest(
    a: Tensor,
    b: Tensor,
    keep: Callable[[Tensor], Tensor],
    edit: ScoreTransform | None = None,
    most: int | None = None,
) -> Tensor:
    """For each row of ``a`` its K-th highest score among the rows of ``b``, ``[n]``: the floor of its K nearest.

    Args:
        keep: K of each row, int64, from the number of its scores that count; at least 1 where there are any.
        edit: as for :func:`log_sum_exp`.
        most: no K is larger than this; None: the largest is read from the scores' device.

    Returns:
        The K-th score, less a little for rounding; inf where no score counts.
    """
    n, m = len(a), len(b)
    step = max(64, tile_scores(a.device) // max(1, m))
    floors = []
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        scores = a[rows] @ b.T
        if edit:
            edit(scores, rows, slice(0, m))
        counts = (~scores.isneginf()).sum(dim=1)
        places = keep(counts).clamp(max=counts)
        largest = int(places.max()) if most is None else min(most, m)
        highest = scores.topk(max(1, largest), dim=1).values
        floor = highest.gather(1, (places - 1).clamp_min(0)[:, None])[:, 0]
        slack = 8 * torch.finfo(a.dtype).eps * (a[rows].norm(dim=1) * b.norm(dim=1).max())
        floors.append(torch.where(places > 0, floor - slack, math.inf))
    return torch.cat(floors) if floors else a.new_zeros(0)


@dataclass(frozen=True)
class _Plan:
    """How tiles are made, edited and summed."""

    scale: float
    above: bool
    edit: ScoreTransform | None
    column_edit: ScoreTransform | None
    columns: bool  # whether columns are summed, too
    block: int | None = None
    reach: int | None = None

    def tiles(self, a: Tensor, b: Tensor) -> Iterator[tuple[slice, slice]]:
        return _tiles(a, b, self.above, self.block, self.reach)


def tile_scores(device: torch.device) -> int:
    """The most scores in a tile; on a GPU as many as its second-level cache holds in float32, 8 million at least."""
    return TILE_SCORES if device.type == "cpu" else max(2 * TILE_SCORES, _cached_scores(device))


@cache
def _cached_scores(device: torch.device) -> int:
    """A power of two; 1 where the device does not name the size of its cache."""
    size = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 4) if device.type == "cuda" else 4
    return 2 ** int(math.log2(max(4, size) / 4))


def _tiles(
    a: Tensor, b: Tensor, above: bool, block: int | None = None, reach: int | None = None
) -> Iterator[tuple[slice, slice]]:
    n, m = len(a), len(b)
    height = width = block or (max(n, m, 1) if n * m <= TILE_SCORES else BLOCK)
    if block is None and n * m > TILE_SCORES < tile_scores(a.device):
        width = max(1, tile_scores(a.device) // height)
    for i in range(0, n, height):
        end = m if reach is None else min(m, i + height + reach)
        for j in range(i if above else 0, end, width):
            yield slice(i, min(i + height, n)), slice(j, min(j + width, end))


def _scores(
    a: Tensor, b: Tensor, rows: slice, columns: slice, plan: _Plan, biases: tuple[Tensor | None, ...]
) -> Tensor:
    row_bias, column_bias = biases
    if column_bias is not None:
        scores = torch.addmm(column_bias[columns], a[rows], b[columns].T, alpha=plan.scale)
    else:
        scores = a[rows] @ b[columns].T
        if plan.scale != 1:
            scores.mul_(plan.scale)
    if row_bias is not None:
        scores.add_(row_bias[rows, None])
    if plan.above and rows.start == columns.start:
        below = torch.ones_like(scores, dtype=torch.bool).tril_()
        scores.masked_fill_(below, -math.inf)
    return scores


def _edited(scores: Tensor, edit: ScoreTransform | None, rows: slice, columns: slice, copy: bool) -> Tensor:
    """The tile after its edit; ``copy``: in its own memory, whatever the edit."""
    if copy or edit:
        scores = scores.clone()
    if edit:
        edit(scores, rows, columns)
    return scores


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, row_bias: Tensor | None, column_bias: Tensor | None, plan: _Plan
    ) -> tuple[Tensor, Tensor]:
        n, m, biases = len(a), len(b), (row_bias, column_bias)
        over_rows, over_columns = a.new_full((n,), -math.inf), a.new_full((m if plan.columns else 0,), -math.inf)
        only_tile = None
        for rows, columns in plan.tiles(a, b):
            scores = _scores(a, b, rows, columns, plan, biases)
            edited = _edited(scores, plan.edit, rows, columns, copy=False)
            over_rows[rows] = torch.logaddexp(over_rows[rows], edited.logsumexp(dim=1))
            if plan.columns:
                turned = _edited(scores.T, plan.column_edit, columns, rows, copy=False)
                over_columns[columns] = torch.logaddexp(over_columns[columns], turned.logsumexp(dim=1))
            only_tile = scores if scores.numel() == n * m and any(ctx.needs_input_grad) else None
        ctx.save_for_backward(a, b, row_bias, column_bias, over_rows, over_columns, only_tile)
        ctx.plan = plan
        return over_rows, over_columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        a, b, row_bias, column_bias, over_rows, over_columns, only_tile = ctx.saved_tensors
        plan: _Plan = ctx.plan
        over_rows, over_columns = (x.masked_fill(x.isneginf(), 0) for x in (over_rows, over_columns))
        slope_rows, slope_columns = slopes
        grad_a, grad_b = (torch.zeros_like(x) if ctx.needs_input_grad[i] else None for i, x in enumerate((a, b)))
        grad_row = torch.zeros_like(row_bias) if row_bias is not None else None
        grad_column = torch.zeros_like(column_bias) if column_bias is not None else None
        for rows, columns in plan.tiles(a, b):
            scores = only_tile if only_tile is not None else _scores(a, b, rows, columns, plan, (row_bias, column_bias))
            turned = None
            if plan.columns:
                turned = _edited(scores.T, plan.column_edit, columns, rows, copy=True)
                turned = turned.sub_(over_columns[columns, None]).exp_().mul_(slope_columns[columns, None]).T
            shares = _edited(scores, plan.edit, rows, columns, copy=only_tile is not None)
            shares = shares.sub_(over_rows[rows, None]).exp_().mul_(slope_rows[rows, None])
            if turned is not None:
                shares.add_(turned)
            if grad_a is not None:
                grad_a[rows].addmm_(shares, b[columns], alpha=plan.scale)
            if grad_b is not None:
                grad_b[columns].addmm_(shares.T, a[rows], alpha=plan.scale)
            if grad_row is not None:
                grad_row[rows] += shares.sum(dim=1)
            if grad_column is not None:
                grad_column[columns] += shares.sum(dim=0)
        return grad_a, grad_b, grad_row, grad_column, None


class _RowSums(torch.autograd.Function):
    """log_sum_exp by whole rows: their shares are known at once, so that the gradient needs no second look.

    The gradient at b is a sum over rows, weighted by their slopes, which come later. They are all alike in a mean, and
    the sum is taken for that; else it is taken again.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, edit: ScoreTransform | None, alike: bool = False) -> Tensor:
        n, m = len(a), len(b)
        sums, mean_b, mean_a = a.new_empty(n), torch.empty_like(a), None
        if ctx.needs_input_grad[1]:
            mean_a = torch.zeros_like(b)
        step = max(ROWS, tile_scores(a.device) // max(1, m))
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            shares = a[rows] @ b.T
            if edit:
                edit(shares, rows, slice(0, m))
            highest = shares.amax(dim=1, keepdim=True)
            highest.masked_fill_(highest.isneginf(), 0)
            total = shares.sub_(highest).exp_().sum(dim=1, keepdim=True)
            sums[rows] = (highest + total.log())[:, 0]
            divisor = total.masked_fill(total == 0, 1)  # (where nothing counts, no share)
            torch.mm(shares, b, out=mean_b[rows]).div_(divisor)
            if mean_a is not None:
                mean_a.addmm_(shares.T, a[rows] / divisor)
        ctx.save_for_backward(a, b, sums, mean_b, mean_a)
        ctx.edit, ctx.alike = edit, alike
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        a, b, sums, mean_b, mean_a = ctx.saved_tensors
        slope = slopes[0]
        grad_b = None
        if mean_a is not None and len(slope) and (ctx.alike or _all_alike(slope)):
            grad_b = mean_a * slope[0]
        elif mean_a is not None:
            grad_b, plan = torch.zeros_like(b), _Plan(1.0, False, ctx.edit, None, columns=False)
            over = sums.masked_fill(sums.isneginf(), 0)
            for rows, columns in _tiles(a, b, above=False):
                shares = _scores(a, b, rows, columns, plan, (None, None))
                if ctx.edit:
                    ctx.edit(shares, rows, columns)
                shares.sub_(over[rows, None]).exp_()
                grad_b[columns].addmm_(shares.T, a[rows] * slope[rows, None])
        return mean_b * slope[:, None], grad_b, None, None


def _all_alike(slope: Tensor) -> bool:
    """Whether all numbers are equal; False where a look at them would wait for their device."""
    return reads_are_free(slope) and bool((slope == slope[0]).all())


class _SumAbove(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, floor: Tensor, edit: ScoreTransform | None) -> tuple[Tensor, Tensor]:
        total, counts = a.new_zeros(len(a)), a.new_zeros(len(a))
        for rows, columns, counted in _counted(a, b, floor, edit):
            total[rows] += (a[rows] * (counted @ b[columns])).sum(dim=1)
            counts[rows] += counted.sum(dim=1)
        ctx.save_for_backward(a, b, floor)
        ctx.edit = edit
        ctx.mark_non_differentiable(counts)
        return total, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        a, b, floor = ctx.saved_tensors
        grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        for rows, columns, counted in _counted(a, b, floor, ctx.edit):
            shares = counted.mul_(slopes[0][rows, None])
            grad_a[rows].addmm_(shares, b[columns])
            grad_b[columns].addmm_(shares.T, a[rows])
        return grad_a, grad_b, None, None


class _ExpectedScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, target_a: Tensor, target_b: Tensor, edit: ScoreTransform | None
    ) -> Tensor:
        mean_b = torch.empty_like(a)  # [n, d], of b by the shares of each row
        for rows, shares in _softmax_rows(target_a, target_b, edit):
            torch.mm(shares, b, out=mean_b[rows])
        ctx.save_for_backward(a, target_a, target_b, mean_b)
        ctx.edit = edit
        return (a * mean_b).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        a, target_a, target_b, mean_b = ctx.saved_tensors
        slope, grad_b = slopes[0][:, None], None
        if ctx.needs_input_grad[1]:
            grad_b = a.new_zeros(len(target_b), a.shape[1])
            for rows, shares in _softmax_rows(target_a, target_b, ctx.edit):
                grad_b.addmm_(shares.T, a[rows] * slope[rows])
        return mean_b * slope, grad_b, None, None, None


def _softmax_rows(a: Tensor, b: Tensor, edit: ScoreTransform | None) -> Iterator[tuple[slice, Tensor]]:
    """Softmax over the rows of ``b`` of each row's scores, some rows of ``a`` at a time."""
    step = max(ROWS, tile_scores(a.device) // max(1, len(b)))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        scores = a[rows] @ b.T
        if edit:
            edit(scores, rows, slice(0, len(b)))
        nothing = scores.amax(dim=1, keepdim=True).isneginf()
        yield rows, scores.masked_fill_(nothing, 0).softmax(dim=1).masked_fill_(nothing, 0)


def _counted(a: Tensor, b: Tensor, floor: Tensor, edit: ScoreTransform | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of 1 where a score reaches its row's floor, else 0."""
    for rows, columns in _tiles(a, b, above=False):
        scores = a[rows] @ b[columns].T
        if edit:
            edit(scores, rows, columns)
        yield rows, columns, (scores >= floor[rows, None]).to(a.dtype)
