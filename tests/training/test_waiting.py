"""Several processes: who prepares, how long the others wait, and what is said where one hangs."""

import ast
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from recipes import train_bookcorpus
from sentemb.corpus import open_corpus
from sentemb.storage import lock_of
from sentemb.training import Patience, explained
from tests.helpers import records
from tests.robustness import faults

ROOT = Path(__file__).parents[2]


def begin(folder: Path, *more: str) -> list[str]:
    corpus = faults.write_corpus(folder / "text.txt")
    arguments = ["--corpus", str(corpus), "--encoder", faults.KINDS["static"], "--batch-size", "8", "--no-score"]
    return [*arguments, "--precision", "no", "--log-every", "1", "--out", str(folder / "run"), *more]


def test_a_process_that_hangs_ends_the_others_after_the_timeout(tmp_path):
    arguments = begin(tmp_path, "--max-steps", "100000", "--save-every", "5", "--timeout", "0.08")
    first, second = faults.start(arguments, tmp_path, world=2)
    try:
        while first.is_alive() and not (tmp_path / "run" / "checkpoints" / "step-10").exists():
            time.sleep(0.05)
        os.kill(second.pid, signal.SIGSTOP)
        start = time.monotonic()
        first.join(120)
        assert first.exitcode == 1 and time.monotonic() - start < 60
    finally:
        first.kill()
        second.kill()
    printed = (tmp_path / "printed-0").read_text()
    assert "another process of this run has not answered for as long as --timeout says" in printed
    assert "the last good checkpoint is" in printed and "--resume" in printed and "Traceback" not in printed


@pytest.mark.slow
def test_a_machine_that_prepares_for_longer_than_the_timeout_is_waited_for(tmp_path, monkeypatch):
    """Two machines, as two caches; the first one's corpus is locked, as if it was being prepared, for 8 of 3 s."""
    arguments = begin(tmp_path, "--max-steps", "3", "--timeout", "0.05", "--eval-every", "0")
    folders = [tmp_path / "machine-0", tmp_path / "machine-1"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "elsewhere"))
    key = open_corpus(str(tmp_path / "text.txt"), progress=False).fingerprint
    monkeypatch.setenv("SENTEMB_CACHE", str(folders[0] / "cache"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    faults.SPAWN.set_forkserver_preload(["recipes.runner.evaluation", "sentemb.pipeline.experiment"])
    made = [
        faults.SPAWN.Process(target=faults.recipe, args=(arguments, str(folder), rank, 2, port, None), daemon=False)
        for rank, folder in enumerate(folders)
    ]
    with lock_of(folders[0] / "cache" / "corpora" / key):
        for process in made:
            process.start()
        while not (folders[1] / "cache" / "corpora" / key).exists():
            assert made[1].is_alive()
            time.sleep(0.05)
        time.sleep(8)
    for process in made:
        process.join(120)
    printed = "".join((folder / f"printed-{rank}").read_text() for rank, folder in enumerate(folders))
    assert [process.exitcode for process in made] == [0, 0], printed
    assert records(tmp_path / "run")[-1]["step"] == 3 and printed.count("waiting: another process is preparing") == 1


def test_who_prepares_is_decided_by_the_lock_and_not_by_the_clock():
    for path in [*(ROOT / "recipes").rglob("*.py"), *(ROOT / "sentemb").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert not ast.unparse(node.func).endswith("sleep"), path


def test_alone_nobody_is_waited_for():
    Patience().wait()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "1e9"])
def test_a_timeout_is_some_minutes(minutes, recipe, book_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_bookcorpus.main(["--corpus", str(book_file), "--timeout", minutes])
    assert stopped.value.code == 2 and "error: timeout must be a" in capsys.readouterr().err


def test_what_is_said_of_a_process_that_is_gone_and_of_one_that_hangs(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    late = RuntimeError("[gloo/transport/tcp] Timed out waiting 600000ms for recv operation to complete")
    gone = RuntimeError("[gloo/transport/tcp] Connection closed by peer")
    assert "has not answered for as long as --timeout says" in explained(late)
    assert "has ended, see what it said" in explained(gone)
