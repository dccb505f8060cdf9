"""Held-out pairs of a corpus: their geometry and retrieval by an encoder, whose embeddings are made once."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.validation.cached_encoder import CachedEncoder, refuse_broken
    from sentemb.validation.comparison import ItemScores, compare_encoders, held_out_items
    from sentemb.validation.dev_score import RETRIEVAL, DevScore, held_out_scores
    from sentemb.validation.embedding_cache import EmbeddingCache, fingerprint
    from sentemb.validation.embedding_memory import EmbeddingMemory, Embeddings
    from sentemb.validation.examples import nearest_examples
    from sentemb.validation.held_out import (
        ONE_SIDE,
        TWO_TOWERS,
        HeldOutPairs,
        Sides,
        held_out_geometry,
        held_out_pairs,
        held_out_ranks,
        pair_geometry,
        sides_of,
        similarity_histograms,
    )
    from sentemb.validation.sphere import sphere_points
    from sentemb.validation.teacher_scores import LEAST_SENTENCES, TEACHER_SIMILARITY, TeacherReference
    from sentemb.validation.text_tokens import TextTokens

__all__ = [
    "ONE_SIDE",
    "TWO_TOWERS",
    "RETRIEVAL",
    "CachedEncoder",
    "DevScore",
    "EmbeddingCache",
    "EmbeddingMemory",
    "Embeddings",
    "HeldOutPairs",
    "ItemScores",
    "Sides",
    "LEAST_SENTENCES",
    "TEACHER_SIMILARITY",
    "TeacherReference",
    "TextTokens",
    "compare_encoders",
    "fingerprint",
    "held_out_geometry",
    "held_out_items",
    "held_out_pairs",
    "held_out_ranks",
    "held_out_scores",
    "nearest_examples",
    "pair_geometry",
    "refuse_broken",
    "sides_of",
    "similarity_histograms",
    "sphere_points",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CachedEncoder": "sentemb.validation.cached_encoder",
        "refuse_broken": "sentemb.validation.cached_encoder",
        **dict.fromkeys(("ItemScores", "compare_encoders", "held_out_items"), "sentemb.validation.comparison"),
        "nearest_examples": "sentemb.validation.examples",
        "sphere_points": "sentemb.validation.sphere",
        **dict.fromkeys(("RETRIEVAL", "DevScore", "held_out_scores"), "sentemb.validation.dev_score"),
        "EmbeddingCache": "sentemb.validation.embedding_cache",
        "fingerprint": "sentemb.validation.embedding_cache",
        **dict.fromkeys(("EmbeddingMemory", "Embeddings"), "sentemb.validation.embedding_memory"),
        **dict.fromkeys(
            (
                "ONE_SIDE",
                "TWO_TOWERS",
                "HeldOutPairs",
                "Sides",
                "held_out_geometry",
                "held_out_pairs",
                "held_out_ranks",
                "pair_geometry",
                "sides_of",
                "similarity_histograms",
            ),
            "sentemb.validation.held_out",
        ),
        **dict.fromkeys(
            ("LEAST_SENTENCES", "TEACHER_SIMILARITY", "TeacherReference"), "sentemb.validation.teacher_scores"
        ),
        "TextTokens": "sentemb.validation.text_tokens",
    },
)
