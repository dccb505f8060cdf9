"""Geometry of embeddings on the unit sphere. One implementation each, used as loss and as metric.

Pure functions of ``[n, d]`` tensors whose rows have unit length (the caller normalises: :func:`l2_normalize`), computed
in at least float32. Sources: Wang & Isola 2020 (arXiv 2005.10242) where no other is named; retrieval as in TREC's mean
reciprocal rank.
"""

import math
from collections.abc import Callable

import torch
from scipy.special import hyp0f1
from torch import Tensor

from sentemb.geometry.candidate_mask import CandidateMask
from sentemb.geometry.host_reads import reads_are_free
from sentemb.geometry.tiled_scores import log_sum_exp, log_sum_exp_of_band


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of ``x`` ``[n, d]`` scaled to unit length, float32 or wider. A zero row stays zero and gets no gradient."""
    x = _wide(x)
    length = x.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-12, x / length.clamp_min(1e-12), 0)


def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean distance of positive pairs to the power ``alpha``: E ||x - y||^alpha.

    Args:
        x, y: ``[n, d]``, rows i are a positive pair, of unit length.
        alpha: exponent of the Euclidean distance, > 0; the paper uses 2.

    Returns:
        Scalar in [0, 2^alpha]; lower is better aligned. Source: Wang & Isola 2020, section 4.1.

    Raises:
        ValueError: shapes differ or there is no row.
    """
    if x.ndim != 2 or x.shape != y.shape or not len(x):
        raise ValueError(f"alignment needs two [n >= 1, d] of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    squared = (_wide(x) - _wide(y)).square().sum(dim=1)  # [n]
    if alpha == 2:
        return squared.mean()
    # The clamp keeps the gradient of s^(alpha / 2) finite where a positive pair coincides.
    return squared.clamp_min(1e-12).pow(alpha / 2).mean()


def uniformity(x: Tensor, t: float = 2.0, block: int | None = None, ids: Tensor | None = None) -> Tensor:
    """How evenly rows cover the sphere: log mean exp(-t ||x_i - x_j||^2) over the n(n - 1) / 2 pairs i < j.

    Args:
        x: ``[n, d]``, rows of unit length.
        t: sharpness of the Gaussian kernel, per squared distance; the paper uses 2.
        block: rows worked on at a time, memory is a few times ``block * block`` numbers; None: a good one.
        ids: int64 ``[n]`` or None; pairs of rows with equal ids (copies of a sentence) are left out, too.

    Returns:
        Scalar in nats, between -4t and 0; lower is more even, 0 means one single point.
        The best a distribution can do in d dimensions is :func:`uniformity_optimum`. Worked out a tile at a time, with
        and without gradients. Source: Wang & Isola 2020, section 4.1.2; self-pairs excluded, as in the authors' code
        (pdist).

    Raises:
        ValueError: ``x`` is not 2-D or has fewer than two rows, or all ids are equal.
    """
    copies, log_pairs = _copies(x, ids)
    x = _wide(x)
    bias = -t * x.square().sum(dim=1)  # -t ||x_i - x_j||^2 = 2t x_i . x_j - t ||x_i||^2 - t ||x_j||^2
    sums = log_sum_exp(x, x, copies, 2 * t, bias, bias, above=True, block=block)  # [n]
    return _log_mean(sums, log_pairs)


def uniformity_of_rows(
    x: Tensor,
    rows: slice,
    join: Callable[[Tensor], Tensor],
    t: float = 2.0,
    block: int | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """:func:`uniformity` of all rows, of which this call computes the pairs of ``rows`` alone: n / 2 for each row.

    Row i takes the pairs with the n / 2 rows behind it (in a circle), so that each pair is of one row and all rows have
    as many.

    Args:
        x, t, block, ids: as there, the same in all calls.
        rows: of this call; other calls, in other processes, take the others.
        join: from log sums of ``rows`` to those of all rows ``[n]``, with gradients.

    Returns:
        As there, in each call. Raises as there.
    """
    copies, log_pairs = _copies(x, ids)
    x, n = _wide(x), len(x)
    reach, further = n // 2, max(0, rows.stop + n // 2 - n)  # columns behind a row; those that begin at row 0 again
    bias = -t * x.square().sum(dim=1)

    def behind(values: Tensor) -> Tensor:
        """``[rows + reach, ...]``, from the first of ``rows`` on."""
        return torch.cat([values[rows.start : rows.stop + reach], values[:further]])

    if ids is not None and copies is not None:
        copies = CandidateMask(ids[rows, None], behind(ids))
    row = torch.arange(rows.stop - rows.start, device=x.device)
    last = row + reach  # the last column that is the row's
    if n % 2 == 0:  # each of two rows n / 2 apart is behind the other: their pair is the first one's
        last = last - (row + rows.start >= reach).long()

    def out(scores: Tensor, part: slice, columns: slice) -> None:
        if columns.start < part.stop or columns.stop > part.start + reach:  # else the tile is within the borders
            column = torch.arange(columns.start, columns.stop, device=x.device)
            scores.masked_fill_((column <= row[part, None]) | (column > last[part, None]), -math.inf)
        if copies is not None:
            copies(scores, part, columns)

    sums = log_sum_exp_of_band(x[rows], behind(x), out, reach, 2 * t, bias[rows], behind(bias), block)
    return _log_mean(join(sums), log_pairs)


def _log_mean(sums: Tensor, log_pairs: float | Tensor) -> Tensor:
    """Of the log sums of rows, over their pairs (log of twice their number); 0, with gradient 0, where none counts."""
    if not isinstance(log_pairs, Tensor):
        return sums.logsumexp(dim=0) + math.log(2) - log_pairs
    nothing = log_pairs.isneginf()
    mean = sums.masked_fill(nothing, 0).logsumexp(dim=0) + math.log(2) - log_pairs.masked_fill(nothing, 0)
    return mean.masked_fill(nothing, 0).to(sums.dtype)


def _copies(x: Tensor, ids: Tensor | None) -> tuple[CandidateMask | None, float | Tensor]:
    """The mask of copies among rows ``x``, where there are any, and log of how many of the n^2 pairs count.

    A number that would be waited for is not read: it stays a tensor, -inf where all are copies of one.

    Raises:
        ValueError: ``x`` is not 2-D or has fewer than two rows, or all are copies of one.
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"uniformity needs [n >= 2, d], got {tuple(x.shape)}")
    n = len(x)
    if ids is not None and not reads_are_free(ids):
        ordered = ids.sort().values
        alike = torch.searchsorted(ordered, ids, right=True) - torch.searchsorted(ordered, ids)  # of each, itself too
        wide = torch.float32 if ids.device.type == "mps" else torch.float64  # (mps has no float64)
        return CandidateMask(ids[:, None], ids), (n * n - alike.sum()).to(wide).log()
    if ids is None or (left_out := int(ids.unique(return_counts=True)[1].square().sum())) <= n:
        return None, math.log(n * n - n)
    if left_out == n * n:
        raise ValueError(f"uniformity needs two different sentences, got {n} copies of one")
    return CandidateMask(ids[:, None], ids), math.log(n * n - left_out)


def uniformity_optimum(dimension: int, t: float = 2.0) -> float:
    """Uniformity (nats) of the uniform distribution on the sphere in ``dimension`` dimensions: the least possible.

    -2t + log 0F1(; d/2; t^2). Source: Wang & Isola 2020, Corollary 1. For t = 2: -1.5750 (d = 2), -3.9375 (d = 128).
    A finite sample can go slightly below it, as self-pairs are left out.
    """
    return -2 * t + math.log(float(hyp0f1(dimension / 2, t * t)))


def mean_cosine(x: Tensor) -> Tensor:
    """Mean inner product of distinct rows of ``x`` ``[n >= 2, d]`` (unit rows: mean cosine). 0 for an even spread."""
    x = _wide(x)
    total = x.sum(dim=0).square().sum() - x.square().sum()
    return total / (len(x) * (len(x) - 1))


def spread(x: Tensor) -> Tensor:
    """Standard deviation of a coordinate, mean over them, times sqrt(d): 1 for an even spread, 0 if collapsed."""
    return _wide(x).std(dim=0, correction=0).mean() * math.sqrt(x.shape[1])


def tolerance(x: Tensor, labels: Tensor, block: int = 8192) -> Tensor:
    """Mean inner product of distinct rows of one class: how near a class's members stay. High where clusters are kept.

    Args:
        x: ``[n, d]``, rows of unit length. labels: ``[n]`` whole numbers.
        block: rows worked on at a time; memory is ``(classes + block) * d``.

    Returns:
        Scalar in [-1, 1], in float64; NaN where no class has two rows. Source: Wang & Liu 2021 (arXiv 2012.09740),
        equation 11, as the mean over the pairs of one class, which is what their table holds.
    """
    classes, class_of_row = labels.unique(return_inverse=True)
    sums = torch.zeros(len(classes), x.shape[1], dtype=torch.float64, device=x.device)
    squares = sums.new_zeros(())
    for part, place in zip(x.split(block), class_of_row.split(block), strict=True):
        sums.index_add_(0, place, part.double())
        squares += part.double().square().sum()
    counts = class_of_row.bincount()
    pairs = (counts * (counts - 1)).sum()
    return (sums.square().sum() - squares) / pairs  # 0 / 0 is NaN


def effective_rank(x: Tensor, block: int = 8192) -> Tensor:
    """exp of the entropy (nats) of the singular values' shares: how many directions the rows really use.

    Args:
        x: ``[n, d]``, taken as it is (not centred). block: rows worked on at a time; memory is ``d * (d + block)``.

    Returns:
        Scalar in [1, min(n, d)], float64; 1 for collapsed rows. Source: Roy & Vetterli 2007, definition 1.
    """
    gram = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for part in x.split(block):
        part = part.double()
        gram.addmm_(part.T, part)
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = values / values.sum().clamp_min(1e-300)
    return torch.special.entr(share).sum().exp()


def retrieval(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Find each row's positive among all rows of the other side by inner product.

    Args:
        x, y: ``[n, d]``, rows i are a positive pair, of unit length; all rows of ``y`` are candidates of ``x_i``.

    Returns:
        (mean reciprocal rank, recall at 1), each in (0, 1], of :func:`ranks_of_positives`.
    """
    rank = ranks_of_positives(x, y)
    return (1 / rank).mean().item(), (rank == 1).double().mean().item()


def ranks_of_positives(x: Tensor, y: Tensor) -> Tensor:
    """The rank ``[n]`` of ``y_i`` among all rows of ``y`` by inner product with ``x_i``; 1 is nearest.

    Arguments: see :func:`retrieval`. Ties take their mean rank, so that a collapsed encoder scores as chance does and
    not as perfect. A block of rows at a time.
    """
    x, y = _wide(x), _wide(y)
    ranks = []
    step = max(64, 2**22 // max(1, len(y)))
    for start in range(0, len(x), step):
        scores = x[start : start + step] @ y.T  # [step, n]
        itself = torch.arange(start, start + len(scores), device=x.device)[:, None]
        best = scores.gather(1, itself)
        ranks.append(1 + (scores > best).sum(dim=1) + ((scores == best).sum(dim=1) - 1) / 2)
    return torch.cat(ranks)


def relative_penalty(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """How the contrastive loss shares its push among an anchor's negatives: r_ij = exp(s_ij) / sum_{k != i} exp(s_ik).

    It is the negative's share of the gradient, |dL/ds_ij| / |dL/ds_ii|: the gradients of all negatives add up to that
    of the positive. The nearer zero the temperature, the more of it the nearest negatives get.

    Args:
        x, y: ``[n, d]``, rows of unit length, rows i are a positive pair. temperature: > 0.

    Returns:
        ``[n, n]``, 0 on the diagonal, rows that add up to 1. Source: Wang & Liu 2021 (arXiv 2012.09740), eq. 5.
    """
    scores = _wide(x) @ _wide(y).T / temperature
    return scores.fill_diagonal_(-math.inf).softmax(dim=1)


def penalty_entropy(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Entropy (nats) of each anchor's :func:`relative_penalty`, ``[n]``; its exp is how many negatives really count.

    Between 0 (the nearest one) and log(n - 1) (all alike), growing with the temperature. A block of rows at a time.
    Arguments as there. Source: Wang & Liu 2021, section 3.2.
    """
    x, y, entropies = _wide(x), _wide(y), []
    step = max(64, 2**22 // max(1, len(y)))
    for start in range(0, len(x), step):
        scores = x[start : start + step] @ y.T / temperature
        itself = torch.arange(start, start + len(scores), device=x.device)[:, None]
        entropies.append(torch.special.entr(scores.scatter(1, itself, -math.inf).softmax(dim=1)).sum(dim=1))
    return torch.cat(entropies)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
