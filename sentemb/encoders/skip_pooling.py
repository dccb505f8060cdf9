"""Pooling next to a pooling of the word embeddings themselves. Checkpoints with it load with ``sentemb.load``."""

from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Pooling

from sentemb.errors import InputError


class SkipPooling(Pooling):
    """Pooling of a recurrent stack's states, after the sentence embedding that was made before the stack.

    In ``[WordEmbeddings, Pooling, LSTM, SkipPooling]`` the first pooling is over the word embeddings, so that a
    connection skips the recurrence: what a sentence's words are is in the embedding whatever the states learn. A module
    of sentemb, as the stock Pooling overwrites the embedding that it is given.

    Args:
        embedding_dimension: of the states of a token. pooling_mode, include_prompt: see the stock Pooling.
        skip_dimension: of the embedding that comes first.

    Source: the skip connections of He et al. 2016 (arXiv 1512.03385), joined side by side as in Huang et al. 2017
    (arXiv 1608.06993).
    """

    config_keys: list[str] = [*Pooling.config_keys, "skip_dimension"]
    config_file_name: str = "skip_pooling_config.json"

    def __init__(
        self, embedding_dimension: int, pooling_mode: Any = "mean", include_prompt: bool = True, skip_dimension: int = 0
    ) -> None:
        super().__init__(embedding_dimension, pooling_mode, include_prompt)
        self.skip_dimension = skip_dimension

    def forward(self, features: dict[str, Any], **more: Any) -> dict[str, Any]:
        """``sentence_embedding`` ``[n, skip_dimension + pooled]`` of that before and ``token_embeddings``."""
        skipped = features["sentence_embedding"]
        if skipped.shape[1] != self.skip_dimension:
            raise InputError(
                f"the embedding before the recurrence has {skipped.shape[1]} dimensions, its pooling says "
                f"{self.skip_dimension}; the checkpoint is damaged, copy it again"
            )
        pooled = super().forward(features, **more)["sentence_embedding"]
        return features | {"sentence_embedding": torch.cat([skipped, pooled], dim=1)}

    def get_embedding_dimension(self) -> int:
        """Of the sentence embedding."""
        return self.skip_dimension + int(super().get_embedding_dimension())
