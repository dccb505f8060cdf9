"""Sums over tiles equal the sums over all scores at once, in value and gradient, whatever the tiles."""

import math

import pytest
import torch

from sentemb.geometry import (
    CandidateMask,
    expected_scores,
    log_sum_exp,
    log_sum_exp_both,
    nearest,
    sum_above,
    tiled_scores,
)
from tests.devices import DOUBLE, arange, eye, normal, numbers, ones, zeros

pytestmark = numbers

SHAPES = [(1, 1), (1, 5), (7, 4), (9, 9), (12, 30)]


@pytest.fixture(params=[(3, 3), (4, 4), (100, 100), (3, 8)], ids=str, autouse=True)
def tiles(request, monkeypatch):
    """Square tiles, as on a CPU, and wide ones, as on a GPU."""
    height, width = request.param
    monkeypatch.setattr(tiled_scores, "BLOCK", height)
    monkeypatch.setattr(tiled_scores, "TILE_SCORES", 1)
    monkeypatch.setattr(tiled_scores, "tile_scores", lambda _: height * width if height < width else 1)
    monkeypatch.setattr(tiled_scores, "ROWS", height)


def rows(n: int, seed: int) -> torch.Tensor:
    x = normal(n, 3, seed=seed)
    return x.requires_grad_()


def left_out(n: int, m: int) -> tuple[CandidateMask, torch.Tensor]:
    """An edit with copies, a positive and a banned column a row, and the mask it should amount to."""
    kin, ids = arange(n)[:, None] % 4, arange(m) % 4
    positives, never = arange(n) % m, (arange(n) + 1) % m
    mask = kin == ids
    mask[arange(n), positives] = False
    mask[arange(n), never] = True
    return CandidateMask(kin, ids, positives[:, None], never[:, None]), mask


def compare(tiled_sums: torch.Tensor, expected: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> None:
    """Values and, for a random direction, gradients."""
    assert torch.allclose(tiled_sums, expected, atol=DOUBLE)
    weights = normal(len(tiled_sums), seed=9)
    total = [torch.where(out.isneginf(), 0, out * weights).sum() for out in (tiled_sums, expected)]
    slopes = [torch.autograd.grad(t, inputs, retain_graph=True, allow_unused=True) for t in total]
    for mine, theirs in zip(*slopes, strict=True):
        assert torch.allclose(mine, theirs.nan_to_num() if theirs is not None else torch.zeros_like(mine), atol=DOUBLE)


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("edited", [False, True])
def test_log_sum_exp(n, m, edited):
    a, b, by_row, by_column = rows(n, 0), rows(m, 1), rows(n, 2)[:, 0], rows(m, 3)[:, 0]
    edit, mask = left_out(n, m) if edited else (None, zeros(n, m, dtype=torch.bool))
    dense = (1.5 * a @ b.T + by_row[:, None] + by_column).masked_fill(mask, -math.inf)
    tiled_sums = log_sum_exp(a, b, edit, 1.5, by_row, by_column)
    compare(tiled_sums, dense.logsumexp(dim=1), (a, b, by_row, by_column))


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("edited", [False, True])
def test_by_whole_rows_with_slopes_of_any_kind(n, m, edited):
    a, b = rows(n, 0), rows(m, 1)
    edit, mask = left_out(n, m) if edited else (None, zeros(n, m, dtype=torch.bool))
    dense = (a @ b.T).masked_fill(mask, -math.inf).logsumexp(dim=1)
    compare(log_sum_exp(a, b, edit), dense, (a, b))
    if not dense.isneginf().any():  # a mean, whose slopes are all alike
        for mine, theirs in zip(
            torch.autograd.grad(log_sum_exp(a, b, edit).mean(), (a, b)),
            torch.autograd.grad(dense.mean(), (a, b)),
            strict=True,
        ):
            assert torch.allclose(mine, theirs, atol=DOUBLE)
    (slope,) = torch.autograd.grad(log_sum_exp(a, b.detach(), edit).sum(), a)
    assert slope.isfinite().all()
    with torch.no_grad():
        assert torch.allclose(log_sum_exp(a, b, edit), dense, atol=DOUBLE)


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("edited", [False, True])
def test_scores_expected_by_the_softmax_of_others(n, m, edited):
    a, b, target_a, target_b = rows(n, 0), rows(m, 1), normal(n, 5, seed=2), normal(m, 5, seed=3)
    edit, mask = left_out(n, m) if edited else (None, zeros(n, m, dtype=torch.bool))
    shares = (target_a @ target_b.T).masked_fill(mask, -math.inf).softmax(dim=1).nan_to_num()
    compare(expected_scores(a, b, target_a, target_b, edit), (shares * (a @ b.T)).sum(dim=1), (a, b))


@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_rows_and_columns_at_once_each_with_its_own_edit(n, m):
    a, b = rows(n, 0), rows(m, 1)
    edit, mask = left_out(n, m)
    other, turned = left_out(m, n)
    over_rows, over_columns = log_sum_exp_both(a, b, edit, other)
    compare(over_rows, (a @ b.T).masked_fill(mask, -math.inf).logsumexp(dim=1), (a, b))
    compare(over_columns, (b @ a.T).masked_fill(turned, -math.inf).logsumexp(dim=1), (a, b))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_each_unordered_pair_once(n):
    a = rows(n, 0)
    below = ones(n, n, dtype=torch.bool).tril()
    dense = (a @ a.T).masked_fill(below, -math.inf)
    compare(log_sum_exp(a, a, above=True), dense.logsumexp(dim=1), (a,))
    over_rows, over_columns = log_sum_exp_both(a, a, above=True)
    row_sums = (a @ a.T).masked_fill(eye(n, dtype=torch.bool), -math.inf).logsumexp(dim=1)
    compare(torch.stack([over_rows, over_columns]).logsumexp(dim=0), row_sums, (a,)) if n > 1 else None


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_nearest_and_their_sum(n, m, share):
    a, b = rows(n, 0), rows(m, 1)
    edit, mask = left_out(n, m)
    floor = nearest(a, b, lambda counts: (share * counts).ceil().long(), edit)
    bounded = nearest(a, b, lambda counts: (share * counts).ceil().long(), edit, math.ceil(share * m))
    assert torch.equal(bounded, floor)
    scores = (a @ b.T).masked_fill(mask, -math.inf)
    expected, counts = [], []
    for row in scores:
        ranked_scores = row[~row.isneginf()].sort(descending=True).values
        top_scores = ranked_scores[: math.ceil(share * len(ranked_scores) - 1e-9)]
        expected.append(top_scores.sum())
        counts.append(len(top_scores))
    total, counted = sum_above(a, b, floor, edit)
    assert counted.tolist() == counts
    compare(total, torch.stack(expected), (a, b))


def test_rows_of_which_nothing_counts_have_no_gradient():
    a, b = rows(3, 0), rows(4, 1)
    out = log_sum_exp(a, b, CandidateMask(zeros(3, 1).long(), zeros(4).long()))
    assert out.isneginf().all()
    torch.where(out.isneginf(), 0, out).sum().backward()
    assert a.grad.abs().max() == 0 and b.grad.abs().max() == 0
