"""Runs and checkpoints of earlier versions load, score and resume.

``old_runs/VERSION.tar.xz`` holds what that version wrote, and ``VERSION.json`` what it gave; ``old_runs/make.py`` made
them. Embeddings and losses are compared with a tolerance: they were computed on another machine.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from eval import senteval
from recipes import train_bookcorpus
from sentemb.encoders import load
from sentemb.runs import is_stock
from sentemb.storage import verify
from tests.helpers import records

OLD_RUNS = Path(__file__).parent / "old_runs"
VERSIONS = sorted(path.stem for path in OLD_RUNS.glob("*.json"))
RUNS = [
    (version, name) for version in VERSIONS for name in json.loads((OLD_RUNS / f"{version}.json").read_text())["runs"]
]
SAVED = {"lstm": 3, "gru": 3, "towers": 3, "static": 3, "interrupted": 2}  # folders next to checkpoints with a model


@pytest.fixture
def old(request, tmp_path, monkeypatch) -> tuple[Path, dict]:
    """A run of an earlier version, its corpus where config.json says, and what it gave."""
    version, name = request.param
    with tarfile.open(OLD_RUNS / f"{version}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    config = tmp_path / name / "config.json"
    config.write_text(config.read_text().replace("/tmp/old_runs", str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    expected = json.loads((OLD_RUNS / f"{version}.json").read_text())
    return tmp_path / name, expected["runs"][name] | {"texts": expected["texts"]}


def test_there_are_runs_of_an_earlier_version_and_they_are_small():
    assert {name for version, name in RUNS if version == "0.1.0"} == set(SAVED)
    assert sum(path.stat().st_size for path in OLD_RUNS.iterdir() if path.is_file()) < 300 * 1024


@pytest.mark.parametrize("old", RUNS, indirect=True, ids="-".join)
def test_a_run_of_an_earlier_version_loads_and_scores(old, folder, tmp_path, capsys):
    run, expected = old
    model = load(run, device="cpu")
    assert np.abs(model.encode(expected["texts"]) - np.array(expected["embeddings"])).max() < 1e-5
    saved = [path for path in (run / "model", run / "best", run / "last", *run.glob("checkpoints/*")) if path.exists()]
    assert len(saved) > SAVED[run.name]
    for place in saved:
        verify(place)
        once_more = load(place, device="cpu").encode(expected["texts"])
        assert np.isfinite(once_more).all()
        trusted = SentenceTransformer(str(place), device="cpu", trust_remote_code=not is_stock(place))
        assert np.array_equal(trusted.encode(expected["texts"]), once_more)
    with pytest.raises(SystemExit) as stopped:
        senteval.main([str(run), "--data", str(folder), "--tasks", "TINY,TINY-STS", "--output", "scores.json"])
    assert stopped.value.code == 0, capsys.readouterr().err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["tasks"]) == {"TINY", "TINY-STS"} and scores["geometry"]["pairs"] > 10  # of the run's own corpus
    geometry = scores["geometry"]  # of one of twelve documents, as then
    assert "neighbouring pairs from 1 held-out document of file corpus.txt" in geometry["source"]
    assert geometry["documents"] == 1


@pytest.mark.parametrize("old", RUNS, indirect=True, ids="-".join)
def test_a_run_of_an_earlier_version_resumes_as_it_would_have_gone_on(old, tmp_path, capsys):
    run, expected = old
    before = records(run)
    steps = sorted(int(path.name[5:]) for path in (run / "checkpoints").iterdir())
    assert steps[-1] < len(expected["losses"]) - 1  # there is something left to do
    train_bookcorpus.main(["--resume", "--out", str(run)])
    log = records(run)
    assert [r["step"] for r in log] == list(range(len(expected["losses"])))
    assert [r["batch"] for r in log] == expected["batches"]
    assert [r["loss"] for r in log] == pytest.approx(expected["losses"], rel=1e-4)
    assert log[: steps[-1] + 1] == before[: steps[-1] + 1]  # what was done stays as it was written
    printed = capsys.readouterr().out
    if run.name == "towers":  # whose score was of cosines, and is of dpr's inner products now
        assert "ranked by dot (f against g) now, and were by cosine (f against g)" in printed
        assert json.loads((run / "best" / "selected.json").read_text())["step"] > steps[-1]
    else:
        assert log[-1]["retrieval_mrr"] == pytest.approx(expected["retrieval_mrr"], abs=0.02)
        assert "held-out pairs are ranked by" not in printed
    assert "report.html" in printed and (run / "report.html").is_file() and (run / "scores.json").is_file()
    verify(run / "model")
    assert load(run, device="cpu").encode("hello").shape == (len(expected["embeddings"][0]),)


@pytest.mark.parametrize("old", RUNS[:1], indirect=True, ids="-".join)
@pytest.mark.parametrize(("name", "value", "former"), [("schedule", "cosine", "linear"), ("optimizer", "sgd", "adamw")])
def test_a_run_of_a_version_without_a_setting_goes_on_as_that_version_did(name, value, former, old, capsys):
    run, _ = old
    config = json.loads((run / "config.json").read_text())
    assert name not in config["settings"]
    with pytest.raises(SystemExit) as stopped:
        train_bookcorpus.main(["--resume", "--out", str(run), f"--{name}", value])
    assert stopped.value.code == 2 and f"--{name}" in capsys.readouterr().err
    config["settings"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit) as stopped:
        train_bookcorpus.main(["--resume", "--out", str(run)])
    assert stopped.value.code == 2
    assert f"was made with {name} {former}, and now it is {value}" in capsys.readouterr().err


@pytest.mark.parametrize("old", RUNS[:1], indirect=True, ids="-".join)
def test_a_model_of_an_earlier_version_is_one_to_begin_from(old, tmp_path):
    run, _ = old
    few = ["--corpus", "corpus.txt", "--max-steps", "2", "--batch-size", "16", "--max-length", "24", "--no-score"]
    train_bookcorpus.main([*few, "--init", str(run), "--out", "next"])
    assert records(tmp_path / "next")[-1]["step"] == 2
