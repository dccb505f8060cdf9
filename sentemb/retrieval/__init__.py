"""Search over embeddings: the exact nearest passages of queries, and how good a ranking is by judgements."""

from sentemb.retrieval.metrics import CUT, ranking_scores
from sentemb.retrieval.nearest import NearestPassages, pair_scores, top_k

__all__ = ["CUT", "NearestPassages", "pair_scores", "ranking_scores", "top_k"]
