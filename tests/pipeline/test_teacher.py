"""Training with a teacher: from Python and on the command line, resumed, and refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sentemb
from recipes import train_bookcorpus
from sentemb.errors import InputError
from sentemb.pipeline import teaching
from sentemb.teacher import TeacherFolder, parse_teacher
from tests.helpers import DOCUMENTS, LITTLE, STATIC


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def teacher(tiny, tmp_path) -> str:
    """The folder of a teacher that a test may change."""
    shutil.copytree(tiny, tmp_path / "teacher")
    return str(tmp_path / "teacher")


def train(teacher, **more):
    options = {"encoder": STATIC, "objective": "distill", "teacher": teacher, **LITTLE, **more}
    return sentemb.train(DOCUMENTS, **options)


def config(run):
    return json.loads((run.folder / "config.json").read_text())


def test_a_student_comes_nearer_to_its_teacher(teacher, tmp_path):
    run = train("./teacher:layers=1-2", out="run", max_steps=60, lr=5e-2)
    losses = run.log["loss"].dropna().to_numpy()
    assert len(losses) >= 60 and np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    stored = config(run)
    assert stored["settings"]["teacher"] == f"{teacher}:layers=1-2"  # from any folder
    spec = parse_teacher(f"{teacher}:layers=1-2")
    about = {"dimension": 64, "sentences": 90, "fingerprint": TeacherFolder(spec).fingerprint_of_output}
    assert stored["teacher"].items() >= about.items()


def test_a_student_learns_standardised_components(teacher):
    run = train(f"{teacher}:layers=1-2,scale=standard,dim=8", out="run", max_steps=60, lr=5e-2)
    losses = run.log["loss"].dropna().to_numpy()
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5]) and config(run)["teacher"]["dimension"] == 8
    with pytest.raises(InputError, match="dim=65 is more than the 64 dimensions"):
        train(f"{teacher}:layers=1-2,dim=65")


def test_a_resumed_run_ends_as_one_in_one_go_and_another_teacher_is_refused(teacher, monkeypatch):
    straight = train(teacher, out="straight")
    train(teacher, out="resumed", max_steps=2)
    run = train(teacher, out="resumed", resume=True)
    sentences = ["the cat", "a nurse sees"]
    assert (run.model.encode(sentences) == straight.model.encode(sentences)).all()

    path = Path(teacher, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    with pytest.raises(InputError, match="started with another teacher of the name .*put the former model back"):
        train(teacher, out="resumed", resume=True, max_steps=6)
    with pytest.raises(InputError, match="started with --teacher"):
        train(f"{teacher}:layers=1", out="resumed", resume=True)


def test_the_best_model_may_be_the_one_nearest_to_the_teacher(teacher, tmp_path):
    more = {"max_steps": 30, "eval_every": 5, "dev": "teacher", "select": "best", "objective": "infonce + distill*5"}
    run = train(f"{teacher}:layers=1-2", out="run", **more)
    assert config(run)["settings"]["dev"] == "teacher"
    similarity = run.log["teacher_similarity"].dropna()
    assert list(similarity.index) == list(range(0, 31, 5)) and similarity.nunique() > 1
    selected = json.loads((run.folder / "best" / "selected.json").read_text())
    assert (selected["step"], selected["teacher_similarity"]) == (similarity.idxmax(), similarity.max())
    assert run.log["teacher_cosine"][30] > run.log["teacher_cosine"][0]  # through the map of the sum's part
    rows = run.scores
    assert rows["alignment"].notna().all() and list(rows.index)[0] == "teacher teacher"


def test_similarity_needs_no_map_and_a_head_is_seen_through(teacher):
    alike = train(teacher, objective="distill_similarity", eval_every=2).log
    assert "teacher_cosine" not in alike and alike["teacher_similarity"].dropna().size == 3
    seen = train(teacher, head="projection:out=32", objective="distill:map=none", max_steps=60, lr=5e-2).log
    cosine = seen["teacher_cosine"].dropna()
    assert cosine[60] > cosine[0] + 0.1


def test_a_resumed_run_computes_in_the_precision_that_it_was_begun_with(teacher, monkeypatch):
    asked = []
    plain = teaching.embed_by_teacher

    def embed(*arguments):
        embeddings, about = plain(*arguments)
        asked.append((about["precision"], embeddings.folder))
        return embeddings, about

    monkeypatch.setattr(teaching, "embed_by_teacher", embed)
    for units in (True, False):
        monkeypatch.setattr("sentemb.pipeline.processes.bf16_units", lambda units=units: units)
        train(teacher, out="run", resume=True, max_steps=2 if units else 4)
    train(teacher, out="another")
    precisions, folders = zip(*asked, strict=True)
    assert precisions == ("bf16", "bf16", "no") and folders[0] == folders[1] != folders[2]


def test_only_pairs_of_the_sentences_that_the_teacher_embeds_are_trained_on(teacher):
    run = train(teacher, teacher_sentences=40)
    assert config(run)["teacher"]["sentences"] <= 40
    assert config(run)["corpus"]["pairs"] < 40
    assert config(train(teacher))["corpus"]["pairs"] == 81


@pytest.mark.parametrize("pairs", ["contiguous", "augment", "dropout"])
def test_other_pairs_than_neighbours(pairs, teacher):
    assert train(teacher, pairs=pairs, force=True).complete


def test_what_does_not_go_together_is_refused_and_nothing_is_written(teacher, tmp_path):
    with pytest.raises(InputError, match="objectives that learn from one, and this one does not"):
        train(teacher, objective="infonce", out="run")
    with pytest.raises(InputError, match="teacher's embeddings; give --teacher"):
        train(None, out="run")
    with pytest.raises(InputError, match="--teacher-sentences is for --teacher"):
        train(None, teacher_sentences=50, out="run")
    with pytest.raises(InputError, match="--dev teacher is for runs with --teacher"):
        train(None, objective="infonce", dev="teacher", out="run")
    with pytest.raises(InputError, match="only 20 distinct sentences"):
        train(teacher, teacher_sentences=20, out="run")
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*teacher-*"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--teacher", "TEACHER:layers=1-3"], "has 2 layers, and layers=1-3 asks for number 3"),
        (["--teacher", "no/such"], "no model 'no/such' here or on the hub"),
        (["--teacher", "TEACHER", "--objective", "infonce"], "and this one does not"),
        (["--teacher", "TEACHER:layers=0-2"], "96 dimensions, and there are only"),
    ],
)
def test_a_command_refuses_a_teacher_in_one_sentence(options, error, teacher, book_file, tmp_path, capsys):
    text = book_file.read_text().split("\n\n")
    book_file.write_text("\n\n".join(text[:8]))
    start = ["--corpus", str(book_file), "--encoder", STATIC, "--out", "run", "--objective", "distill"]
    with pytest.raises(SystemExit) as ended:
        train_bookcorpus.main([*start, *(option.replace("TEACHER", teacher) for option in options)])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and last.startswith("error: ") and error in last
    assert not (tmp_path / "run").exists()
