"""Tables in every format, averages that say what they lack, and McNemar's test by hand."""

import csv
import io
from math import comb

import numpy as np
import pytest

from eval import GROUPS, as_text, compare, format_table
from eval.scorer import averages
from eval.significance import differences_from_first, mcnemar
from eval.tables import as_csv, as_latex, as_markdown, tables
from eval.tasks import Task
from sentemb.validation import ItemScores


def result(tasks: dict[str, dict], failed: tuple[str, ...] = (), geometry: dict | None = None) -> dict:
    reasons = dict.fromkeys(failed, "gone")
    return {
        "dimension": 8,
        "tasks": tasks,
        "failed": reasons,
        "averages": averages(tasks, reasons),
        "geometry": geometry,
    }


SEVEN = {name: {"acc": 80.0 + i} for i, name in enumerate(GROUPS["transfer"])} | {"SST5": {"acc": 10.0}}
STS = {name: {"spearman": 70.0 + i, "pearson": 1.0} for i, name in enumerate(GROUPS["sts"])}


def test_mcnemar_by_hand():
    a = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)
    b = np.array([0, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    p = 2 * sum(comb(6, i) for i in (0, 1)) / 2**6
    assert mcnemar(a, b) == (5, 1, pytest.approx(p)) and mcnemar(b, a) == (1, 5, pytest.approx(p))
    assert mcnemar(a, a) == (0, 0, 1.0)
    comparison = compare({"x": {"MR": a, "CR": a}, "y": {"MR": b}, "z": {"MR": a}})
    assert [(r["task"], r["a"], r["b"], r["only_a"]) for r in comparison] == [
        ("MR", "x", "y", 5),
        ("MR", "x", "z", 0),
        ("MR", "y", "z", 1),
    ]


def test_differences_are_of_each_model_from_the_first_with_its_interval():
    right = np.arange(200) % 10
    encoders = {
        "a": {"MR": ItemScores((right < 5).astype(float), scale=100)},
        "b": {"MR": ItemScores((right < 8).astype(float), scale=100)},  # right wherever a is, and in 3 of 10 more
        "c": {"MR": ItemScores((right < 5).astype(float), scale=100), "retrieval_mrr": ItemScores(right / 10)},
    }
    b, c = differences_from_first(encoders)
    assert (b["encoder"], b["against"], b["difference"], b["verdict"]) == ("b", "a", pytest.approx(30), "better")
    assert 20 < b["low"] < 30 < b["high"] < 40
    assert (c["encoder"], c["measure"], c["difference"], c["verdict"]) == ("c", "MR", 0, "cannot tell")
    shown = tables({"a": result({"MR": {"acc": 50.0}})}, (), [b])[-1]
    interval = f"{b['low']:+.2f} to {b['high']:+.2f}"
    assert shown.title == "difference from a" and shown.lines == [["b", "MR", "+30.00", interval, "better"]]
    seeds = {"a": ("m", 0), "b": ("m", 1), "c": ("n", 0)}  # a and b are seeds of one model
    assert [row["encoder"] for row in differences_from_first(encoders, seeds)] == ["c"]
    assert differences_from_first({"a": encoders["a"]}) == []


def test_averages_are_the_papers_sevens_and_say_what_they_lack():
    group_means = averages(SEVEN | STS, {})
    assert group_means["transfer"] == {"value": 83.0, "of": list(GROUPS["transfer"]), "complete": True, "missing": []}
    assert group_means["sts"]["value"] == 73.0 and set(group_means) == {"transfer", "sts"}
    short = averages({k: v for k, v in SEVEN.items() if k != "MRPC"}, {"MRPC": "gone"})
    assert short["transfer"]["value"] == 82.5 and short["transfer"]["missing"] == ["MRPC"]
    assert not short["transfer"]["complete"]
    assert averages({"MR": {"acc": 70.0}, "CR": {"acc": 80.0}}, {})["mean"]["value"] == 75.0
    assert averages({"MR": {"acc": 70.0}}, {}) == {}


def test_a_few_tasks_are_one_table_and_many_a_table_a_kind():
    shape = {"alignment": 0.25, "uniformity": -2.5, "retrieval_mrr": 0.5}
    one = format_table({"a": result({"MR": {"acc": 70.0}, "CR": {"acc": 80.0}}, geometry=shape)})
    assert one.splitlines() == [
        "encoder  dim     MR     CR   mean  alignment  uniformity     MRR",
        "-------  ---  -----  -----  -----  ---------  ----------  ------",
        "a          8  70.00  80.00  75.00     0.2500     -2.5000  0.5000",
    ]
    many = tables({"a": result(SEVEN | STS, geometry=shape)})
    assert [t.title for t in many] == ["accuracy", "Spearman x 100", "geometry"]
    assert many[0].head[-1] == "transfer" and many[1].head[-1] == "sts"


def test_what_is_missing_is_seen():
    score_tables = tables({"a": result({"MR": {"acc": 70.0}, "CR": {"acc": 80.0}}, ("SUBJ",))})
    assert score_tables[0].lines[0][2:6] == ["70.00", "80.00", "-", "75.00*"]
    assert "* incomplete: without SUBJ" in as_text(score_tables)
    assert "\\* incomplete" in as_markdown(score_tables) and "% * incomplete" in as_latex(score_tables)


def test_every_format_holds_the_scores():
    results = {"runs/a_1": result({"MR": {"acc": 71.25}}), "b|c": result({"MR": {"acc": 72.5}})}
    comparison = [{"task": "MR", "a": "runs/a_1", "b": "b|c", "only_a": 1, "only_b": 9, "p": 0.0215}]
    score_tables = tables(results, comparison)
    for render in (as_text, as_markdown, as_latex):
        assert {"71.25", "72.50", "0.021"} <= set(render(score_tables).replace("|", " ").split())
    assert "b\\|c" in as_markdown(score_tables) and "runs/a\\_1 &" in as_latex(score_tables)
    markdown = [line for line in as_markdown(score_tables).splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == markdown[0].count("|") for line in markdown[:4])
    rows = list(csv.DictReader(io.StringIO(as_csv(results, comparison))))
    assert [row["MR"] for row in rows] == ["71.25", "72.5"] and rows[1]["MR_p"] == "0.0215" and rows[0]["MR_p"] == ""


def test_tasks_of_ones_own_that_are_in_no_table():
    scores = {"MINE": {"acc": 70.0}, "YOURS": {"acc": 80.0}, "PAIRS": {"spearman": 50.0}, "MR": {"acc": 90.0}}
    assert averages(scores, {})["mean"] == {
        "value": 80.0,
        "of": ["MINE", "YOURS", "MR"],
        "complete": True,
        "missing": [],
    }
    task = Task("LOST", "what failed", "split", "tab_label", ())
    lacking = averages(scores, {"LOST": "why", "geometry": "why"}, [task])["mean"]
    assert lacking["value"] == 80.0 and lacking["missing"] == ["LOST"]
    shown = format_table({"a": {"dimension": 3, "tasks": scores, "averages": averages(scores, {}), "geometry": None}})
    assert "MR   MINE  YOURS" in shown and "PAIRS" in shown and "70.00" in shown
    line = as_csv(
        {"a": {"dimension": 3, "tasks": scores, "averages": averages(scores, {}), "geometry": None}}
    ).splitlines()
    assert line[0].startswith("encoder,dimension,MINE,YOURS,PAIRS,MR") and line[1].startswith("a,3,70.0,80.0,50.0,90.0")
