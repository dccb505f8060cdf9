"""What a student may hope for: probe accuracy of a teacher's output, of its layers, and of the targets made of them.

    python benchmarks/ceilings.py --corpus books:path=BOOKS --data DATA/senteval
    python benchmarks/ceilings.py --teachers minilm minilm:layers=3-6 minilm:layers=3-6,scale=standard,dim=512

Features are what a student would learn, raw, as the probe gets them; means, scales and principal components are those
of the corpus's training sentences, which the teacher embeds where they are needed. Specs that differ in nothing else
share its embeddings. The last row is the mean of the teacher's input embeddings. Tasks are scored as
``python -m eval.senteval`` does; nothing is trained.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers.utils import logging

from eval import ScoringSettings, choose_tasks, data_folder, read, score
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import load, mean_of_word_embeddings
from sentemb.errors import InputError
from sentemb.teacher import ProjectedTeacher, TeacherFolder, embed_corpus, parse_teacher, projected, sentence_runs
from sentemb.training import bf16_units, processor, tune_memory, use_threads

TEACHERS = (
    "minilm",
    "minilm:dim=256",
    "minilm:layers=3-6",
    "minilm:layers=3-6,scale=standard",
    "minilm:layers=3-6,scale=standard,dim=512",
    "minilm:layers=3-6,scale=standard,dim=384",
    "minilm:layers=0-6",
)
BATCH = 128  # sentences that are embedded together
SENTENCES = 20_000  # of the corpus, for means and principal components


class Embedded:
    """What the teacher of a spec makes of texts, before any scale or projection: of each text once."""

    def __init__(self, folder: TeacherFolder, max_length: int, bf16: bool) -> None:
        self.model, self.max_length = folder.read(bf16=bf16), max_length
        self.cache: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings float32 ``[n, D]``."""
        new = sorted({text for text in texts if text not in self.cache}, key=len)
        tokenizer = self.model.tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            rows = [
                np.array(encoding.ids) for encoding in tokenizer.encode_batch([self.model.prompt + t for t in batch])
            ]
            self.cache.update(zip(batch, self.model.embed(rows), strict=True))
        return np.stack([self.cache[text] for text in texts]).astype(np.float32)


class Targets:
    """What a teacher's spec gives for any sentences.

    Args:
        folder: the teacher and its spec. embedded: its embeddings of texts.
        corpus: whose training sentences a projection is made from.
    """

    def __init__(self, folder: TeacherFolder, embedded: Embedded, corpus: Corpus) -> None:
        self.embedded, self.dimension = embedded, embedded.model.dimension
        self.projection: ProjectedTeacher | None = None
        if folder.spec.projects:
            ranges = sentence_runs(corpus.split()[0], SENTENCES)
            model = embedded.model
            embeddings = embed_corpus(folder, corpus, ranges, embedded.max_length, bf16=model.bf16)
            made = projected(embeddings, folder.spec)
            assert isinstance(made, ProjectedTeacher)
            self.projection, self.dimension = made, made.dimension

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Targets float32 ``[n, dimension]``."""
        embeddings = self.embedded.encode(texts)
        return embeddings if self.projection is None else self.projection.transform(embeddings)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="sample")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks", default="MR,CR")
    parser.add_argument("--teachers", nargs="+", default=TEACHERS)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a sentence that the teacher reads")
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    use_threads(None)
    tune_memory()
    try:
        print_ceilings(options)
    except InputError as error:
        sys.exit(f"error: {error}")


def print_ceilings(options: argparse.Namespace) -> None:
    """Print the table, a row when it is known.

    Raises:
        InputError: there is no such task, corpus or teacher.
    """
    folder = data_folder(options.data)
    tasks = [read(task, folder) for task in choose_tasks(options.tasks, folder)]
    corpus, bf16 = open_corpus(options.corpus), bf16_units()
    teachers = [TeacherFolder(parse_teacher(spec)) for spec in options.teachers]
    embedded: dict[str, Embedded] = {}
    print(processor())
    print(f"{'':48} {'dim':>5} " + " ".join(f"{data.task.name:>6}" for data in tasks))
    for spec, teacher in zip(options.teachers, teachers, strict=True):
        output = teacher.fingerprint_of_output
        if output not in embedded:
            embedded[output] = Embedded(teacher, options.max_length, bf16)
        targets = Targets(teacher, embedded[output], corpus)
        scores = [score(data, targets.encode, ScoringSettings()).row["acc"] for data in tasks]
        print(row(spec, targets.dimension, scores), flush=True)
    name = teachers[0].spec.name
    averages = mean_of_word_embeddings(load(name, device="cpu"))
    scores = [score(data, averages.encode, ScoringSettings()).row["acc"] for data in tasks]
    print(row(f"averaged input embeddings of {name}", int(averages.get_embedding_dimension() or 0), scores))


def row(name: str, dimension: int, scores: Sequence[float]) -> str:
    """A line of the table."""
    return f"{name:48} {dimension:5} " + " ".join(f"{value:6.2f}" for value in scores)


if __name__ == "__main__":
    main()
