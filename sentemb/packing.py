"""The transformer's training forward without padding: linear layers see real tokens only, attention is padded inside.

A padded batch wastes what its short sentences lack. Here the tokens of all sentences go through a transformer as one
row ``[1, tokens]``; only the attention, a small share of the work, puts each sentence back into its own row. It works
for every model of transformers that takes its attention from their table of implementations and gets its positions
as ``position_ids``; :func:`offset_of` tries it against the padded forward, and says no where the two differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "sentemb_packed"


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a padded ``[n, L]`` batch lie."""

    places: Tensor  # int64 [tokens], into n * L
    rows: int
    length: int
    bias: Tensor | None  # [n, 1, 1, L], -inf at padding; None without any padding

    @classmethod
    def of(cls, mask: Tensor) -> "Packing":
        """Of an attention mask ``[n, L]``, 1 at tokens."""
        rows, length = mask.shape
        places = mask.flatten().nonzero()[:, 0]
        bias = None
        if len(places) < rows * length:
            bias = torch.zeros(mask.shape, device=mask.device).masked_fill(mask == 0, -torch.inf)[:, None, None]
        return cls(places, rows, length, bias)

    def padded(self, x: Tensor) -> Tensor:
        """``[tokens, ...]`` to ``[n, L, ...]``, zero at padding."""
        out = x if self.bias is None else _Spread.apply(x, self.places, self.rows * self.length)
        return out.view(self.rows, self.length, *x.shape[1:])

    def packed(self, x: Tensor) -> Tensor:
        """``[n, L, ...]`` to ``[tokens, ...]``."""
        flat = x.reshape(self.rows * self.length, *x.shape[2:])
        return flat if self.bias is None else _Collect.apply(flat, self.places)


class _Spread(torch.autograd.Function):
    """Rows to their places among zeros. Places are distinct, so that its gradient is a plain selection."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, places, x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return slopes[0].index_select(0, places), None, None


class _Collect(torch.autograd.Function):
    """The inverse: rows at distinct places. (The gradient of plain indexing would add up, row by row.)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.size = len(x)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return slopes[0].new_zeros(ctx.size, *slopes[0].shape[1:]).index_copy_(0, places, slopes[0]), None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention within each sentence of a packed batch; the signature is transformers'.

    Args:
        query, key, value: ``[1, heads, tokens, head dimension]``.

    Returns:
        ``[1, tokens, heads, head dimension]``, and no weights.
    """
    special = any(more.get(name) is not None for name in ("sliding_window", "softcap", "position_bias"))
    if special or packing is None or attention_mask is not None or key.shape[1] != query.shape[1]:
        raise ValueError("this model's attention cannot be packed")
    q, k, v = (packing.padded(x[0].transpose(0, 1)).transpose(1, 2) for x in (query, key, value))  # [n, heads, L, e]
    bias = None if packing.bias is None else packing.bias.to(q.dtype)
    if dropout:
        out = _attend_with_dropout(q, k, v, bias, dropout, scaling)
    else:
        out = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scaling)
    return packing.packed(out.transpose(1, 2))[None], None


def _attend_with_dropout(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, scaling: float | None
) -> Tensor:
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[3] ** -0.5)  # [n, heads, L, L]
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return drop(weights, p) @ v


AttentionInterface.register(NAME, attend)


# ---- dropout

_STATE = {"rng": np.random.Generator(np.random.SFC64(0))}


def seed_dropout(seed: int) -> None:
    """Seed torch and the masks of :func:`drop` alike: the same seed before a forward gives the same masks."""
    torch.manual_seed(seed)
    _STATE["rng"] = np.random.Generator(np.random.SFC64(seed))


def drop(x: Tensor, p: float) -> Tensor:
    """Dropout of ``x``: elements are 0 with probability ``p`` (to 1/65,536), the others scaled by 1 / (1 - p).

    On a CPU the masks are random 16-bit numbers of numpy's SFC64: torch draws its own one element at a time on one
    core, which takes a fifth of a MiniLM step. Elsewhere it is torch's dropout.
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    drawn = _STATE["rng"].integers(0, 2**64, size=-(-x.numel() // 4), dtype=np.uint64, endpoint=False)
    numbers = torch.from_numpy(drawn.view(np.int16)[: x.numel()]).view(x.shape)
    kept = numbers >= round(p * 2**16) - 2**15  # int16 begins at -2^15
    return _Drop.apply(x, kept, 1 / (1 - p))


class _Drop(torch.autograd.Function):
    """x * kept * scale in one pass each way; the mask is kept as bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(x, kept, scale)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(slopes[0], kept, ctx.scale), None, None


@contextmanager
def quick_dropout(model: nn.Module) -> Iterator[None]:
    """Let every nn.Dropout of a model on a CPU draw its masks by :func:`drop` meanwhile."""
    modules = [m for m in model.modules() if isinstance(m, nn.Dropout) and m.training and m.p]
    for module in modules:
        module.forward = partial(_forward, module.p)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _forward(p: float, x: Tensor) -> Tensor:
    return drop(x, p)


@contextmanager
def using(model: nn.Module, attention: str) -> Iterator[None]:
    """Give a transformer another implementation of attention meanwhile."""
    config: Any = model.config
    before = config._attn_implementation
    config._attn_implementation = attention
    try:
        yield
    finally:
        config._attn_implementation = before
