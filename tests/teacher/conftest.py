"""What the tests of teachers share."""

import pytest
import torch
from transformers import BertConfig, BertModel

from benchmarks.shapes import bert_tokenizer
from tests.conftest import SENTENCES


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    """The folder of a plain transformer of three layers, eight dimensions, random weights."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(max_position_embeddings=40, **sizes), add_pooling_layer=False).save_pretrained(folder)
    bert_tokenizer(SENTENCES).save_pretrained(folder)
    return str(folder)
