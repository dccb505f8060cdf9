"""Small tasks of every kind, and their files."""

from pathlib import Path

from eval.tasks import Task
from eval.tasks.table import File

ROWS = {"train": 60, "dev": 30, "test": 40}
TINY_TASK = Task(
    "TINY",
    "a tiny task",
    "nested",
    "line",
    (File("downstream/T/t.pos", 22, "all", 1), File("downstream/T/t.neg", 21, "all", 0)),
    ("bad", "good"),
    encoding="latin-1",
)
TINY_SPLIT = Task(
    "TINY-SPLIT",
    "three classes",
    "split",
    "label_line",
    tuple(File(f"downstream/S/{part}", rows, part) for part, rows in ROWS.items()),
    ("0", "1", "2"),
)
TINY_PAIRS = Task(
    "TINY-PAIRS",
    "paraphrases",
    "kfold",
    "label_tab_pair",
    tuple(File(f"downstream/P/{part}", ROWS[part], part) for part in ("train", "test")),
    ("0", "1"),
    header=True,
    f1=True,
)
TINY_STS = Task(
    "TINY-STS",
    "two subsets",
    "similarity",
    "sts",
    (File("downstream/Y/STS.input.a.txt", 30, "a"), File("downstream/Y/STS.input.b.txt", 20, "b")),
    metric="spearman",
)
STSB = tuple(File(f"downstream/B/{part}", rows, part) for part, rows in ROWS.items())
TINY_STSB = Task("STS-B", "pairs", "similarity", "stsb", STSB, metric="spearman")
TINY_REGRESSED = Task("STS-B-supervised", "pairs", "regression", "stsb", STSB, metric="pearson")
TINY_TASKS = (TINY_TASK, TINY_SPLIT, TINY_PAIRS, TINY_STS, TINY_STSB, TINY_REGRESSED)


def write_lines(path: Path, lines: list[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
