"""The headline of a run's page says what changed and whether that is chance, whatever the scores look like."""

import json
from pathlib import Path
from typing import Any

import pytest

from sentemb.report import write_report
from sentemb.report.headline import MOST, run_headline, run_tiles
from sentemb.runs import Run

BOTH = {"MR": (70.0, 72.0), "CR": (75.0, 76.0)}
INTERVALS = {"better": (0.5, 3.5), "worse": (-3.5, -0.5), "cannot tell": (-1.0, 2.0)}


def run_of(verdicts: dict[str, str], tasks: dict[str, tuple[float, float]] = BOTH) -> Run:
    """A run whose scores have these verdicts, by measure."""
    rows: list[dict[str, Any]] = []
    for i, (name, role) in enumerate((("random rnn", "initial"), ("trained", "trained"))):
        rows.append({"encoder": name, "role": role, "tasks": {task: {"acc": acc[i]} for task, acc in tasks.items()}})
        rows[-1] |= {"retrieval_mrr": 0.1 + 0.05 * i, "geometry": {"alignment": 0.2 + i, "uniformity": -1.0 - i}}
    differences = [
        {"measure": measure, "encoder": "trained", "against": "random rnn", "difference": 1.0, "verdict": verdict}
        | dict(zip(("low", "high"), INTERVALS[verdict], strict=True))
        | {"level": 0.95, "n": 100, "units": 100, "items": "pairs", "drawn": "pairs"}
        for measure, verdict in verdicts.items()
    ]
    return Run({}, [{"step": 40.0, "loss": 1.0}], {"rows": rows, "differences": differences})


@pytest.mark.parametrize(
    ("verdicts", "title", "detail"),
    [
        (
            {"MR": "cannot tell", "mean accuracy": "better", "retrieval_mrr": "better"},
            "Training helped: mean accuracy rose from 72.5 to 74.0",
            "the 95% interval of the difference is +0.50 to +3.50. Of 3 scores against random rnn: 2 better, 1 not",
        ),
        ({"retrieval_mrr": "worse"}, "Training made it worse: MRR fell from 0.100 to 0.150", "1 worse."),
        (
            {"MR": "better", "CR": "worse", "retrieval_mrr": "cannot tell"},
            "A trade: MR accuracy rose from 70.0 to 72.0, CR accuracy fell from 75.0 to 76.0",
            "Both are more than chance. Of 3 scores against random rnn: 1 better, 1 worse, 1 not different beyond",
        ),
        (
            {"MR": "cannot tell", "mean accuracy": "cannot tell"},
            "No difference beyond chance: mean accuracy was 72.5, is 74.0",
            "-1.00 to +2.00, holds 0. Of 2 scores",
        ),
        ({}, "Trained; no score shows whether that helped", "no intervals for trained against random rnn"),
    ],
)
def test_the_headline_follows_the_verdicts(verdicts, title, detail):
    headline = run_headline(run_of(verdicts))
    assert headline.title == title and detail in headline.detail


def test_a_run_without_scores_says_how_far_it_is():
    assert run_headline(Run({}, [{"step": 1234.0}], {})).title == "Trained for 1,234 steps, not scored yet"
    assert run_headline(Run({}, [], {})).title == "Nothing is trained yet"


def test_tiles_have_scores_with_verdicts_and_the_geometry():
    tiles = run_tiles(run_of({"MR": "worse", "retrieval_mrr": "better"}))
    assert [(t.title, t.before, t.after, t.verdict) for t in tiles] == [
        ("MR, %", "70.0", "72.0", "worse"),
        ("MRR", "0.100", "0.150", "better"),
        ("alignment loss", "0.200", "1.200", ""),
        ("uniformity loss", "-1.000", "-2.000", ""),
    ]
    assert run_tiles(run_of({})) == []


def test_single_tasks_leave_the_tiles_where_there_are_many():
    tasks = {f"T{i}": (60.0, 61.0) for i in range(MOST)}
    verdicts = dict.fromkeys([*tasks, "mean accuracy", "retrieval_mrr"], "better")
    titles = [tile.title for tile in run_tiles(run_of(verdicts, tasks))]
    assert titles == ["mean accuracy, %", "MRR", "alignment loss", "uniformity loss"]


def test_the_page_begins_with_the_headline(tmp_path: Path):
    run = run_of({"retrieval_mrr": "better"})
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "log.jsonl").write_text(json.dumps(run.records[0]))
    (tmp_path / "scores.json").write_text(json.dumps(run.scores))
    text = write_report(tmp_path).read_text("utf-8")
    assert "<h1>Training helped: MRR rose from 0.100 to 0.150</h1>" in text
    assert "<span class='chip better'>better</span>" in text and text.index("<h1>") < text.index("class='tiles'")
