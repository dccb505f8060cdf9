"""The recipe as a user runs it: files it leaves, two processes, resume, and clear errors with exit code 2."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.test_train import steady, torchrun

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "train_bookcorpus.py"
TINY = ["--encoder", "rnn:hidden=6", "--batch-size", "16", "--max-steps", "5", "--warmup", "1", "--no-score"]


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """The recipe's main(), in an empty folder with its own cache; returns stdout's lines."""
    spec = importlib.util.spec_from_file_location("train_bookcorpus", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return module.main


def test_a_run_leaves_what_it_promises(recipe, book_file, tmp_path, capsys):
    recipe(["--corpus", str(book_file), *TINY, "--eval-every", "2", "--save-every", "3"])
    out = capsys.readouterr().out.splitlines()
    run = tmp_path / "runs" / "bookcorpus"
    assert out[0] == out[-1] == "run folder: runs/bookcorpus" and "in-batch negatives per anchor" in out[1]
    assert sorted(p.name for p in run.iterdir()) == sorted(
        ["checkpoints", "config.json", "log.jsonl", "model", "report.html", "scores.json"]
    )
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-3", "step-5"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log if "retrieval_mrr" in r] == [0, 2, 4, 5]
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["corpus"] == str(book_file) and config["corpus"]["documents"] == 12
    rows = json.loads((run / "scores.json").read_text())["rows"]
    assert [row["encoder"] for row in rows] == ["untrained", "trained", "averaged embeddings"]
    assert rows[1]["retrieval_mrr"] == pytest.approx(log[-1]["retrieval_mrr"], abs=1e-6)
    assert SentenceTransformer(str(run / "model")).encode("hello").shape == (12,)
    assert "SentenceTransformer(PATH)" in (run / "model" / "README.md").read_text()

    recipe(["--corpus", str(book_file), *TINY])  # never overwritten: the next free name
    assert (tmp_path / "runs" / "bookcorpus-2" / "model").is_dir()


def test_the_same_command_twice_gives_the_same_log(recipe, book_file, tmp_path):
    for name in ("a", "b"):
        recipe(["--corpus", str(book_file), *TINY, "--out", name])
    assert steady(tmp_path / "a") == steady(tmp_path / "b")


def test_resume_continues_or_says_it_is_finished(recipe, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), *TINY, "--save-every", "2"]
    recipe([*start, "--out", "a"])
    recipe([*start, "--out", "b", "--resume"])  # nothing there yet: from step 0
    assert steady(tmp_path / "a") == steady(tmp_path / "b")
    for lost in ("model", "report.html", "checkpoints/step-5", "checkpoints/step-4"):
        (tmp_path / "b" / lost).rename(tmp_path / lost.replace("/", "-"))
    recipe(["--out", "b", "--resume"])  # settings come from the run
    assert steady(tmp_path / "a") == steady(tmp_path / "b")
    a, b = (SentenceTransformer(str(tmp_path / name / "model")).encode("the cat sees") for name in "ab")
    assert np.array_equal(a, b)
    capsys.readouterr()
    recipe(["--out", "b", "--resume"])
    assert "finished" in capsys.readouterr().out


def test_a_gru_loads_with_sentemb(recipe, book_file, tmp_path):
    import sentemb

    recipe(["--corpus", str(book_file), *TINY, "--encoder", "rnn:cell=gru,hidden=6", "--out", "g"])
    assert sentemb.load(tmp_path / "g").encode("hello").shape == (12,)
    assert "sentemb.load(PATH)" in (tmp_path / "g" / "model" / "README.md").read_text()


def test_a_tracker_gets_the_numbers(recipe, book_file, tmp_path):
    recipe(["--corpus", str(book_file), *TINY, "--track", "tensorboard"])
    assert list((tmp_path / "runs" / "bookcorpus").rglob("events.out.tfevents*"))
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["bookcorpus"]


def test_two_processes_train_together(book_file, tmp_path):
    arguments = ["--corpus", str(book_file), *TINY, "--out", str(tmp_path / "two"), "--save-every", "5"]
    done = torchrun(str(RECIPE), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es) on cpu" in done.stdout and "32 in all, 31 in-batch negatives" in done.stdout
    assert done.stdout.count("run folder:") == 2 and (tmp_path / "two" / "report.html").is_file()


WRONG = {
    "unknown objective": (["--objective", "infonec"], "did you mean 'infonce'"),
    "unknown option": (["--objective", "infonce:temp=1"], "did you mean 'temperature'"),
    "unknown encoder": (["--encoder", "lstm"], "valid: rnn, static, transformer"),
    "unknown pairs": (["--pairs", "neighbors"], "did you mean 'neighbours'"),
    "value out of range": (["--objective", "infonce:temperature=0"], "temperature must be a positive number"),
    "missing corpus": (["--corpus", "nowhere"], "nowhere"),
    "empty corpus": (["--corpus", "empty.txt"], "holds no sentence"),
    "binary corpus": (["--corpus", "binary.txt"], "not plain text"),
    "lonely sentences": (["--corpus", "lonely.txt"], "no neighbour pair"),
    "a used folder": (["--out", "used"], "used is already a run"),
    "a full folder": (["--out", "full"], "not an empty folder"),
    "hub without network": (["--encoder", "transformer:name=no-such/model"], "without a network choose"),
    "batch size": (["--batch-size", "1"], "batch-size must be at least 2"),
    "tracker": (["--track", "tensorbord"], "did you mean 'tensorboard'"),
    "data": (["--data", "nowhere"], "no folder downstream/"),
    "resume without a run": (["--resume"], "--resume needs --out"),
    "resume with other settings": (["--resume", "--out", "used", "--lr", "7"], "was begun with --lr 0.1, not 7.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(case, recipe, book_file, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "lonely.txt").write_text("One sentence.\n\nAnother one.\n")
    for name in ("used", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "used" / "config.json").write_text(json.dumps({"settings": {"lr": 0.1, "corpus": str(book_file)}}))
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    arguments, said = WRONG[case]
    with pytest.raises(SystemExit) as stopped:
        recipe(["--corpus", str(book_file), "--no-score", *arguments])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and said in error and error.startswith("error: ")
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before


def test_help_teaches_and_the_exit_code_reaches_the_shell(tmp_path):
    shown = subprocess.run([sys.executable, RECIPE, "--help"], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0 and "accelerate launch recipes/train_bookcorpus.py" in shown.stdout
    wrong = subprocess.run(
        [sys.executable, RECIPE, "--objective", "none"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr and not list(tmp_path.iterdir())
