"""The momentum encoder: its weights follow the encoder's slowly, and no gradient reaches it."""

import copy

import torch
from torch import Tensor, nn

from sentemb.forward import Features, TrainingEncoder


class MomentumEncoder(nn.Module):
    """A copy of the encoder and its head whose weights are an exponential moving average of theirs.

    It sees dropout masks of its own. Source: He et al. 2020 (MoCo), arXiv 1911.05722, eq. 2.
    """

    def __init__(self, embedder: TrainingEncoder) -> None:
        super().__init__()
        mlm, embedder.mlm = embedder.mlm, None  # (the momentum encoder has no side task)
        self.embedder = copy.deepcopy(embedder).requires_grad_(False)
        embedder.mlm = mlm

    @torch.no_grad()
    def forward(self, *features: Features) -> Tensor:
        """Embeddings as the encoder's own forward gives them."""
        output = self.embedder(*features)
        return output[0] if isinstance(output, tuple) else output

    @torch.no_grad()
    def follow(self, embedder: TrainingEncoder, momentum: float) -> None:
        """weight = momentum * weight + (1 - momentum) * the encoder's, of all that it trains."""
        newest = dict(embedder.named_parameters())
        for name, weight in self.embedder.named_parameters():
            if newest[name].requires_grad:
                weight.lerp_(newest[name].detach(), 1 - momentum)
