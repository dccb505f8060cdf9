"""Search as the dev score of a run, among its final scores and of a study: which queries choose, and which score."""

import json

import numpy as np
import pytest

from eval import read_search_task
from eval.search import held_out_task, measure_search, search_halves, search_items, search_sample
from recipes.runner import read_search
from recipes.study import prepare, read_study
from recipes.study.run.measure import measure_encoder
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.pipeline import EvaluationSettings
from sentemb.validation import CachedEncoder, held_out_pairs, sides_of
from tests.eval.test_search import QRELS, write_beir
from tests.helpers import STATIC, records

LITTLE = ["--encoder", STATIC, "--batch-size", "16", "--max-steps", "4", "--lr", "0.05", "--eval-every", "2"]
FINAL = ("search nDCG@10", "search MRR@10", "search MAP@100", "search recall@100")


@pytest.fixture
def cats(tmp_path):
    """Judged queries: three of the split test, two of the split dev."""
    folder = write_beir(tmp_path / "cats")
    (folder / "qrels" / "dev.tsv").write_text("q1\td5\t1\nq4\td1\t1\n")
    return folder


@pytest.fixture
def corpus(book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return open_corpus(str(book_file), progress=False)


def test_the_split_dev_chooses_and_the_split_test_scores(cats, corpus):
    search = read_search(EvaluationSettings(dev="search", search=str(cats)), corpus)
    assert search.dev.judgements == [{5: 1}, {1: 1}] and len(search.test.queries) == 3


def test_without_a_split_dev_half_of_the_queries_choose(cats, corpus):
    (cats / "qrels" / "dev.tsv").unlink()
    search, everything = read_search(EvaluationSettings(dev="search", search=str(cats)), corpus), read_search_task(cats)
    assert (search.dev.queries, search.test.queries) == tuple(half.queries for half in search_halves(everything))
    search = read_search(EvaluationSettings(dev="heldout", search=str(cats)), corpus)
    assert search.dev is None and search.test.queries == everything.queries


@pytest.mark.parametrize(("search", "dev"), [(None, "search"), ("passages", "search"), ("passages", "heldout")])
def test_held_out_passages(search, dev, corpus):
    tasks, everything = read_search(EvaluationSettings(dev=dev, search=search), corpus), held_out_task(corpus)
    if dev == "search":
        assert sorted(tasks.dev.queries + tasks.test.queries) == sorted(everything.queries)
    else:
        assert tasks.dev is None and tasks.test.queries == everything.queries


def test_no_search_is_read_where_none_is_asked_for(corpus):
    for settings in (EvaluationSettings(), EvaluationSettings(search="passages", score=False)):
        search = read_search(settings, corpus)
        assert search.dev is None and search.test is None


@pytest.mark.parametrize("flags", [(), ("--towers", "2"), ("--prompts", 'anchor="query ",positive="passage "')])
def test_a_run_chooses_by_search_and_is_scored_on_other_queries(flags, recipe, folder, book_file, tmp_path, capsys):
    recipe(["--corpus", str(book_file), *LITTLE, *flags, "--out", "run", "--dev", "search", "--select", "best"]
           + ["--data", str(folder), "--tasks", "TINY"])  # fmt: skip
    printed = capsys.readouterr().out
    run = tmp_path / "run"
    logged = {r["step"]: r["search_ndcg_at_10"] for r in records(run) if "search_ndcg_at_10" in r}
    assert list(logged) == [0, 2, 4]
    selected = json.loads((run / "best" / "selected.json").read_text())
    assert selected["search_ndcg_at_10"] == max(logged.values()) and logged[selected["step"]] == max(logged.values())
    corpus, model = open_corpus(str(book_file), progress=False), load(run / "best", device="cpu")
    dev, test = search_halves(held_out_task(corpus))
    items = search_items(sides_of(model, CachedEncoder(model)), dev, 10)
    assert items["nDCG@10"].values.mean() == pytest.approx(max(logged.values()), abs=1e-6)

    scores = json.loads((run / "scores.json").read_text())
    by_name = {row["encoder"]: row["search"] for row in scores["rows"]}
    expected = measure_search(load(run, device="cpu"), test)
    for metric, each in expected.items.items():
        assert by_name["trained"]["scores"][metric] == pytest.approx(each.values.mean(), abs=1e-6)
    assert by_name["trained"]["sides"] == expected.sides and len(by_name) == len(scores["rows"])
    measured = {row["measure"] for row in scores["differences"]}
    assert set(FINAL) <= measured and "items" not in scores["rows"][0]
    assert "search nDCG@10" in printed and f"{expected.items['nDCG@10'].values.mean():.4f}" in printed
    assert "one half of the queries" in printed and "search nDCG@10" in (run / "report.html").read_text()
    assert "search nDCG@10" in (run / "model" / "README.md").read_text()
    config = json.loads((run / "config.json").read_text())["settings"]
    assert (config["dev"], config["search"]) == ("search", None)


def test_a_resumed_run_is_chosen_by_the_same_search(recipe, cats, book_file, tmp_path, capsys):
    arguments = ["--corpus", str(book_file), *LITTLE, "--no-score", "--save-every", "2", "--search", "cats"]
    recipe([*arguments, "--out", "full", "--dev", "search"])
    recipe([*arguments, "--out", "run", "--dev", "search", "--max-steps", "2"])
    (tmp_path / "elsewhere").mkdir()
    recipe(["--resume", "--out", "run", "--max-steps", "4", "--no-score"])
    for name in ("full", "run"):
        config = json.loads((tmp_path / name / "config.json").read_text())["settings"]
        assert (config["dev"], config["search"]) == ("search", str(cats))
    last = [json.loads((tmp_path / name / "last" / "selected.json").read_text()) for name in ("full", "run")]
    assert [entry["step"] for entry in last] == [4, 4] and "search_ndcg_at_10" in last[1]
    capsys.readouterr()
    write_beir(tmp_path / "dogs")
    with pytest.raises(SystemExit) as stopped:
        recipe(["--resume", "--out", "run", "--search", "dogs"])
    assert stopped.value.code == 2 and "was started with --search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("nowhere", "there is no file or folder nowhere"),
        ("books.txt", "none of .jsonl"),
        ("empty", "empty has no corpus.jsonl"),
        ("dogs", "test.tsv; available splits: dev"),
        ("broken", "names the query 'q9', and queries.jsonl has no such query"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence_and_nothing_is_written(
    search, message, recipe, book_file, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    (write_beir(tmp_path / "dogs") / "qrels" / "test.tsv").rename(tmp_path / "dogs" / "qrels" / "dev.tsv")
    write_beir(tmp_path / "broken", qrels=[*QRELS, ("q9", "d1", 1)])
    with pytest.raises(SystemExit) as stopped:
        recipe(["--corpus", str(book_file), *LITTLE, "--out", "run", "--search", search, "--no-score"])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert stopped.value.code == 2 and len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "run").exists()


def test_a_study_measures_search_on_a_fixed_sample(encoder, corpus):
    model, task = encoder(STATIC), held_out_task(corpus)
    row = measure_encoder(model, [], held_out_pairs(corpus), search=task)[0]
    items = measure_search(model, search_sample(task, 1000, 5000)).items
    assert row["search_ndcg_at_10"] == pytest.approx(np.mean(items["nDCG@10"].values))
    assert row["search_recall_at_100"] == pytest.approx(np.mean(items["recall@100"].values))


@pytest.mark.parametrize(
    ("search", "dev", "expected"),
    [
        (None, "heldout", None),
        (None, "search", "passages"),
        ("passages", "heldout", "passages"),
        ("cats", "search", "cats"),
    ],
)
def test_all_encoders_of_a_study_are_scored_on_one_search(search, dev, expected, cats, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoders = [{"family": "a"}, {"family": "b", "objective": "vicreg", "dev": dev}]
    (tmp_path / "mine.yaml").write_text(
        json.dumps({"encoders": encoders, "base": {"dev": "heldout"}, "search": search})
    )
    study = prepare(read_study("mine.yaml"), "sample", None, "MR-sample")
    wanted = str(cats) if expected == "cats" else expected
    assert [planned.settings["search"] for planned in study.encoders] == [wanted] * 2


def test_what_a_study_cannot_search_is_one_sentence(tmp_path):
    (tmp_path / "mine.yaml").write_text(json.dumps({"encoders": [{}], "search": ["a"]}))
    with pytest.raises(InputError, match="search must be the path of judged queries, or passages"):
        read_study(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text(json.dumps({"encoders": [{}], "search": "nowhere"}))
    with pytest.raises(InputError, match="encoder encoder: there is no file or folder nowhere"):
        prepare(read_study(str(tmp_path / "mine.yaml")), "sample", None, "MR-sample")
