"""New tokens for the words of a domain that a finished model's tokenizer splits, begun as the mean of their pieces."""

import sys
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding, Transformer
from tokenizers import Tokenizer
from torch import Tensor, nn

from sentemb.encoders.frequent_words import Additions, cached_additions, extended, refuse_other_tokenizers
from sentemb.encoders.tokenizers import tokenizer_of
from sentemb.encoders.two_tower import towers_of
from sentemb.encoders.word_embeddings import Texts
from sentemb.errors import InputError
from sentemb.storage import shows_progress

LEAST = 5  # times that a word is in the texts, so that its token can be learned
SHOWN = 5  # words that the note names


def add_frequent_words(model: SentenceTransformer, texts: Texts, count: int) -> list[str]:
    """Add the most frequent words of the texts that the tokenizer splits to it, and a word embedding for each.

    A word's embedding is the mean of those of its pieces, so that the model begins near what it was. Words become
    entries of the WordPiece vocabulary: its longest match takes them, alone and as the beginning of longer words.
    The saved model has stock modules only.

    Args:
        model: a transformer or a static encoder, or two of them as towers; changed in place.
        texts: sentences.
        count: how many words are wanted; there are fewer where the texts have not as many, each LEAST times.

    Returns:
        The words, the most frequent first.

    Raises:
        InputError: another encoder, a tokenizer that is not WordPiece, or texts without such words.
    """
    option = f"--new-tokens {count}"
    towers = towers_of(model)
    for tower in towers:
        if not isinstance(tower[0], StaticEmbedding | Transformer):
            raise InputError(
                f"{option} is for transformer and static encoders, and this one begins with {type(tower[0]).__name__}; "
                "leave it out"
            )
    tokenizer = tokenizer_of(model)
    refuse_other_tokenizers(tokenizer, option, "encoder")
    additions = cached_additions(texts, tokenizer, count, 0, LEAST)
    words = additions.words
    if not words:
        raise InputError(
            f"{option}: the tokenizer splits no word that is {LEAST} times in the training sentences; leave it out"
        )
    pieces = [encoding.ids for encoding in tokenizer.encode_batch(words, add_special_tokens=False)]
    for tower in towers:
        _extend(tower, additions, pieces)
    if shows_progress():
        few = "" if len(words) == count else f" (the training sentences have no more that are there {LEAST} times)"
        more = ", ..." if len(words) > SHOWN else ""
        print(f"note: {len(words):,} new tokens{few}: {', '.join(words[:SHOWN])}{more}", file=sys.stderr)
    return words


@torch.no_grad()
def _extend(tower: SentenceTransformer, additions: Additions, pieces: list[list[int]]) -> None:
    """Give one tower the words, and the mean of the rows of its table for each."""
    first: Any = tower[0]
    if isinstance(first, StaticEmbedding):
        old, first.tokenizer = first.tokenizer, extended(first.tokenizer, additions)
        table = _with_means(first.embedding.weight, _next_id(old), pieces)
        first.embedding = nn.EmbeddingBag.from_pretrained(table, freeze=False)
        first.num_embeddings = len(table)
        return
    wrapped, transformer = first.tokenizer, first.auto_model
    old = wrapped.backend_tokenizer
    wrapped._tokenizer = extended(old, additions)
    table = _with_means(transformer.get_input_embeddings().weight, _next_id(old), pieces)
    transformer.resize_token_embeddings(len(table), mean_resizing=False)
    transformer.get_input_embeddings().weight.copy_(table)


def _next_id(tokenizer: Tokenizer) -> int:
    """The id that a new entry gets (:func:`extended`)."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def _with_means(table: Tensor, first: int, pieces: list[list[int]]) -> Tensor:
    """A table ``[n, d]`` with the rows ``first``, ``first + 1``, ... the mean of the rows of each word's pieces."""
    rows = max(len(table), first + len(pieces))
    made = table.new_zeros(rows, table.shape[1])
    made[: len(table)] = table
    for number, ids in enumerate(pieces, start=first):
        made[number] = table[ids].mean(dim=0)
    return made
