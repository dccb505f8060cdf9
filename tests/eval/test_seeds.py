"""Names of checkpoints, mean and deviation over seeds, the compact table, and which seeds are compared."""

import json
import math

import numpy as np
import pytest

from eval.seeds import labels, over_seeds
from eval.significance import compare
from eval.tables import as_latex, as_markdown, compact, render, tables
from sentemb.errors import InputError


def result(name: str, mr: float, stsb: float) -> dict:
    return {
        "name": name,
        "checkpoint": f"runs/{name}-{mr}",
        "dimension": 8,
        "tasks": {"STS-B": {"spearman": stsb}, "MR": {"acc": mr}},
        "averages": {},
        "failed": {},
        "geometry": None,
    }


RESULTS = {
    "A (seed 1)": result("A", 70.0, 80.0),
    "B_1": result("B_1", 60.0, 75.0),
    "A (seed 2)": result("A", 73.0, 82.0),
    "A (seed 3)": result("A", 71.0, 81.0),
}


def test_mean_and_deviation_by_hand():
    summary = over_seeds([RESULTS[label] for label in RESULTS if label != "B_1"])["MR"]
    mean = (70 + 73 + 71) / 3
    assert summary["mean"] == pytest.approx(mean) and summary["n"] == 3
    assert summary["std"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in (70, 73, 71)) / 2))
    assert over_seeds([RESULTS["B_1"]])["MR"] == {"mean": 60.0, "std": None, "n": 1}


def test_a_score_that_a_seed_lacks_has_no_mean():
    lacking = result("A", 70.0, 80.0)
    del lacking["tasks"]["MR"]
    assert list(over_seeds([RESULTS["A (seed 1)"], lacking])) == ["STS-B"]


def test_the_compact_table_has_a_row_a_model_in_markdown_and_latex():
    table = compact(RESULTS)
    assert table.head == ["encoder", "dim", "MR", "STS-B"]
    assert table.lines == [["A", "8", "71.33 ± 1.53", "81.00 ± 1.00"], ["B_1", "8", "60.00", "75.00"]]
    assert "| A | 8 | 71.33 ± 1.53 | 81.00 ± 1.00 |" in as_markdown([table])
    assert r"A & 8 & 71.33 $\pm$ 1.53 & 81.00 $\pm$ 1.00 \\" in as_latex([table]) and r"B\_1 & 8" in as_latex([table])
    assert render("markdown", RESULTS, [], one_table=True) == as_markdown([table])
    assert table in tables(RESULTS) and len(tables(RESULTS)) > 1
    assert json.loads(render("json", RESULTS, []))["models"]["A"]["MR"]["n"] == 3
    assert "models" not in json.loads(render("json", {"B_1": RESULTS["B_1"], "A": RESULTS["A (seed 1)"]}, []))


def test_names_and_labels():
    assert labels(["x", "y", "z"], "A, B,A") == {"x": ("A", "A (seed 1)"), "y": ("B", "B"), "z": ("A", "A (seed 2)")}
    assert labels(["x", "y"], None) == {"x": ("x", "x"), "y": ("y", "y")}
    for names in ("A", "A,B,C", "A,"):
        with pytest.raises(InputError, match="for 2 checkpoints"):
            labels(["x", "y"], names)


def test_seeds_of_one_number_are_compared_and_those_of_one_model_are_not():
    right = {"MR": np.array([True, False])}
    correct = dict.fromkeys(["A (seed 1)", "A (seed 2)", "B (seed 1)", "B (seed 2)", "C"], right)
    seeds = dict(zip(correct, [("A", 0), ("A", 1), ("B", 0), ("B", 1), ("C", 0)], strict=True))
    pairs = {(row["a"], row["b"]) for row in compare(correct, seeds)}
    assert pairs == {
        ("A (seed 1)", "B (seed 1)"),
        ("A (seed 2)", "B (seed 2)"),
        ("A (seed 1)", "C"),
        ("B (seed 1)", "C"),
    }
    assert len(compare(correct)) == 10
