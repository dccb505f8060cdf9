"""Writes small runs and checkpoints by the version at hand, for later versions to load, score and resume.

    python tests/runs/old_runs/make.py        # writes VERSION.tar.xz and VERSION.json next to it

Run it before a change of what runs or checkpoints hold, with a new VERSION, and never again for an old one: the point
of these files is that the version that wrote them is gone. Each run is written to ``/tmp/old_runs``, so that paths in
its config.json name no machine. The corpus is text of our own.
"""

import contextlib
import json
import os
import shutil
import signal
import tarfile
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
WORK = Path("/tmp/old_runs")
OLD_RUNS = Path(__file__).parent
RANDOM = "embeddings=random,dim=8,vocabulary=500"
COMMON = ["--epochs", "2", "--batch-size", "16", "--max-length", "24", "--warmup", "4", "--lr", "0.003", "--threads"]
COMMON += ["1", "--eval-every", "6", "--save-every", "6", "--keep", "2", "--log-every", "1", "--no-score"]
STOP = 8  # step after which the interrupted run is asked to end
RUNS = {
    "lstm": ["--encoder", f"rnn:hidden=6,{RANDOM}"],
    "gru": ["--encoder", f"rnn:cell=gru,hidden=4,layers=2,pooling=max,{RANDOM}", "--objective", "align_uniform"],
    "towers": ["--encoder", f"rnn:hidden=6,bidirectional=false,pooling=last,{RANDOM}", "--towers", "2"]
    + ["--objective", "dpr"],
    "static": ["--encoder", f"static:out=6,{RANDOM}", "--objective", "ntxent", "--head", "projection:out=4"],
    "interrupted": ["--encoder", f"rnn:hidden=6,dropout=0.1,{RANDOM}", "--objective", "moco:queue=64"],
}
TEXTS = ["the miller weighs the flour before noon.", "rain again.", "nobody in the harbour had seen the grey boat"]


def corpus() -> str:
    """Twelve documents of fourteen sentences."""
    people = ["miller", "baker", "sailor", "teacher", "gardener", "weaver", "painter", "doctor"]
    people += ["farmer", "printer", "carpenter", "fiddler"]
    things = ["flour", "bread", "rope", "lesson", "orchard", "loom", "canvas", "lantern", "plough", "paper", "ladder"]
    things += ["melody", "harbour", "boat"]
    deeds = ["weighs", "carries", "mends", "forgets", "counts", "hides", "paints", "borrows", "sells", "finds"]
    deeds += ["cleans", "measures", "lends", "wants"]
    places = ["before noon", "in the harbour", "behind the old mill", "without a word", "after the long rain"]
    moods = ["Nobody objected", "The street was quiet", "It hardly mattered", "Everyone laughed a little"]
    documents = []
    for i, person in enumerate(people):
        lines = []
        for j in range(14):
            deed, thing = deeds[(i + 3 * j) % 14], things[(2 * i + j) % 14]
            other, place = people[(i + j + 1) % 12], places[(i + j) % 5]
            lines.append(
                [
                    f"The {person} {deed} the {thing} {place}.",
                    f"{moods[j % 4]}, and the {other} said that the {thing} was worth {10 * j + i} coins.",
                    f'"Who {deed} a {thing} {place}?" asked the {other}.',
                ][j % 3]
            )
        documents.append("\n".join(lines))
    return "\n\n".join(documents) + "\n"


def stop_at(step: int) -> None:
    """Ask this process to end, as a scheduler does, when the learning rate of that step is asked for."""
    from sentemb.training import loop

    before = loop.set_learning_rate

    def interrupting(optimizer: Any, settings: Any, at: int, steps: int) -> None:
        if at == step:
            loop.set_learning_rate = before
            os.kill(os.getpid(), signal.SIGTERM)
            import time

            time.sleep(0.5)  # (a thread reads the signal)
        before(optimizer, settings, at, steps)

    loop.set_learning_rate = interrupting


def main() -> None:
    """Train, keep what is small, and note what these runs gave."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    os.chdir(WORK)
    os.environ |= {"SENTEMB_CACHE": str(WORK / "cache"), "ACCELERATE_USE_CPU": "true"}
    Path("corpus.txt").write_text(corpus(), encoding="utf-8")
    from recipes import train_bookcorpus
    from sentemb import load

    expected: dict[str, object] = {"texts": TEXTS, "runs": {}}
    for name, flags in RUNS.items():
        arguments = ["--corpus", "corpus.txt", *flags, *COMMON]
        train_bookcorpus.main([*arguments, "--out", f"straight-{name}"])
        if name == "interrupted":
            stop_at(STOP)
        with contextlib.suppress(SystemExit):
            train_bookcorpus.main([*arguments, "--out", name])
        for run in (f"straight-{name}", name):
            Path(run, "report.html").unlink(missing_ok=True)
            shutil.rmtree(Path(run, "checkpoints", "step-18"), ignore_errors=True)  # so that a resume has steps to do
        records = [json.loads(line) for line in Path(f"straight-{name}", "log.jsonl").read_text().splitlines()]
        expected["runs"][name] = {  # type: ignore[index]
            "embeddings": load(name, device="cpu").encode(TEXTS).round(7).tolist(),
            "losses": [round(record["loss"], 7) for record in records],
            "batches": [record["batch"] for record in records],
            "retrieval_mrr": round(records[-1]["retrieval_mrr"], 7),
        }
    with tarfile.open(OLD_RUNS / f"{VERSION}.tar.xz", "w:xz", preset=9) as archive:
        for path in ["corpus.txt", *RUNS]:
            archive.add(path, filter=_anonymous)
    (OLD_RUNS / f"{VERSION}.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
