"""What fine-tuning adds to a pretrained model: low-rank adapters, and tokens for words of the text."""

from sentemb.encoders.fine_tuning.lora import (
    LoraAdapters,
    adapted_layers,
    copy_without_adapters,
    parse_lora,
    without_adapters,
)
from sentemb.encoders.fine_tuning.new_tokens import add_frequent_words

__all__ = [
    "LoraAdapters",
    "adapted_layers",
    "add_frequent_words",
    "copy_without_adapters",
    "parse_lora",
    "without_adapters",
]
