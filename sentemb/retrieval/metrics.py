"""How good rankings are by graded judgements: nDCG, MRR, MAP and recall of each query, as trec_eval defines them.

Sources: Järvelin & Kekäläinen 2002 (ACM TOIS 20:4) for nDCG; Manning, Raghavan & Schütze 2008, Introduction to
Information Retrieval, chapter 8, for the others.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

CUT = 10  # ranks for nDCG and MRR


def ranking_scores(
    ranking: NDArray[np.int64],
    judgements: Sequence[Mapping[int, float]],
    cut: int = CUT,
    recall_at: Sequence[int] = (),
) -> dict[str, NDArray[np.float64]]:
    """Scores of each query.

    Args:
        ranking: ``[q, k]``, numbers of passages, the best first; -1 for none, after the others.
        judgements: for each query the grade of each passage that was judged. A passage is relevant if its grade is
            above 0; one without a grade is not.
        cut: ranks for nDCG and MRR, at most k. recall_at: more ranks for recall, at most k.

    Returns:
        ``[q]`` each, between 0 and 1:

        - ``ndcg@CUT``: the sum of grade / log2(1 + rank), over the same sum of the best ranking there is.
        - ``mrr@CUT``: 1 / rank of the first relevant passage; 0 where none is among the first ``cut``.
        - ``map@K``: the mean, over all relevant passages, of the precision at their ranks; 0 for one that is not among
          the k.
        - ``recall@K``: the share of the relevant passages that is among the k; one for each of ``recall_at``, too. Of
          queries with one relevant passage it is the top-k accuracy of Karpukhin et al. 2020 (arXiv 2004.04906).

    Raises:
        ValueError: a query without a relevant passage, which has no such score; a rank above k; another shape.
    """
    ranks_of_scores = (cut, *recall_at)
    within = ranking.ndim == 2 and min(ranks_of_scores) >= 1 and max(ranks_of_scores) <= ranking.shape[1]
    if not within or len(ranking) != len(judgements):
        raise ValueError(f"cannot score {ranking.shape} ranks of {len(judgements)} queries at {ranks_of_scores}")
    k = ranking.shape[1]
    grades = np.zeros(ranking.shape)
    ideal, relevant = np.zeros((len(ranking), cut)), np.zeros(len(ranking))
    for row, (ids, judged) in enumerate(zip(ranking.tolist(), judgements, strict=True)):
        positive = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
        if not positive:
            raise ValueError(f"query {row} has no relevant passage")
        grades[row] = [judged.get(number, 0.0) for number in ids]
        relevant[row] = len(positive)
        ideal[row, : len(positive)] = positive[:cut]
    grades = np.where(ranking < 0, 0, np.maximum(grades, 0))
    hits = grades > 0
    ranks = np.arange(1, k + 1)
    discount = 1 / np.log2(1 + ranks[:cut])
    first = np.where(hits[:, :cut].any(axis=1), 1 / (1 + hits[:, :cut].argmax(axis=1)), 0)
    return {
        f"ndcg@{cut}": (grades[:, :cut] @ discount) / (ideal @ discount),
        f"mrr@{cut}": first,
        f"map@{k}": (hits * hits.cumsum(axis=1) / ranks).sum(axis=1) / relevant,
        **{f"recall@{rank}": hits[:, :rank].sum(axis=1) / relevant for rank in (*recall_at, k)},
    }
