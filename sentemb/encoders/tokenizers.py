"""The Rust tokenizer of an encoder, and how many tokens the encoder reads."""

from typing import Any, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding, WordEmbeddings
from tokenizers import Tokenizer, processors

from sentemb.encoders.onnx import OnnxEncoder
from sentemb.encoders.two_tower import towers_of
from sentemb.errors import InputError

UNLIMITED = 1 << 20  # tokens: models without a limit give infinity, or such numbers as 1e30


def max_tokens_of(model: Any) -> int | None:
    """Tokens that a model's ``encode`` reads of a text, at most; None: there is no limit."""
    first = towers_of(model)[0][0] if isinstance(model, SentenceTransformer) else None
    if isinstance(first, StaticEmbedding):  # (whose max_seq_length is always infinity)
        truncation = first.tokenizer.truncation
        return int(truncation["max_length"]) if truncation else None
    limit = getattr(model, "max_seq_length", None)
    return int(limit) if limit is not None and limit < UNLIMITED else None


def tokenizer_of(model: SentenceTransformer) -> Tokenizer:
    """The Rust tokenizer of an encoder, with the special tokens that ``encode`` adds and no padding."""
    first: Any = towers_of(model)[0][0]
    if isinstance(first, StaticEmbedding):
        tokenizer = Tokenizer.from_str(first.tokenizer.to_str())
        tokenizer.post_processor = processors.Sequence([])  # its encode adds no special tokens
    elif isinstance(first, OnnxEncoder):
        tokenizer = Tokenizer.from_str(first.tokenizer.to_str())
    else:
        wrapped = first.tokenizer
        if isinstance(first, WordEmbeddings):
            wrapped = cast(Any, wrapped).tokenizer
        if not hasattr(wrapped, "backend_tokenizer"):
            raise InputError("this model's tokenizer is not a fast tokenizer, which training needs; choose another")
        tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
