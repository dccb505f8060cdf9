"""Manifests of the folders that sentemb writes: files, sizes and sha256, which are compared before a folder is used."""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sentemb.errors import CorruptFolder
from sentemb.storage.digest import digest

MANIFEST = "manifest.json"
PARTIAL = ".partial-"  # in the name of a folder that is being written; the number of its process follows
MEND = "copy the folder again, or use another"
OURS = ("training.json", "selected.json")  # say with "manifest": true that the folder was written with one
# Of systems, of notebooks, and of writers that were killed: nobody's files.
LEFTOVER = re.compile(r"\.DS_Store|\._.+|\.nfs.+|\.ipynb_checkpoints|\..+\.[0-9a-f]{32}")


def verify(folder: Path) -> None:
    """Damaged if a folder is not what its manifest says, byte for byte, or has no manifest though it was written with.

    A folder from elsewhere, without any, passes. README.md, which people edit, and files that were put there later are
    nobody's business.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if any(_written_with_one(folder / name) for name in OURS):
            raise CorruptFolder(f"{path} is missing, so nothing shows whether the folder is complete; {MEND}")
        return
    try:
        text = path.read_text(encoding="utf-8")
        files = {
            str(name): (int(about["bytes"]), str(about["sha256"])) for name, about in json.loads(text)["files"].items()
        }
        if _text(json.loads(text)["files"]) != text:
            raise ValueError("its own sha256 differs")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptFolder(f"{path} is damaged ({' '.join(str(error).split())[:100]}); {MEND}") from None
    present_files = {name: file for name, file in _files(folder).items() if name in files}
    for name, (size, _) in sorted(files.items()):
        if name not in present_files:
            raise CorruptFolder(f"{folder / name}, which {path} lists, is missing; {MEND}")
        if (size_on_disk := _size(present_files[name])) != size:
            raise CorruptFolder(
                f"{folder / name} is damaged: it has {size_on_disk} bytes, not the {size} that {path} lists; {MEND}"
            )
    for name, file in present_files.items():
        if digest(file, "sha256") != files[name][1]:
            raise CorruptFolder(f"{file} is damaged: its sha256 is not the one that {path} lists; {MEND}")


def unlisted(folder: Path) -> list[Path]:
    """The files in a folder that its manifest does not name, README.md excepted: not ours to remove.

    Of a folder without a manifest all of them, unless it is a checkpoint or model of a version that wrote none; of one
    whose manifest is damaged or lost, none (:func:`verify` says that).
    """
    marks = [folder / name for name in OURS if (folder / name).is_file()]
    manifest = folder / MANIFEST
    if manifest.is_file():
        try:
            listed = set(json.loads(manifest.read_text(encoding="utf-8"))["files"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []
    elif marks:
        return []
    else:
        listed = set()
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    names = {path: path.relative_to(folder) for path in files}
    return [
        path
        for path, name in names.items()
        if name.as_posix() not in listed | {MANIFEST, "README.md"} and not any(map(LEFTOVER.fullmatch, name.parts))
    ]


def _size(path: Path) -> int:
    """0 for a file that is gone: a run may remove its oldest checkpoint at any time."""
    return path.stat().st_size if path.exists() else 0


def _written_with_one(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("manifest"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError, RecursionError):  # damaged, too
        return True


def manifest_of(folder: Path, left_out: Collection[str] = ()) -> str:
    """The text of a folder's manifest, as its files are now, without those ``left_out``."""
    files = {name: path for name, path in _files(folder).items() if name not in left_out}
    return _text({name: {"bytes": p.stat().st_size, "sha256": digest(p, "sha256")} for name, p in files.items()})


def _text(files: dict[str, Any]) -> str:
    """The manifest, which carries its own digest: a changed one is noticed, too."""
    listed = json.dumps(files, indent=1, sort_keys=True)
    checksum = hashlib.sha256(listed.encode()).hexdigest()
    return json.dumps({"format": 1, "sha256": checksum, "files": files}, indent=1, sort_keys=True) + "\n"


def _files(folder: Path) -> dict[str, Path]:
    """What a manifest speaks of, by its path inside the folder."""
    paths_by_name = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    hidden = {name for name in paths_by_name if any(part.startswith(".") for part in name.parts)}
    aside = {Path(MANIFEST), Path("README.md")}
    return {name.as_posix(): path for name, path in paths_by_name.items() if name not in hidden | aside}
