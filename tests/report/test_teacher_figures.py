"""The figures and the table of a run with a teacher."""

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from sentemb.report import page as report
from sentemb.report import write_report
from sentemb.report.teacher_figures import LEAST_SCORE, speed_figure, teacher_figure
from sentemb.runs import read_run

CONFIG = {"settings": {"dev": "teacher"}, "teacher": {"dimension": 384}, "corpus": {"name": "tales"}}


def row(name: str, role: str, score: float, speed: float, similarity: float) -> dict[str, Any]:
    return {
        "encoder": name,
        "role": role,
        "tasks": {"MR": {"acc": score}, "STS-B": {"spearman": score - 4}} if score else {},
        "teacher_similarity": similarity,
        "cost": {"sentences_per_second": speed, "megabytes": speed / 1000, "measured": "encode of 2,000 on a machine"},
    }


ROWS = [
    row("teacher minilm", "teacher", 80, 210, 1.0),
    row("static distilled minilm embeddings", "initial", 71.9, 20_100, 0.71),
    row("trained", "trained", 72, 20_000, 0.83),
    row("averaged embeddings of minilm", "averaged", 71.8, 19_000, 0.65),
    row("cost $5 & more", "words", 72.1, 21_000, 0.70),
]
LOG = [{"step": s, "loss": 1.0, "teacher_similarity": 0.5 + s / 100, "teacher_cosine": 0.1 + s / 50} for s in range(9)]


@pytest.fixture
def fill(tmp_path):
    """Writes a run's files."""

    def write(rows=ROWS, log=LOG, config=CONFIG):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
        (tmp_path / "scores.json").write_text(json.dumps({"rows": rows, "differences": []}))
        return tmp_path

    return write


def test_each_encoder_is_a_point_with_its_name(fill):
    figure = speed_figure(read_run(fill()))
    (axes,) = figure.axes
    points = {tuple(np.concatenate(line.get_data()).tolist()) for line in axes.lines}
    assert points == {(each["cost"]["sentences_per_second"], each["tasks"]["MR"]["acc"] - 2) for each in ROWS}
    assert {text.get_text() for text in axes.texts} == {each["encoder"] for each in ROWS}
    assert axes.get_xscale() == "log" and axes.get_ylabel() == "mean of MR, STS-B"
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts]  # without their lines
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_without_tasks_similarity_stands_for_the_score_and_noise_stays_small(fill):
    rows = [each | {"tasks": {}} for each in ROWS]
    (axes,) = speed_figure(read_run(fill(rows))).axes
    assert axes.get_ylabel() == "similarity to the teacher"
    (axes,) = speed_figure(read_run(fill(ROWS[1:]))).axes  # scores that differ by 0.3
    assert np.ptp(axes.get_ylim()) >= LEAST_SCORE
    assert speed_figure(read_run(fill(ROWS[:1]))) is None
    assert speed_figure(read_run(fill([each | {"cost": None} for each in ROWS]))) is None


def test_the_nearest_state_is_marked_where_it_becomes_best(fill):
    (axes,) = teacher_figure(read_run(fill())).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["similarity to the teacher", "cosine to the teacher", "highest, 0.580 at step 8: best/"]
    (axes,) = teacher_figure(read_run(fill(config=CONFIG | {"settings": {"dev": "heldout"}}))).axes
    assert len(axes.get_legend_handles_labels()[1]) == 2
    assert teacher_figure(read_run(fill(log=LOG[:1]))) is None


def test_the_page_of_a_run_with_a_teacher_has_both_and_others_none(fill):
    text = write_report(fill()).read_text()
    assert "<figure id='speed'>" in text and "<figure id='teacher'>" in text and "id='dev'" not in text
    assert "sentences/s: encode of 2,000 on a machine." in text and "% of the teacher: the mean of MR, STS-B" in text
    assert "<td>70.0</td>" not in text and f"<td>{100 * 70 / 78:.1f}</td>" in text  # the student's share
    plain = write_report(
        fill([{**each, "cost": None, "role": "x"} for each in ROWS], config=CONFIG | {"teacher": None})
    )
    text = plain.read_text()
    assert "id='speed'" not in text and "% of the teacher" not in text and len(report.TEACHER_FIGURES) == 2
