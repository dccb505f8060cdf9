"""Search over embeddings: the exact nearest passages of queries, and how good a ranking is by judgements."""

from sentemb.retrieval.metrics import CUT, ranking_scores
from sentemb.retrieval.nearest import NearestPassages, top_k

__all__ = ["CUT", "NearestPassages", "ranking_scores", "top_k"]
