"""The transformer's training forward without padding: linear layers see real tokens only, attention is padded inside.

A padded batch wastes what its short sentences lack. Here the tokens of all sentences go through a transformer as one
row ``[1, tokens]``; only the attention, a small share of the work, puts each sentence back into its own row. It works
for every model of transformers that takes its attention from their table of implementations and gets its positions
as ``position_ids``; :func:`offset_of` tries it against the padded forward, and says no where the two differ.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from sentemb.forward.collate import Features
from sentemb.forward.dropout import drop, dropped, quick_dropout, random_numbers
from sentemb.forward.products import quick_linear
from sentemb.geometry import reads_are_free

NAME = "sentemb_packed"
flash_attention = torch.ops.aten._flash_attention_forward  # (q, k, v, starts of rows of q, of k, longest of both, ...)
softmax_slope = torch.ops.aten._softmax_backward_data  # (gradient, output, dimension, type of the input)


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a padded ``[n, L]`` batch lie."""

    places: Tensor  # int64 [tokens], into n * L
    rows: int
    length: int
    bias: Tensor | None  # [n, 1, 1, L], -inf at padding; None without any padding
    starts: Tensor | None = None  # int32 [n + 1], of each row among the tokens, and their end; on a GPU only

    @classmethod
    def of(cls, mask: Tensor, count: int | None = None) -> "Packing":
        """Of an attention mask ``[n, L]``, 1 at its ``count`` tokens (None: to be counted)."""
        rows, length = mask.shape
        if count is None or reads_are_free(mask):
            places = mask.flatten().nonzero()[:, 0]
        else:
            places = torch.nonzero_static(mask.flatten(), size=count)[:, 0]
        bias = None
        if len(places) < rows * length:
            bias = torch.zeros(mask.shape, device=mask.device).masked_fill(mask == 0, -torch.inf)[:, None, None]
        starts = None
        if mask.device.type == "cuda":
            starts = nn.functional.pad(mask.sum(dim=1).cumsum(0), (1, 0)).to(torch.int32)
        return cls(places, rows, length, bias, starts)

    def padded(self, x: Tensor) -> Tensor:
        """``[tokens, ...]`` to ``[n, L, ...]``, zero at padding."""
        out = x if self.bias is None else _Spread.apply(x, self.places, self.rows * self.length)
        return out.view(self.rows, self.length, *x.shape[1:])

    def packed(self, x: Tensor) -> Tensor:
        """``[n, L, ...]`` to ``[tokens, ...]``."""
        flat = x.reshape(self.rows * self.length, *x.shape[2:])
        return flat if self.bias is None else _Collect.apply(flat, self.places)

    def places_of_heads(self, heads: int) -> Tensor:
        """Where each head's part of each token lies in a padded ``[n, heads, L]``: int64 ``[tokens * heads]``."""
        first = (self.places // self.length * heads)[:, None] + torch.arange(heads, device=self.places.device)
        return (first * self.length + (self.places % self.length)[:, None]).flatten()


class _Spread(torch.autograd.Function):
    """Rows to their places among zeros. Places are distinct, so that its gradient is a plain selection."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        return _spread(x, places, size)

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
        return _spread(slopes[0], places, ctx.size), None


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
    if packing.starts is not None and takes_rows_of_any_length(query):
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, e]
        rows = (packing.starts, packing.starts, packing.length, packing.length)
        return flash_attention(q, k, v, *rows, dropout, False, False, scale=scaling)[0][None], None
    if dropout and query.device.type == "cpu":
        q, k, v = (x[0].transpose(0, 1).reshape(-1, x.shape[3]) for x in (query, key, value))  # [tokens * heads, e]
        shape = (packing.rows, query.shape[1], packing.length, packing.length)
        scale = scaling if scaling is not None else query.shape[3] ** -0.5
        out = _DroppedAttention.apply(q, k, v, packing, random_numbers(shape), dropout, scale)
        return out.view(1, query.shape[2], query.shape[1], -1), None
    q, k, v = (packing.padded(x[0].transpose(0, 1)).transpose(1, 2) for x in (query, key, value))  # [n, heads, L, e]
    bias = None if packing.bias is None else packing.bias.to(q.dtype)
    if dropout:
        out = _attend_with_dropout(q, k, v, bias, dropout, scaling)
    else:
        out = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scaling)
    return packing.packed(out.transpose(1, 2))[None], None


def takes_rows_of_any_length(query: Tensor) -> bool:
    """Whether torch's own attention over rows of different lengths (flash) has a kernel for these."""
    return (
        query.device.type == "cuda"
        and torch.version.hip is None
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _attend_with_dropout(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, scaling: float | None
) -> Tensor:
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[3] ** -0.5)  # [n, heads, L, L]
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return drop(weights, p) @ v


class _DroppedAttention(torch.autograd.Function):
    """Attention with dropout of packed rows ``[tokens * heads, e]``, on a CPU.

    Each row is copied once, from where a linear layer left it to where batched products read it, and once back.
    Autograd's own way to the same numbers copies again before each product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        packing: Packing,
        numbers: Tensor,
        p: float,
        scale: float,
    ) -> Tensor:
        places = packing.places_of_heads(numbers.shape[1])
        batch = numbers.shape[:2].numel(), numbers.shape[3]  # n * heads, L
        q, k, v = (_spread(x, places, math.prod(batch)).view(*batch, -1) for x in (query, key, value))
        scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale).view(numbers.shape)  # [n, heads, L, L]
        weights = torch.softmax(scores if packing.bias is None else scores.add_(packing.bias), dim=-1)
        dropped_weights = dropped(weights, numbers, p).flatten(0, 1)
        ctx.save_for_backward(q, k, v, places, weights, numbers, dropped_weights)
        ctx.p, ctx.scale = p, scale
        return torch.bmm(dropped_weights, v).flatten(0, 1).index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, places, weights, numbers, dropped_weights = ctx.saved_tensors
        slope = _spread(slopes[0], places, v.shape[:2].numel()).view(v.shape)
        of_weights = dropped(torch.bmm(slope, v.transpose(1, 2)).view(weights.shape), numbers, ctx.p)
        of_scores = softmax_slope(of_weights, weights, -1, weights.dtype).mul_(ctx.scale).flatten(0, 1)
        of_inputs = (
            torch.bmm(of_scores, k),
            torch.bmm(of_scores.transpose(1, 2), q),
            torch.bmm(dropped_weights.transpose(1, 2), slope),
        )
        return *(x.flatten(0, 1).index_select(0, places) for x in of_inputs), None, None, None, None


def _spread(x: Tensor, places: Tensor, size: int) -> Tensor:
    """Rows at their places among ``size`` rows of zeros."""
    return x.new_zeros(size, *x.shape[1:]).index_copy_(0, places, x)


AttentionInterface.register(NAME, attend)


# ---- dropout


@contextmanager
def with_attention(model: nn.Module, attention: str) -> Iterator[None]:
    """Give a transformer another implementation of attention meanwhile."""
    config: Any = model.config
    before = config._attn_implementation
    config._attn_implementation = attention
    try:
        yield
    finally:
        config._attn_implementation = before


def packed_forward(module: Transformer, features: Features, offset: int, count: int | None = None) -> Features:
    """A Transformer module's forward of padded features with no work on the padding of its linear layers.

    ``count``: tokens that are not padding; None: to be counted, which waits for the features' device.

    Returns:
        The features with ``token_embeddings`` ``[n, L, d]``, zero at padding; with ``all_layer_embeddings``, too, as
        the module has them, where the model's config asks for the states of all layers.
    """
    packing = Packing.of(features["attention_mask"], count)
    output = _packed_output(module, features, offset, packing)
    made = features | {"token_embeddings": packing.padded(output.last_hidden_state[0])}  # of [tokens, d]
    if module.auto_model.config.output_hidden_states:
        made["all_layer_embeddings"] = tuple(packing.padded(states[0]) for states in output.hidden_states)
    return made


def hidden_states(module: Transformer, features: Features, offset: int | None) -> list[Tensor]:
    """The word embeddings and each layer's hidden states ``[n, L, d]``, as many as transformers' ``hidden_states``.

    Args:
        module: a transformer.
        features: padded ones.
        offset: as :func:`offset_of` gives it; the states are zero at padding then. None: the model's own forward.
    """
    if offset is None:
        taken = {name: features[name] for name in ("input_ids", "attention_mask")}
        with quick_linear(module.auto_model):
            return list(module.auto_model(**taken, output_hidden_states=True).hidden_states)
    packing = Packing.of(features["attention_mask"])
    states = _packed_output(module, features, offset, packing, output_hidden_states=True).hidden_states
    return [packing.padded(tokens[0]) for tokens in states]


def _packed_output(module: Transformer, features: Features, offset: int, packing: Packing, **more: Any) -> Any:
    """What the transformer returns of a packed batch, its states ``[1, tokens, d]``."""
    mask = features["attention_mask"]
    where = torch.arange(offset, offset + mask.shape[1], device=mask.device).expand_as(mask)
    with with_attention(module.auto_model, NAME), quick_dropout(module.auto_model), quick_linear(module.auto_model):
        return module.auto_model(
            input_ids=features["input_ids"].flatten()[packing.places][None],
            position_ids=where.flatten()[packing.places][None],
            packing=packing,
            **more,
        )


@torch.no_grad()
def offset_of(module: Transformer) -> int | None:
    """The first position id of a packed sentence if the packed forward equals the padded one, else None.

    BERT counts positions from 0, RoBERTa from the id of its padding token + 1.
    """
    model = module.auto_model
    device = model.device
    lengths = torch.tensor([3, 7, 5], device=device)
    mask = (torch.arange(7, device=device) < lengths[:, None]).long()
    pad = int(getattr(model.config, "pad_token_id", None) or 0)
    size = int(cast(Any, model).get_input_embeddings().weight.shape[0])
    ids = torch.arange(21, device=device).view(3, 7) * 13 % max(1, size - 10) + min(9, size - 1)
    features = {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask}
    training = model.training
    model.eval()
    try:
        expected = module(dict(features))["token_embeddings"] * mask[:, :, None]
        for offset in dict.fromkeys((0, pad + 1)):
            try:
                packed = packed_forward(module, features, offset)["token_embeddings"]
            except Exception:  # each architecture has its own way not to know our attention
                return None
            if torch.allclose(packed, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
                return offset
        return None
    finally:
        model.train(training)
