"""Training with a guide: from Python and on the command line, its embeddings cached, resumed, and refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import sentemb
from recipes import train_bookcorpus
from sentemb.errors import InputError
from sentemb.teacher import GuideSpec, TeacherFolder, TeacherSpec, parse_guide
from sentemb.teacher.model import TeacherModel
from tests.helpers import DOCUMENTS, LITTLE, STATIC


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def guide(tiny, tmp_path) -> str:
    """The folder of a guide that a test may change."""
    shutil.copytree(tiny, tmp_path / "guide")
    return str(tmp_path / "guide")


def train(guide, **more):
    return sentemb.train(DOCUMENTS, **{"encoder": STATIC, "guide": guide, **LITTLE, **more})


def config(run):
    return json.loads((run.folder / "config.json").read_text())


def test_a_run_says_which_guide_it_had_and_how_much_that_left_out(guide, capsys):
    run = train("./guide:margin=0.001,relative_margin=0.01,layers=1", out="run")
    shares = run.log["guide_masked"].dropna()
    assert len(shares) == 5 and shares.between(0, 1).all() and shares.max() > 0
    stored = config(run)
    assert stored["settings"]["guide"] == f"{guide}:margin=0.001,relative_margin=0.01,layers=1"  # from any folder
    fingerprint = TeacherFolder(TeacherSpec(guide, layers="1")).fingerprint_of_output
    assert stored["guide"].items() >= {"dimension": 32, "sentences": 90, "fingerprint": fingerprint}.items()
    assert stored["teacher"] is None and config(train(None))["guide"] is None
    expected = "less those that the guide finds nearer than c - 0.001 - 0.01 |c|, its cosine of the positive pair"
    assert expected in stored["description"] and expected in capsys.readouterr().out


def test_the_embeddings_are_computed_once_also_for_a_teacher(guide, monkeypatch, tmp_path):
    train(guide, out="first")
    with monkeypatch.context() as patch:
        patch.setattr(TeacherModel, "embed", lambda *_: pytest.fail("a sentence was embedded again"))
        train(f"{guide}:margin=0.05", out="second", objective="moco:queue=32 + infonce")
    folders = list((tmp_path / "cache").rglob("embeddings.f16"))
    train(guide, teacher=guide, out="third", objective="infonce + distill")
    assert len(folders) == 1
    assert len(list((tmp_path / "cache").rglob("embeddings.f16"))) == 2  # the teacher's of held-out sentences


def test_a_resumed_run_ends_as_one_in_one_go_and_another_guide_is_refused(guide):
    straight = train(guide, out="straight")
    train(guide, out="resumed", max_steps=2)
    run = train(guide, out="resumed", resume=True)
    sentences = ["the cat", "a nurse sees"]
    assert (run.model.encode(sentences) == straight.model.encode(sentences)).all()
    assert run.log["guide_masked"].equals(straight.log["guide_masked"])
    with pytest.raises(InputError, match="started with --guide"):
        train(f"{guide}:margin=0.1", out="resumed", resume=True)
    path = Path(guide, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    with pytest.raises(InputError, match="started with another guide of the name .*put the former model back"):
        train(guide, out="resumed", resume=True)


@pytest.mark.parametrize("pairs", ["contiguous", "augment", "dropout"])
def test_other_pairs_than_neighbours(pairs, guide):
    run = train(f"{guide}:margin=0.02", pairs=pairs, force=True)
    assert run.complete and run.log["guide_masked"].notna().all()


def test_hard_negatives_are_left_out_too(guide, nli):
    both = [sentemb.train(f"labelled:path={nli}", pairs="labelled", encoder=STATIC, guide=spec, **LITTLE).log
            for spec in (guide, f"{guide}:margin=2")]  # fmt: skip
    assert both[0]["guide_masked"].max() < 1 and np.allclose(both[1]["guide_masked"].dropna(), 1)
    assert np.allclose(both[1]["loss"].dropna(), 0, atol=1e-5) and "hardly anything" in str(
        both[1]["warnings"].to_list()
    )


def test_what_does_not_go_together_is_refused_and_nothing_is_written(guide, tmp_path):
    with pytest.raises(InputError, match="objective vicreg has no negatives that a guide could leave out"):
        train(guide, objective="vicreg", out="run")
    with pytest.raises(InputError, match="a guide finds nothing nearer to it than itself; give --guide a margin"):
        train(guide, pairs="dropout", force=True, out="run")
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*teacher-*"))


@pytest.mark.parametrize(
    ("guide_spec", "error"),
    [
        ("GUIDE:layers=1-3", "guide .* has 2 layers, and layers=1-3 asks for number 3"),
        ("GUIDE:margin=3", r"margin must lie in \[-2, 2\], got 3.0"),
        ("GUIDE:relative_margin=nan", r"relative_margin must lie in \[-1, 1\], got nan"),
        ("GUIDE:margins=1", "unknown option of guide .* 'margins' .did you mean 'margin'"),
        ("GUIDE:dim=4", "unknown option of guide .* 'dim'"),
        ("no/such", "no model 'no/such' here or on the hub"),
        (":margin=1", "names no guide; write NAME or NAME:margin=0.05"),
    ],
)
def test_a_command_refuses_a_guide_in_one_sentence(guide_spec, error, guide, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), "--encoder", STATIC, "--out", "run"]
    with pytest.raises(SystemExit) as ended:
        train_bookcorpus.main([*start, "--guide", guide_spec.replace("GUIDE", guide)])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and last.startswith("error: ")
    assert re.search(error, last), last
    assert not (tmp_path / "run").exists()


def test_a_guide_s_spec_is_read_without_opening_it():
    assert parse_guide("a/b:margin=0.1,prompt=") == GuideSpec("a/b", 0.1, prompt="")
    assert parse_guide("minilm:layers=2,pooling=cls").model == TeacherSpec("minilm", "2", "cls")
    with pytest.raises(InputError, match="layers are A-B or A"):
        parse_guide("minilm:layers=4-2")
