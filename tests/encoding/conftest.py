"""What the tests of encoding share."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from sentemb.encoders import Prompts, set_prompts, two_towers

WORDS = ("cat", "dog", "king", "queen", "ship", "train", "doctor", "lawyer", "poet")
# documents of sentences of many lengths, with copies within a document and from one to another
DOCUMENTS = [
    [f"The {a} {'very ' * (i * j % 5)}slowly sees a {b}." for j, b in enumerate(WORDS)] + ["Yes, sir?", f"A {a}?"] * 2
    for i, a in enumerate(WORDS)
]
TEXTS = [text for document in DOCUMENTS for text in document]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text_file(tmp_path):
    """DOCUMENTS as a file."""
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join("\n".join(document) for document in DOCUMENTS), encoding="utf-8")
    return path


@pytest.fixture
def models(encoder, tiny):
    """Makes a model by its kind: static, lstm, gru, transformer (of unit length, with prompts), towers."""

    def make(kind: str) -> SentenceTransformer:
        random = "embeddings=random,dim=10,vocabulary=280"
        specs = {
            "static": f"static:{random}",
            "dense": f"static:{random},out=16",
            "lstm": f"rnn:hidden=8,{random}",
            "gru": f"rnn:cell=gru,hidden=8,{random},pooling=final",
        }
        if kind in specs:
            return encoder(specs[kind], 64)
        if kind == "towers":
            towers = two_towers(encoder(specs["lstm"], 64), encoder(specs["gru"], 64))
            set_prompts(towers, Prompts("query: ", ""))
            return towers
        torch.manual_seed(0)
        modules = [Transformer(tiny, max_seq_length=24), Pooling(32, "mean"), Normalize()]
        prompts = {"query": "query: ", "document": "passage: "}
        return SentenceTransformer(modules=modules, prompts=prompts, default_prompt_name="query", device="cpu")

    return make
