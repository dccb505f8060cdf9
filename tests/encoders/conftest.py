"""A small BERT whose WordPiece vocabulary is a few words and the letters."""

import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]
WORDS = ["the", "rain", "on", "it", "went", "cafe", "new", "in", ".", ",", "!", "##ing", "##ter"]
LETTERS = [mark + letter for mark in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def wrapped(tokenizer, names):
    """The tokenizer for transformers; ``names`` of its special tokens: pad, unk, cls, sep, mask."""
    kinds = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    ends = [(name, tokenizer.token_to_id(name)) for name in names[2:4]]
    tokenizer.post_processor = processors.TemplateProcessing(f"{names[2]} $A {names[3]}", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(kinds, names, strict=True)))


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """The folder of a BERT with random weights and a vocabulary of a few words."""
    folder, vocabulary = tmp_path_factory.mktemp("bert"), [*SPECIAL, *LETTERS, *WORDS]
    tokenizer = Tokenizer(WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, initializer_range=0.3, **SIZES)
    BertModel(config).save_pretrained(folder)
    wrapped(tokenizer, SPECIAL[:5]).save_pretrained(folder)
    return folder
