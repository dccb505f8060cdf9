"""Pooling by the final states of a bidirectional recurrent encoder. Checkpoints with it load with ``sentemb.load``."""

from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor


class FinalStates(Module):
    """Module that takes the forward half of the last token's states and the backward half of the first token's.

    These are the states in which the two directions of the top layer end: of an LSTM the h, not the c. An empty
    sentence has the states in which both begin, zero.

    A module of sentemb, because the stock Pooling cannot: its mode ``lasttoken`` finds the last token, but its mode
    ``cls`` takes ``cls_token_embeddings`` of the features for the first one, and the stock WordEmbeddings has set them
    to None.

    Args:
        embedding_dimension: of the states of a token, both directions: 2 * hidden.

    Raises:
        ValueError: it is odd.

    Source: Logeswaran & Lee 2018 (arXiv 1803.02893); Wang & Isola 2020 (arXiv 2005.10242), appendix B.3.
    """

    config_keys: list[str] = ["embedding_dimension"]
    config_file_name: str = "final_states_config.json"

    def __init__(self, embedding_dimension: int) -> None:
        super().__init__()
        if embedding_dimension % 2:
            raise ValueError(f"states of two directions have an even number of dimensions, not {embedding_dimension}")
        self.embedding_dimension = embedding_dimension

    def forward(self, features: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` ``[n, 2 * hidden]`` to ``token_embeddings`` ``[n, L, 2 * hidden]``."""
        states: Tensor = features["token_embeddings"]
        lengths = features["attention_mask"].sum(dim=1)  # [n]; padding is after the tokens
        half = self.embedding_dimension // 2
        ends = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, half)
        last = states[:, :, :half].gather(1, ends)[:, 0]
        final = torch.cat([last, states[:, 0, half:]], dim=1)
        # Not a product with the mask: what a recurrence leaves at padding need not be finite.
        return features | {"sentence_embedding": final.masked_fill((lengths == 0)[:, None], 0)}

    def get_embedding_dimension(self) -> int:
        """Of the sentence embedding."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **more: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)
