"""What a student may hope for: probe accuracy of a teacher's output, of its layers, and of the targets made of them.

    python benchmarks/ceilings.py --corpus books:path=BOOKS --data DATA/senteval
    python benchmarks/ceilings.py --teachers minilm minilm:layers=3-6 minilm:layers=3-6,scale=standard,dim=512

Features are what a student would learn, raw, as the probe gets them; means, scales and principal components are those
of the corpus's training sentences. The last row is the mean of the teacher's input embeddings. Tasks are scored as
``python -m eval.senteval`` does; nothing is trained.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from transformers.utils import logging

from eval import ScoringSettings, choose_tasks, data_folder, read, score
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import load, mean_of_word_embeddings
from sentemb.teacher import ProjectedTeacher, TeacherFolder, embed_corpus, parse_teacher, projected, sentence_runs
from sentemb.training import bf16_units, processor, tune_memory, use_threads

TEACHERS = ("minilm", "minilm:layers=3-6", "minilm:layers=0-6", "minilm:layers=3-6,scale=standard,dim=512")
BATCH = 128  # sentences that are embedded together
SENTENCES = 20_000  # of the corpus, for means and principal components


class Targets:
    """What a teacher's spec gives for any sentences."""

    def __init__(self, spec: str, corpus: Corpus, max_length: int, bf16: bool) -> None:
        folder = TeacherFolder(parse_teacher(spec))
        ranges = sentence_runs(corpus.split()[0], SENTENCES)
        self.projection = projected(embed_corpus(folder, corpus, ranges, max_length, bf16=bf16), folder.spec)
        self.model, self.max_length = folder.read(bf16=bf16), max_length
        self.cache: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Targets float32 ``[n, D]``."""
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
        embeddings = np.stack([self.cache[text] for text in texts]).astype(np.float32)
        if isinstance(self.projection, ProjectedTeacher):
            return self.projection.transform(embeddings)
        return embeddings


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
    print(processor())
    folder = data_folder(options.data)
    tasks = [read(task, folder) for task in choose_tasks(options.tasks, folder)]
    corpus, bf16 = open_corpus(options.corpus), bf16_units()
    encoders = {spec: partial(Targets, spec, corpus, options.max_length, bf16) for spec in options.teachers}
    for spec, make in encoders.items():
        targets = make()
        scores = [score(data, targets.encode, ScoringSettings()).row["acc"] for data in tasks]
        print(row(spec, targets.projection.dimension, scores), flush=True)
    name = parse_teacher(options.teachers[0]).name
    averages = mean_of_word_embeddings(load(name, device="cpu"))
    scores = [score(data, averages.encode, ScoringSettings()).row["acc"] for data in tasks]
    print(row(f"averaged input embeddings of {name}", int(averages.get_embedding_dimension() or 0), scores))


def row(name: str, dimension: int, scores: Sequence[float]) -> str:
    """A line of the table."""
    return f"{name:48} {dimension:5} " + " ".join(f"{value:6.2f}" for value in scores)


if __name__ == "__main__":
    main()
