"""Static students of one teacher: ours against model2vec's distill, in similarity, speed and size.

    python benchmarks/distill.py --data SENTEVAL                                  # of the vocabulary alone
    python benchmarks/distill.py --data SENTEVAL runs/student                     # and students that were trained
    python benchmarks/distill.py --data SENTEVAL --tokenlearn 100000 --corpus BOOKS runs/student

Theirs is made with model2vec's defaults, in a virtual environment that is installed from distill-requirements.txt into
the cache the first time (minutes, and more than a gigabyte). Ours is the encoder ``static:distill=TEACHER,dim=DIM``,
whose weights count the words of --corpus (theirs take the rank in the vocabulary), written in float16 and in int8.
--tokenlearn adds tokenlearn 0.2.1, which trains model2vec's student on N sentences of the corpus, with its
defaults (a vocabulary of 56,000 words). Students that were trained are given as run folders.

The score is the mean of Spearman x 100 over STS12 to STS16, STS-B and SICK-R (test). The interval of a difference is a
paired bootstrap: pairs of each task are drawn again, the same ones for both. Sentences per second are those of
``SentenceTransformer.encode`` on sentences of these tasks, all with one batch size; runs take turns, and a figure is
the median. Last lines: `ratio NAME VALUE`, ours over theirs, or a student's speed over its teacher's.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from eval import ScoringSettings, choose_tasks, data_folder, measure, read
from eval.sts import correlate
from eval.tasks import Data
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import ENCODERS, folder_of_model, load, save_model2vec
from sentemb.errors import InputError
from sentemb.geometry import LEVEL, bootstrap_interval, resampled_spearman_differences
from sentemb.registry import build
from sentemb.runs import model_name
from sentemb.storage import cache_dir, key_of
from sentemb.training import processor, tune_memory, use_threads

BENCHMARKS = Path(__file__).parent
REQUIREMENTS, SCRIPT = BENCHMARKS / "distill-requirements.txt", BENCHMARKS / "model2vec_student.py"
TASKS = "sts"
BLOCK = 50_000  # sentences of the corpus that are read together
MAX_LENGTH = 512  # tokens, as model2vec cuts
OURS, OURS_INT8, DISTILL, TOKENLEARN, TEACHER = "ours", "ours int8", "model2vec", "tokenlearn", "teacher"
Predictions = dict[str, tuple[np.ndarray, np.ndarray]]  # of a task's pairs: cosines, human scores


@dataclass(frozen=True)
class Student:
    """A model with its folder, its predictions, and its speed."""

    name: str
    folder: Path
    model: SentenceTransformer
    predictions: Predictions

    @property
    def scores(self) -> list[float]:
        """Spearman x 100 of each task."""
        return [100 * correlate(*pairs).spearman for pairs in self.predictions.values()]

    @property
    def megabytes(self) -> float:
        """On the disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()) / 1e6


def environment() -> Path:
    """The python of model2vec's virtual environment, which is installed if it is not there."""
    text = REQUIREMENTS.read_text(encoding="utf-8")
    folder = cache_dir() / "benchmarks" / key_of("model2vec", text, sys.version)
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.is_file():
        print(f"installing {REQUIREMENTS.name} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
        subprocess.run([*install, str(REQUIREMENTS)], check=True)
        complete.touch()
    return python


def theirs(python: Path, teacher: Path, out: Path, dimensions: int, sentences: Path | None = None) -> None:
    """A student by model2vec, or by tokenlearn where there are sentences, in the folder ``out``."""
    arguments = [teacher, out, dimensions, *([sentences] if sentences else [])]
    command = [str(python), "-I", str(SCRIPT), *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=sys.stderr)


def predictions_of(model: SentenceTransformer, tasks: Sequence[Data], batch_size: int) -> Predictions:
    """Cosines and human scores of the pairs of each task."""
    settings = ScoringSettings(geometry_part="none", dev=False)
    result, scored = measure(model, tasks, None, batch_size, settings=settings)
    for name, reason in result["failed"].items():
        raise InputError(f"{name}: {reason}")
    subsets = {name: scored[name].predictions.values() for name in scored}
    return {
        name: (np.concatenate([cosines for cosines, _ in parts]), np.concatenate([gold for _, gold in parts]))
        for name, parts in subsets.items()
    }


def difference(a: Predictions, b: Predictions) -> tuple[float, float, float]:
    """The mean over tasks of Spearman x 100 of ``a`` less that of ``b``, and its interval."""
    values, draws = [], []
    for name, (cosines, gold) in a.items():
        other = b[name][0]
        values.append(100 * (correlate(cosines, gold).spearman - correlate(other, gold).spearman))
        draws.append(100 * resampled_spearman_differences(cosines, other, gold, seed=crc32(name.encode())))
    pairs = sum(len(gold) for _, gold in a.values())
    return float(np.mean(values)), *bootstrap_interval(np.mean(draws, axis=0), pairs)


def speeds(students: Sequence[Student], texts: list[str], batch_size: int, rounds: int) -> dict[str, float]:
    """Sentences a second of each, in turn."""
    seconds: dict[str, list[float]] = {student.name: [] for student in students}
    for number in range(rounds + 1):
        for student in students:
            start = time.perf_counter()
            student.model.encode(texts, batch_size=batch_size, show_progress_bar=False)
            if number:  # (the first round is not a measure)
                seconds[student.name].append(time.perf_counter() - start)
    return {name: len(texts) / statistics.median(times) for name, times in seconds.items()}


def texts_of(corpus: Corpus) -> Iterator[str]:
    """All sentences of a corpus."""
    for start in range(0, len(corpus), BLOCK):
        yield from corpus.sentences(slice(start, start + BLOCK))


def folders_of_students(options: argparse.Namespace, place: Path) -> dict[str, Path]:
    """All students by name, those that are made here below ``place``; the teacher first."""
    teacher = folder_of_model(options.teacher)
    folders = {TEACHER: teacher}
    python = environment()
    theirs(python, teacher, place / "model2vec", options.dim)
    folders[DISTILL] = place / "model2vec"
    corpus = open_corpus(options.corpus)
    if options.tokenlearn:
        rows = np.random.default_rng(0).permutation(len(corpus))[: options.tokenlearn]
        sentences = [" ".join(text.split()) for text in corpus.sentences(np.sort(rows))]
        (place / "sentences.txt").write_text("\n".join(filter(None, sentences)), encoding="utf-8")
        theirs(python, teacher, place / "tokenlearn", options.dim, place / "sentences.txt")
        folders[TOKENLEARN] = place / "tokenlearn"
    spec = f"static:distill={options.teacher},dim={options.dim}"
    ours = build(ENCODERS, spec, "encoder", texts=lambda: texts_of(corpus), max_length=MAX_LENGTH)
    for name, precision in ((OURS, "float16"), (OURS_INT8, "int8")):
        folders[name] = place / name.replace(" ", "-")
        save_model2vec(ours, folders[name], precision)
    return folders | {model_name(student): folder_of_model(student) for student in options.students}


def table(students: Sequence[Student], rates: Mapping[str, float]) -> str:
    """A row a student: dimensions, megabytes, sentences a second, score by task, mean."""
    head = ["", "dim", "MB", "sentences/s", *students[0].predictions, "mean"]
    rows = [
        [
            student.name,
            str(student.model.get_embedding_dimension()),
            f"{student.megabytes:.1f}",
            f"{rates[student.name]:,.0f}",
            *(f"{score:.2f}" for score in (*student.scores, np.mean(student.scores))),
        ]
        for student in students
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (head, *rows)
    )


def report(students: Sequence[Student], rates: Mapping[str, float]) -> None:
    """Print the table, the differences and the ratios."""
    print(table(students, rates))
    by_name = {student.name: student for student in students}
    trained = [name for name in by_name if name not in (TEACHER, DISTILL, TOKENLEARN)]
    ratios = {}
    for name in trained:
        for other in (DISTILL, TOKENLEARN):
            if other in by_name:
                value, low, high = difference(by_name[name].predictions, by_name[other].predictions)
                print(f"{name} less {other}: {value:+.2f}, {LEVEL:.0%} interval {low:+.2f} to {high:+.2f}")
                ratios[f"score-{name}-{other}"] = np.mean(by_name[name].scores) / np.mean(by_name[other].scores)
    ratios |= {f"speed-{name}-{TEACHER}": rates[name] / rates[TEACHER] for name in by_name if name != TEACHER}
    for name, ratio in ratios.items():
        print(f"ratio {name.replace(' ', '-')} {ratio:.3g}")


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("students", nargs="*", metavar="STUDENT", help="runs or models' folders of students that were trained")
    add("--data", type=Path, metavar="DIR", help="holds downstream/; else $SENTEMB_DATA/senteval")
    add("--teacher", default="minilm", help="a model's folder, or minilm (default)")
    add("--dim", type=int, default=256, help="dimensions of both students (default 256)")
    add("--tokenlearn", type=int, default=0, metavar="N", help="train theirs on N sentences of the corpus, too")
    add(
        "--corpus",
        default="sample",
        help="whose words our weights count (default sample; as for the recipes)",
    )
    add("--sentences", type=int, default=5000, help="of which speed is measured (default 5,000)")
    add("--batch-size", type=int, default=256, help="sentences that encode takes at a time (default 256)")
    add("--rounds", type=int, default=3, help="of the speed of each, in turn (default 3)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    logging.disable_progress_bar()
    use_threads(None)
    tune_memory()
    try:
        data = data_folder(options.data)
        tasks = [read(task, data) for task in choose_tasks(TASKS, data)]
        with tempfile.TemporaryDirectory() as place:
            students = []
            for name, folder in folders_of_students(options, Path(place)).items():
                model = load(folder, device="cpu")
                students.append(Student(name, folder, model, predictions_of(model, tasks, options.batch_size)))
            texts = list(dict.fromkeys(text for task in tasks for text in task.texts))
            chosen = np.random.default_rng(0).permutation(len(texts))[: options.sentences]
            rates = speeds(students, [texts[i] for i in chosen], options.batch_size, options.rounds)
            print(f"processor: {processor()}")
            report(students, rates)
    except InputError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: model2vec's side failed (exit code {error.returncode}); its own words are above")


if __name__ == "__main__":
    main()
