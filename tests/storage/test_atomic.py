"""Folders are whole or not there, and one that was changed is named by its file."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sentemb.errors import CorruptFolder, disk_full
from sentemb.storage import MANIFEST, recover, remove, verify, write_folder, write_text


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with two files, one of them in a folder of its own."""

    def write(place: Path) -> None:
        (place / "inner").mkdir()
        (place / "a.json").write_text("{}")
        (place / "inner" / "b.bin").write_bytes(bytes(range(100)))
        (place / "README.md").write_text("for people")

    write_folder(tmp_path / "whole", write)
    return tmp_path / "whole"


def test_what_was_written_is_whole_and_people_may_edit_its_readme(folder):
    verify(folder)
    (folder / "README.md").write_text("edited")
    (folder / ".DS_Store").write_text("of a file manager")
    (folder / "scores.json").write_text("put there later")
    verify(folder)
    verify(shutil.copytree(folder, folder.parent / "copy"))


CHANGES = {
    "cut": lambda f: os.truncate(f / "inner/b.bin", 50),
    "a bit": lambda f: (f / "inner/b.bin").write_bytes(b"\1" + bytes(range(1, 100))),
    "gone": lambda f: (f / "inner/b.bin").unlink(),
    "manifest cut": lambda f: os.truncate(f / MANIFEST, 40),
    "manifest changed": lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text().replace("100", "101")),
    "manifest respaced": lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text() + " "),
    "manifest of depth": lambda f: (f / MANIFEST).write_text("[" * 100_000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_named_by_its_file(change, folder):
    CHANGES[change](folder)
    named = MANIFEST if change.startswith("manifest") else "b.bin"
    with pytest.raises(CorruptFolder, match=named):
        verify(folder)


def test_folders_from_elsewhere_have_no_manifest_and_ours_must(tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    verify(tmp_path)
    (tmp_path / "training.json").write_text('{"step": 3}')  # of a version that wrote no manifests
    verify(tmp_path)
    (tmp_path / "training.json").write_text('{"step": 3, "manifest": true}')
    with pytest.raises(CorruptFolder, match=f"{MANIFEST} is missing"):
        verify(tmp_path)


def test_a_failed_write_leaves_the_old_folder_whole(folder):
    def fail(place: Path) -> None:
        (place / "a.json").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as stopped:
        write_folder(folder, fail)
    assert disk_full(stopped.value) and [p.name for p in folder.parent.iterdir()] == ["whole"]
    verify(folder)


def test_what_killed_writers_left_is_put_in_order(folder):
    parent = folder.parent
    folder.rename(parent / ".whole.partial-7-replaced")  # killed between the two renames
    (parent / ".whole.partial-7").mkdir()
    (parent / ".other.partial-8").mkdir()
    (parent / f".log.jsonl.{'0' * 32}").write_text("half")
    recover(parent)
    assert [p.name for p in parent.iterdir()] == ["whole"]
    verify(folder)
    remove(folder)
    assert not list(parent.iterdir())


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    write_text(tmp_path / "a", "first")
    monkeypatch.setattr(Path, "replace", lambda *arguments: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "second")
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "first"


def test_errors_of_a_full_disk_are_known_however_they_are_wrapped():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not write") from error
    except RuntimeError as error:
        assert disk_full(error)
    assert disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not disk_full(OSError(errno.EACCES, "Permission denied"))


def test_a_killed_writer_leaves_the_old_folder_or_the_new_one(tmp_path):
    """SIGKILL in the midst of writing, ten times: what stands under the name is whole."""
    code = (
        "import sys, pathlib\nfrom sentemb.storage.atomic import write_folder\nn = 0\n"
        "def write(place):\n    for i in range(20):\n        (place / f'{i}').write_text(str(n) * 5000)\n"
        "while True:\n    n += 1\n    write_folder(pathlib.Path(sys.argv[1]), write)\n    print(n, flush=True)\n"
    )
    newest = 0
    for number in range(10):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
        for _ in range(1 + number % 3):
            newest = int(process.stdout.readline())
        process.kill()
        process.communicate()
        recover(tmp_path)
        verify(tmp_path / "a")
        assert len({p.read_text() for p in (tmp_path / "a").iterdir() if p.name != MANIFEST}) == 1
    assert newest > 0
