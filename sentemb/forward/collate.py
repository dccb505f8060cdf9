"""Token rows of a batch as the padded features that an encoder takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding, WordEmbeddings
from torch import Tensor

from sentemb.encoders import OnnxEncoder, towers_of

# Tensors, and what the host knows of them: ``prompt_lengths``, the tokens in each column's prompt; ``lengths``, those
# in each row, as an array; and ``token_count``, those of all rows.
Features = dict[str, Any]
OF_HOST = frozenset({"prompt_lengths", "lengths", "token_count"})


def tensors_of(features: Features) -> Features:
    """The features without what the host knows of them."""
    return {name: value for name, value in features.items() if name not in OF_HOST}


def collate_tokens(model: SentenceTransformer, rows: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Token rows (``[length]`` ids each) as the features an encoder's first module takes, padded to the longest."""
    first: Any = towers_of(model)[0][0]
    lengths = torch.tensor([len(row) for row in rows])
    if isinstance(first, StaticEmbedding):
        flat = np.concatenate(rows).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
        return {"input_ids": torch.from_numpy(flat), "offsets": lengths.cumsum(0) - lengths}
    pad = 0
    if isinstance(first, OnnxEncoder):
        pad = first.pad_id
    elif not isinstance(first, WordEmbeddings):
        pad = first.tokenizer.pad_token_id or 0
    ids = np.full((len(rows), max(1, int(lengths.max()))), pad, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    features = {"input_ids": torch.from_numpy(ids), "attention_mask": mask}
    return features | {"sentence_lengths": lengths} if isinstance(first, WordEmbeddings) else features
