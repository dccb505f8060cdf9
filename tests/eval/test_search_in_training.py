"""Search while a model trains: fixed samples, the dev score, the evaluator, and eval.evaluate."""

import csv

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import eval
from eval.search import (
    SearchEvaluator,
    SearchTask,
    measure_search,
    read_search_task,
    search_dev_score,
    search_halves,
    search_items,
    search_sample,
    search_task,
)
from sentemb.encoders import Prompts, set_prompts, two_towers
from sentemb.errors import InputError
from sentemb.search import ListedPassages
from sentemb.validation import CachedEncoder, sides_of
from tests.eval.test_search import QUERIES, all_texts, mean_reciprocal_rank, ranks_by_loop, write_beir
from tests.helpers import STATIC


@pytest.fixture
def task() -> SearchTask:
    """Sixty passages and twenty queries, each with two judged passages, one of them relevant, and one left out."""
    passages = [f"the {word} sees the ship number {i}" for i, word in enumerate(["cat", "dog", "king"] * 20)]
    judgements = [{3 * i: 1.0, (7 * i + 1) % 60: 0.0 if (7 * i + 1) % 60 != 3 * i else 1.0} for i in range(20)]
    queries = [f"who sees the ship number {3 * i}" for i in range(20)]
    leave_out = [[(11 * i + 2) % 60] for i in range(20)]
    return SearchTask("ships", queries, ListedPassages(passages), judgements, leave_out, np.arange(20) // 4)


@pytest.mark.parametrize(("queries", "passages"), [(5, 30), (20, 30), (7, 60), (6, 1)])
def test_a_sample_holds_all_that_was_judged_for_its_queries(queries, passages, task):
    sampled = search_sample(task, queries, passages)
    texts, before = all_texts(sampled), all_texts(task)
    assert len(sampled.queries) == queries and len(set(texts)) == len(texts) and set(texts) <= set(before)
    assert sorted(texts, key=before.index) == texts  # in their order, which breaks ties
    judged = set()
    for row, query in enumerate(sampled.queries):
        place = task.queries.index(query)
        grades = {texts[number]: grade for number, grade in sampled.judgements[row].items()}
        assert grades == {before[number]: grade for number, grade in task.judgements[place].items()}
        left_out = {before[number] for number in task.leave_out[place]}
        assert {texts[number] for number in sampled.leave_out[row]} == left_out & set(texts)
        assert sampled.documents[row] == task.documents[place]
        judged |= grades.keys()
    assert len(texts) == max(passages, len(judged))
    again = search_sample(task, queries, passages)
    assert (again.queries, all_texts(again)) == (sampled.queries, texts)
    assert f"{queries} of 20 queries, {len(texts)} of 60 passages" in sampled.notes[-1]


def test_a_sample_of_all_is_the_task(task):
    assert search_sample(task, 20, 60) is task and search_sample(task, 500, 2500) is task


def test_halves_share_no_query_and_search_the_same_passages(task):
    dev, test = search_halves(task)
    assert len(dev.queries) == len(test.queries) == 10
    assert sorted(dev.queries + test.queries) == sorted(task.queries)
    assert all_texts(dev) == all_texts(test) == all_texts(task) and search_halves(task)[0].queries == dev.queries
    for half in (dev, test):
        for query, grades, left_out in zip(half.queries, half.judgements, half.leave_out, strict=True):
            place = task.queries.index(query)
            assert grades == task.judgements[place] and left_out == task.leave_out[place]
    with pytest.raises(InputError, match="ships has one query, and half of the queries are to choose"):
        search_halves(SearchTask("ships", ["a"], task.passages, [{0: 1.0}]))


def test_scores_in_memory_are_those_of_the_file(task, encoder):
    model = encoder(STATIC)
    stored = measure_search(model, task, 12).items
    memory = search_items(sides_of(model, CachedEncoder(model)), task, 12)
    assert list(stored) == list(memory)
    assert all((stored[name].values == memory[name].values).all() for name in stored)


@pytest.fixture(params=["plain", "prompts", "towers"])
def model_and_sides(request, encoder):
    """A model, and functions that encode its queries and its passages."""
    model = encoder(STATIC)
    if request.param == "plain":
        return model, model.encode, model.encode
    if request.param == "prompts":
        set_prompts(model, Prompts("query ", "passage "))
        return model, lambda t: model.encode(t, prompt="query "), lambda t: model.encode(t, prompt="passage ")
    g = encoder(STATIC)
    for parameter in g.parameters():
        parameter.data.neg_()
    return two_towers(model, g), model.encode, g.encode


def test_the_dev_score_is_that_of_a_loop_over_the_sample(task, model_and_sides):
    model, encode_queries, encode_passages = model_and_sides
    dev = search_dev_score(task, queries=8, passages=40)
    assert (dev.name, dev.spec) == ("search_ndcg_at_10", "search")
    sampled = search_sample(task, 8, 40)
    rankings = ranks_by_loop(encode_queries(sampled.queries), encode_passages(all_texts(sampled)), sampled)
    gains = []
    for ranking, grades in zip(rankings, sampled.judgements, strict=True):
        gain = sum(grades.get(n, 0) / np.log2(1 + rank) for rank, n in enumerate(ranking[:10], 1))
        gains.append(gain / sum(1 / np.log2(2 + i) for i in range(sum(g > 0 for g in grades.values()))))
    for scores in (dev.scores(model), dev.measure(CachedEncoder(model))):
        assert scores["search_ndcg_at_10"] == pytest.approx(np.mean(gains))
        assert scores["search_mrr_at_10"] == pytest.approx(mean_reciprocal_rank(rankings, sampled))


def test_the_evaluator_scores_both_sides_as_they_are_encoded(task, model_and_sides):
    model, encode_queries, encode_passages = model_and_sides
    metrics = SearchEvaluator(task, k=12, queries=None, passages=None)(model)
    rankings = ranks_by_loop(encode_queries(task.queries), encode_passages(all_texts(task)), task)
    assert list(metrics) == ["ndcg@10", "mrr@10", "map@12", "recall@12"]
    assert metrics["mrr@10"] == pytest.approx(mean_reciprocal_rank(rankings, task))


def test_a_trainer_takes_the_evaluator(encoder, tmp_path):
    folder = write_beir(tmp_path / "cats")
    model = encoder(STATIC)
    evaluator = SearchEvaluator(f"search:{folder}", name="dev")
    assert evaluator.primary_metric == "dev_ndcg@10"
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_dev_ndcg@10",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    pairs = Dataset.from_dict({"anchor": ["who sees the train", "a cat"], "positive": ["the dog", "it pours"]})
    trainer = SentenceTransformerTrainer(
        model, arguments, pairs, loss=MultipleNegativesRankingLoss(model), evaluator=evaluator
    )
    trainer.train()
    logged = [record for record in trainer.state.log_history if "eval_dev_ndcg@10" in record]
    assert len(logged) == 2 and trainer.state.best_metric is not None
    assert {"eval_dev_mrr@10", "eval_dev_map@100", "eval_dev_recall@100"} <= set(logged[0])


def test_the_evaluator_writes_a_line_a_call_and_leaves_the_mode_alone(task, encoder, tmp_path):
    model = encoder(STATIC).train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    evaluator = SearchEvaluator(task, primary="recall@100", name="ships", queries=5)
    scores = [evaluator(model, str(tmp_path / "out"), epoch, 7) for epoch in (0, 1)]
    assert scores[0] == scores[1] and model.training and torch.equal(before, torch.get_rng_state())
    assert evaluator.primary_metric == "ships_recall@100" and evaluator.primary_metric in scores[0]
    with (tmp_path / "out" / "search_ships_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["steps"]) for row in rows] == [("0", "7"), ("1", "7")]
    assert float(rows[0]["ndcg@10"]) == scores[0]["ships_ndcg@10"]
    SearchEvaluator(task, write_csv=False)(model, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "search:nowhere"}, "there is no file or folder nowhere"),
        ({"task": "cats"}, "'cats' is not a search task; write search:DIR"),
        ({"primary": "ndcg@5"}, "unknown metric 'ndcg@5'"),
        ({"k": 9}, "k must be at least 10"),
    ],
)
def test_what_is_wrong_with_an_evaluator_is_one_sentence(wrong, message, task):
    with pytest.raises(InputError, match=message):
        SearchEvaluator(**{"task": task, **wrong})


def test_evaluate_scores_search(encoder, book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    folder, model = write_beir(tmp_path / "cats"), encoder(STATIC)
    judged = read_search_task(folder)
    table = eval.evaluate(model, [f"search:{folder}", f"passages:{book_file}"], progress=False)
    items = measure_search(model, judged).items
    assert table.loc["cats, test", "score"] == pytest.approx(100 * items["nDCG@10"].values.mean())
    assert table.loc["cats, test", "n"] == 3 and "3 queries, 15 passages" in table.loc["cats, test", "protocol"]
    assert table.attrs["search"]["cats, test"] == {name: each.values.mean() for name, each in items.items()}
    assert [name for name in table.index if name.startswith("a sentence finds its passage")] == [table.index[1]]
    assert eval.evaluate(model, judged, progress=False).equals(table.iloc[:1])
    assert eval.evaluate(model, f"search:{folder}", progress=False).equals(table.iloc[:1])


def test_evaluate_has_search_beside_other_tasks(folder, encoder, tmp_path):
    cats = write_beir(tmp_path / "cats")
    table = eval.evaluate(encoder(STATIC), f"STS-B,search:{cats}", data=folder, progress=False)
    assert list(table.index) == ["STS-B", "cats, test"] and table.loc["STS-B", "metric"] == "spearman"


def test_the_name_of_a_search_task(task, tmp_path):
    assert search_task(task) is task
    assert search_task(f"search:{write_beir(tmp_path / 'cats')}").queries == [QUERIES[q] for q in ("q1", "q2", "d3")]
    for name in ("search", "MR", "searching:x"):
        with pytest.raises(InputError, match="is not a search task"):
            search_task(name)
