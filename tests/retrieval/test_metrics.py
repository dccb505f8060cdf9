"""Scores of rankings equal their definitions written as loops, those of other libraries, and a case worked by hand."""

import importlib.util
import math

import numpy as np
import pytest

from sentemb.retrieval import ranking_scores, top_k


def by_loop(ids: list[int], judged: dict[int, float], cut: int) -> dict[str, float]:
    relevant = {number for number, grade in judged.items() if grade > 0}
    gain = sum(max(0, judged.get(number, 0)) / math.log2(1 + rank) for rank, number in enumerate(ids[:cut], 1))
    grades = sorted((judged[number] for number in relevant), reverse=True)[:cut]
    best = sum(grade / math.log2(1 + rank) for rank, grade in enumerate(grades, 1))
    reciprocal = next((1 / rank for rank, number in enumerate(ids[:cut], 1) if number in relevant), 0.0)
    precisions = []
    for rank, number in enumerate(ids, 1):
        if number in relevant:
            precisions.append(len(relevant & set(ids[:rank])) / rank)
    return {
        f"ndcg@{cut}": gain / best,
        f"mrr@{cut}": reciprocal,
        f"map@{len(ids)}": sum(precisions) / len(relevant),
        f"recall@{len(ids)}": len(precisions) / len(relevant),
    }


@pytest.mark.parametrize(("q", "n", "k", "cut"), [(1, 1, 1, 1), (40, 30, 12, 10), (25, 200, 100, 10), (9, 8, 20, 3)])
def test_scores_are_those_of_loops(q, n, k, cut):
    random = np.random.default_rng(k)
    ranking = np.stack([np.pad(random.permutation(n)[:k], (0, max(0, k - n)), constant_values=-1) for _ in range(q)])
    judgements = []
    for _ in range(q):
        numbers = random.permutation(n)[: 1 + random.integers(0, n)]
        grades = random.choice([-1.0, 0.0, 1.0, 2.0, 3.0], len(numbers))
        grades[0] = 1
        judgements.append(dict(zip(numbers.tolist(), grades.tolist(), strict=True)))
    scores = ranking_scores(ranking, judgements, cut, recall_at=(1, cut))
    for row in range(q):
        for rank in (1, cut):
            recall = by_loop(ranking[row, :rank].tolist(), judgements[row], 1)[f"recall@{rank}"]
            assert scores[f"recall@{rank}"][row] == pytest.approx(recall, abs=1e-9)
        for name, value in by_loop(ranking[row].tolist(), judgements[row], cut).items():
            assert scores[name][row] == pytest.approx(value, abs=1e-9), name


def by_pytrec_eval(run, judged, k: int, cut: int) -> list[dict[str, float]]:
    import pytrec_eval

    integers = {query: {passage: int(grade) for passage, grade in grades.items()} for query, grades in judged.items()}
    names = {f"ndcg_cut.{cut}", f"map_cut.{k}", f"recall.{k}"}
    scored = pytrec_eval.RelevanceEvaluator(integers, names).evaluate(run)
    # (recip_rank has no cut: it is of the first ranks alone)
    first = {query: dict(sorted(scores.items(), key=lambda pair: -pair[1])[:cut]) for query, scores in run.items()}
    ranks = pytrec_eval.RelevanceEvaluator(integers, {"recip_rank"}).evaluate(first)
    return [
        {
            f"ndcg@{cut}": row[f"ndcg_cut_{cut}"],
            f"map@{k}": row[f"map_cut_{k}"],
            f"recall@{k}": row[f"recall_{k}"],
            f"mrr@{cut}": ranks[query]["recip_rank"],
        }
        for query, row in ((query, scored[query]) for query in run)
    ]


def by_ranx(run, judged, k: int, cut: int) -> list[dict[str, float]]:
    from ranx import Qrels, Run, evaluate

    positive = {query: {p: int(g) for p, g in grades.items() if g > 0} for query, grades in judged.items()}
    names = [f"ndcg@{cut}", f"map@{k}", f"recall@{k}", f"mrr@{cut}"]
    scored = evaluate(Qrels(positive), Run(run), names, return_mean=False)
    order = sorted(run)  # (as it sorts queries)
    return [{name: float(scored[name][order.index(query)]) for name in names} for query in run]


OTHERS = {"pytrec_eval": by_pytrec_eval, "ranx": by_ranx}
PACKAGES = {"pytrec_eval": "pytrec-eval-terrier", "ranx": "ranx"}


@pytest.mark.parametrize("library", OTHERS)
@pytest.mark.parametrize("distinct", [10_000, 4], ids=["few ties", "many ties"])
def test_scores_are_those_of_other_libraries(library, distinct):
    """Passages of equal scores are in the order of their numbers, which is handed on: by 1 / (1 + rank) as score."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install {PACKAGES[library]}")
    random, k, cut = np.random.default_rng(distinct), 40, 10
    scores = random.integers(0, distinct, (30, 60))
    judged = [
        dict(zip(random.permutation(60)[:8].tolist(), [1, *random.integers(0, 4, 7).tolist()], strict=True))
        for _ in range(30)
    ]
    # Inner products with unit vectors are the scores themselves.
    ranking, values = top_k(scores.astype(np.float32), np.eye(60, dtype=np.float32), k, "dot")
    for row, numbers in enumerate(ranking.tolist()):
        assert numbers == sorted(range(60), key=lambda n: (-scores[row, n], n))[:k]
        np.testing.assert_array_equal(values[row], scores[row, numbers])
    ours = ranking_scores(ranking, judged, cut)
    run = {
        f"q{row:02}": {f"p{number}": 1 / (1 + rank) for rank, number in enumerate(numbers)}
        for row, numbers in enumerate(ranking.tolist())
    }
    named = {f"q{row:02}": {f"p{n}": grade for n, grade in grades.items()} for row, grades in enumerate(judged)}
    for row, theirs in enumerate(OTHERS[library](run, named, k, cut)):
        assert {name: ours[name][row] for name in ours} == pytest.approx(theirs, abs=1e-9)


def test_a_ranking_worked_by_hand():
    """Passages 5 and 2 are relevant; 5 comes second, 2 fourth, and 9 was judged not to be."""
    scores = ranking_scores(np.array([[9, 5, 7, 2]]), [{5: 3, 2: 1, 9: 0}], cut=3)
    best = 3 + 1 / math.log2(3)
    assert scores["ndcg@3"][0] == pytest.approx((3 / math.log2(3)) / best)
    assert scores["mrr@3"][0] == 0.5 and scores["map@4"][0] == (1 / 2 + 2 / 4) / 2 and scores["recall@4"][0] == 1


def test_the_best_ranking_has_all_scores_1_and_one_without_a_hit_0():
    judged = {4: 2, 1: 1}
    assert {
        name: value.tolist() for name, value in ranking_scores(np.array([[4, 1], [3, 2]]), [judged] * 2, 2).items()
    } == {name: [1, 0] for name in ("ndcg@2", "mrr@2", "map@2", "recall@2")}


@pytest.mark.parametrize(("judged", "cut"), [([{3: 0}], 1), ([{1: 1}], 3), ([{1: 1}] * 2, 1)])
def test_what_has_no_score_is_refused(judged, cut):
    with pytest.raises(ValueError):
        ranking_scores(np.array([[0, 1]]), judged, cut)


@pytest.mark.parametrize("rank", [0, 3])
def test_recall_at_a_rank_that_is_not_there_is_refused(rank):
    with pytest.raises(ValueError):
        ranking_scores(np.array([[0, 1]]), [{1: 1}], 1, recall_at=[rank])
