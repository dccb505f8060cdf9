"""The folder of an adaptation: what it was started with, its model, its results, its page."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentemb.adaptation.journal import Journal
from sentemb.errors import InputError
from sentemb.storage import write_text, writes_alone

BEGUN, RESULTS, REPORT, MODEL, WORK = "adapt.json", "results.json", "report.html", "model", "work"
Content = dict[str, Any]


@dataclass(frozen=True)
class AdaptationFolder:
    """The paths of an adaptation."""

    path: Path

    @property
    def model(self) -> Path:
        """The one model that comes out."""
        return self.path / MODEL

    @property
    def report(self) -> Path:
        """The page; written last, and so the mark of an adaptation that is done."""
        return self.path / REPORT

    @property
    def results(self) -> Path:
        """All that the page shows, as JSON."""
        return self.path / RESULTS

    @property
    def journal(self) -> Journal:
        """What is done so far; removed at the end."""
        return Journal(self.path / WORK)

    @property
    def done(self) -> bool:
        """Whether the adaptation is finished."""
        return self.report.is_file() and bool(self.read_results())

    def read_begun(self) -> Content:
        """What it was started with; empty where there is none."""
        return _read(self.path / BEGUN)

    def read_results(self) -> Content:
        """Its results; empty if it is not finished."""
        return _read(self.results)

    def begin(self, content: Mapping[str, Any], resume: bool) -> None:
        """Write what it is begun with, or compare that with what a resumed one was started with.

        Raises:
            InputError: it was started with something else.
        """
        if not (resume and (before := self.read_begun())):
            write_text(self.path / BEGUN, json.dumps(content, indent=1) + "\n")
            return
        for name, value in content.items():
            if before.get(name) != value:
                raise InputError(
                    f"{self.path} was started with {name.replace('_', '-')} {before.get(name)}, not {value}; give it "
                    "what it had, or a new folder (out)"
                )

    def finish(self) -> None:
        """Remove files that are no longer needed."""
        shutil.rmtree(self.path / WORK, ignore_errors=True)


@contextmanager
def claimed_folder(out: Path | None, resume: bool) -> Iterator[AdaptationFolder]:
    """Make the folder, and keep other processes from writing into it.

    Args:
        out: new or empty, or, to resume, that of an adaptation; None: a temporary one is made.
        resume: whether one may be there.

    Raises:
        InputError: there is something else, it cannot be written to, or another process writes into it.
    """
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="sentemb-adapt-"))
    folder = AdaptationFolder(out)
    refuse_used_folder(out, resume)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".try").touch()
        (out / ".try").unlink()
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another folder (out)") from None
    with writes_alone(out, f"{out} is in use by another process; wait until it ends"):
        yield folder


def refuse_used_folder(out: Path, resume: bool) -> None:
    """InputError if ``out`` holds what an adaptation must not touch."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder (out)")
    begun = (out / BEGUN).is_file()
    if begun and not resume:
        raise InputError(f"{out} is already an adaptation; resume it, or choose another folder (out)")
    if not begun and out.is_dir() and any(not path.name.startswith(f".{BEGUN}.") for path in out.iterdir()):
        raise InputError(f"{out} exists and is not empty; choose another one (out)")


def _read(path: Path) -> Content:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
