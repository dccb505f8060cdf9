"""A static student of a teacher by model2vec, run by benchmarks/distill.py in model2vec's virtual environment.

    python benchmarks/model2vec_student.py TEACHER OUT DIMENSIONS              # distill, of the vocabulary alone
    python benchmarks/model2vec_student.py TEACHER OUT DIMENSIONS SENTENCES    # tokenlearn, on a file's lines

Nothing of sentemb is imported here. All options but the dimensions are those that the libraries have as defaults.
"""

import sys
import tempfile
from pathlib import Path


def distilled(teacher: str, out: str, dimensions: int) -> None:
    """Embeddings of the vocabulary, principal components, weights by rank."""
    from model2vec.distill import distill

    distill(teacher, pca_dims=dimensions).save_pretrained(out)


def tokenlearned(teacher: str, out: str, dimensions: int, sentences: Path) -> None:
    """The same, then trained until the mean of a sentence's rows predicts the teacher's embedding of it."""
    from sentence_transformers import SentenceTransformer
    from tokenlearn import train
    from tokenlearn.featurize import featurize

    texts = sentences.read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as features:
        rows = iter([{"text": text} for text in texts])
        featurize(rows, SentenceTransformer(teacher), features, max_means=len(texts), batch_size=32, text_key="text")
        options = {"model-name": teacher, "data-path": features, "save-path": out, "pca-dims": str(dimensions)}
        sys.argv = ["tokenlearn", *(word for name, value in options.items() for word in (f"--{name}", value))]
        train.main()


if __name__ == "__main__":
    teacher_folder, out_folder, size, *file = sys.argv[1:]
    if file:
        tokenlearned(teacher_folder, out_folder, int(size), Path(file[0]))
    else:
        distilled(teacher_folder, out_folder, int(size))
