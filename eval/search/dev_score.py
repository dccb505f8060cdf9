"""Search as the score by which a training run chooses its best model."""

from eval.search.sampling import search_sample
from eval.search.scorer import search_items
from eval.search.task import SearchTask
from sentemb.validation import CachedEncoder, DevScore, sides_of

QUERIES, PASSAGES = 500, 2500  # that a model is scored on at each evaluation, at most
NAMES = {"nDCG@10": "search_ndcg_at_10", "MRR@10": "search_mrr_at_10"}  # in the log


def search_dev_score(task: SearchTask, queries: int = QUERIES, passages: int = PASSAGES) -> DevScore:
    """nDCG@10 of a fixed sample of a task: ``sentemb.train(..., dev=search_dev_score(task))``.

    The sample is drawn once, by a fixed seed, and is the same at each evaluation and in each run. Queries and passages
    are encoded as they are at the end: with the prompt of each side, or by each tower.

    Args:
        task: with queries that are not those that the model is scored on in the end.
        queries, passages: of the sample; passages judged for the queries are always in it.
    """
    sampled = search_sample(task, queries, passages)

    def scores(encode: CachedEncoder) -> dict[str, float]:
        items = search_items(sides_of(encode.model, encode), sampled, k=10)
        return {name: float(items[title].values.mean()) for title, name in NAMES.items()}

    return DevScore(NAMES["nDCG@10"], lambda model: scores(CachedEncoder(model)), "search", scores)
