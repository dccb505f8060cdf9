"""A run folder: training writes, replaces and removes what the run has written, and nothing else."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import Accelerator

from recipes import train_bookcorpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.objectives import InfoNCE
from sentemb.storage import remove, unlisted, verify, write_folder
from sentemb.training import EpochLayout, TrainingSettings
from sentemb.training.log import RunLog
from sentemb.training.selection import saved_best
from sentemb.training.state import TrainState
from tests.helpers import (
    TINY,
    records,
)

STEPS = {"max_steps": 4, "save_every": 2, "eval_every": 2, "keep": 1, "dev": "dev"}


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write(path: Path, text: str = "mine") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dev(model) -> dict[str, float]:
    return {"dev": 0.5}


FOREIGN = [
    ".git/HEAD",
    "notes.txt",
    "best/model.bin",
    "last/weights/a",
    "checkpoints/step-1/x",
    "log.jsonl",
    "best",
    "model/x",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_training_into_a_folder_that_holds_anything_is_refused(name, job, tmp_path):
    write(tmp_path / "a" / name, '{"step": 0}\n')
    before = bytes_of(tmp_path / "a")
    with pytest.raises(InputError, match=f"a holds {name.split('/')[0]}, which this run has not written"):
        job("a", **STEPS, score=dev)
    assert bytes_of(tmp_path / "a") == before


def test_training_into_the_folder_of_another_run_is_refused(job, tmp_path):
    run = job("a", **STEPS, score=dev)
    for left in (["best"], ["last"], ["checkpoints"], ["log.jsonl"], []):
        for path in [path for path in run.iterdir() if path.name not in left] if left else []:
            path.rename(tmp_path / f"{path.name}-{left[0]}")
        before = bytes_of(run)
        with pytest.raises(InputError, match="which this run has not written; give a new folder, or continue"):
            job("a", **STEPS, score=dev)
        assert bytes_of(run) == before
        for path in tmp_path.glob(f"*-{left[0]}" if left else "-"):
            path.rename(run / path.name.removesuffix(f"-{left[0]}"))


@pytest.mark.parametrize(
    "name", ["notes.txt", "best/notes.txt", "last/1/notes.txt", "checkpoints/step-4/x", "checkpoints/x", "mine"]
)
def test_what_a_resumed_run_has_not_written_is_refused(name, job, tmp_path):
    run = job("a", **STEPS, score=dev)
    write(run / name)
    before = bytes_of(run)
    with pytest.raises(InputError, match=f"{name} was not written by the run in .*a; move it out"):
        job("a", **STEPS | {"max_steps": 6}, score=dev, resume=True)
    assert bytes_of(run) == before
    (run / name).unlink()
    job("a", **STEPS | {"max_steps": 6}, score=dev, resume=True)


def test_a_resumed_run_leaves_what_only_bears_a_runs_names(job, tmp_path):
    for name, message in (
        ("best/weights", "best/weights was not written"),  # no manifest
        ("log.jsonl", "log.jsonl is not the log of a run"),
    ):
        write(tmp_path / "a" / name, "mine\n")
        with pytest.raises(InputError, match=message):
            job("a", **STEPS, score=dev, resume=True)
        assert (tmp_path / "a" / name).read_text() == "mine\n"
        (tmp_path / "a" / name).unlink()
    (tmp_path / "a" / "best").rmdir()
    log = tmp_path / "a" / "log.jsonl"
    for make in (log.mkdir, lambda: log.symlink_to(tmp_path / "gone")):
        make()
        with pytest.raises(InputError, match="log.jsonl is not the log of a run"):
            job("a", **STEPS, score=dev, resume=True)
        log.rmdir() if log.is_dir() else log.unlink()
    write(tmp_path / "a" / ".git" / "HEAD")  # training touches no hidden files
    job("a", **STEPS, score=dev, resume=True)  # nothing there yet: from step 0
    assert (tmp_path / "a" / ".git" / "HEAD").read_text() == "mine"


def test_a_logger_removes_nothing(job, tmp_path):
    run = job("a", **STEPS, score=dev)
    before, batches = bytes_of(run), SimpleNamespace(pairs=None, updates=EpochLayout(64, 16))
    arguments = (run, Accelerator(cpu=True), TrainingSettings(), 4)
    for done in (0, 2, 4):
        best = saved_best(run, done, "dev")
        with RunLog(*arguments, state=TrainState(done), batches=batches, objective=InfoNCE()):
            pass
        assert best == (0.5 if done else -float("inf")) and bytes_of(run) == before
    write(run / "best" / "selected.json", json.dumps({"step": 2, "dev": 0.7}))
    with RunLog(*arguments, state=TrainState(), batches=batches, objective=InfoNCE()):
        pass
    assert json.loads((run / "best" / "selected.json").read_text()) == {"step": 2, "dev": 0.7}


def test_files_that_come_into_a_saved_folder_meanwhile_are_kept(job, tmp_path):
    steps = iter(range(9))

    def score(model):
        step = next(steps)
        if step == 1:  # after step 2, when best/ and last/ are of step 0
            write(tmp_path / "a" / "best" / "notes.txt", "of step 0")
        if step == 2:
            write(tmp_path / "a" / "checkpoints" / "step-2" / "notes.txt", "of step 2")
        return {"dev": float(step)}

    run = job("a", **STEPS, score=score)
    assert (run / "best-replaced" / "notes.txt").read_text() == "of step 0"
    assert (run / "checkpoints" / "step-2" / "notes.txt").read_text() == "of step 2"  # which keep=1 would remove
    assert json.loads((run / "best" / "selected.json").read_text())["step"] == 4


def test_a_folder_with_files_of_others_is_neither_removed_nor_replaced(tmp_path):
    folder = tmp_path / "model"
    for text in ("first", "second"):
        write_folder(folder, lambda partial, text=text: (partial / "a").write_text(text))
        verify(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    write(folder / "README.md", "edited")  # a card is ours, whatever it says
    for name in (".DS_Store", "._a", "sub/.nfs0001", ".ipynb_checkpoints/a-checkpoint"):
        write(folder / name)
    (tmp_path / "others").mkdir()
    (folder / "link").symlink_to(tmp_path / "others")
    assert unlisted(folder) == [folder / "link"]
    (folder / "link").unlink()
    for number, name in ((1, "model-replaced"), (2, "model-replaced-2")):
        write(folder / "sub" / "mine.txt", str(number))
        remove(folder)
        write_folder(folder, lambda partial: (partial / "a").write_text("third"))
        assert (tmp_path / name / "sub" / "mine.txt").read_text() == str(number)
    remove(folder)
    assert not folder.exists()


def test_a_command_leaves_files_beside_a_runs_own_alone_and_refuses_those_inside(
    recipe,
    book_file,
    tmp_path,
    capsys,
):
    start = ["--corpus", str(book_file), *TINY, "--save-every", "2", "--out", "a"]
    recipe(start)
    run = tmp_path / "a"
    write(run / "notes.txt")
    write(run / "plots" / "a.png")
    (run / "report.html").unlink()
    train_bookcorpus.main(["--resume", "--out", "a"])
    assert (run / "notes.txt").read_text() == (run / "plots" / "a.png").read_text() == "mine"
    write(run / "best" / "notes.txt")
    (run / "report.html").unlink()
    before = bytes_of(run)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train_bookcorpus.main(["--resume", "--out", "a"])
    assert stopped.value.code == 2 and bytes_of(run) == before
    assert "a/best/notes.txt was not written by the run in a" in capsys.readouterr().err
    (run / "best" / "notes.txt").rename(run / "model" / "scores-of-mine.json")
    train_bookcorpus.main(["--resume", "--out", "a"])  # model/ is made again, the other one kept
    assert (run / "model-replaced" / "scores-of-mine.json").is_file()
    assert load(run, device="cpu").encode("hello").shape == (12,) and records(run)[-1]["step"] == 5


def test_dev_scores_that_no_longer_compare_are_forgotten(job, tmp_path):
    for name, forget in (("a", False), ("b", True)):
        job(name, **STEPS, score=lambda model: {"dev": 0.9})
        job(name, **STEPS | {"max_steps": 6}, score=lambda model: {"dev": 0.2}, resume=True, forget_best=forget)
        selected = json.loads((tmp_path / name / "best" / "selected.json").read_text())
        assert selected["step"] == (6 if forget else 0)
