"""The training forward: token rows to embeddings, equal to the saved model's ``encode`` and faster."""

from sentemb.forward.collate import Features, collate_tokens
from sentemb.forward.dropout import seed_dropout
from sentemb.forward.encoder import ATTENTIONS, TrainingEncoder, pooled_without_prompts
from sentemb.forward.host_copies import to_device
from sentemb.forward.masked_lm import MaskedWords
from sentemb.forward.packed import hidden_states
from sentemb.forward.products import product_library, quick_linear
from sentemb.forward.stacked import StackedEncoder, stack_bytes, stacking_shape

__all__ = [
    "ATTENTIONS",
    "TrainingEncoder",
    "Features",
    "MaskedWords",
    "StackedEncoder",
    "collate_tokens",
    "hidden_states",
    "pooled_without_prompts",
    "product_library",
    "quick_linear",
    "seed_dropout",
    "stack_bytes",
    "stacking_shape",
    "to_device",
]
