"""How far the embeddings of an exported encoder are from those of the encoder it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from sentemb.encoders import tokenizer_of

TEXTS, LENGTH = 1000, 16  # random texts, and the tokens of each


@dataclass(frozen=True)
class Difference:
    """Of the embeddings of some texts: the greatest difference of a number, the largest number, the least cosine."""

    texts: int
    greatest: float
    largest: float
    least_cosine: float | None  # None where all embeddings are zero

    @classmethod
    def of(cls, model: SentenceTransformer, exported: SentenceTransformer, texts: Sequence[str]) -> "Difference":
        """Between two models' embeddings of ``texts``."""
        before, after = (
            np.asarray(m.encode(list(texts), show_progress_bar=False), dtype=np.float64) for m in (model, exported)
        )
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosines = (before * after).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
        least = float(cosines.min()) if len(cosines) else None
        return cls(len(texts), float(np.abs(before - after).max()), float(np.abs(before).max()), least)

    def __str__(self) -> str:
        least = f", and the least cosine of the two is {self.least_cosine:.6f}" if self.least_cosine is not None else ""
        return (
            f"{self.texts:,} random texts of its vocabulary: the greatest difference of a number is "
            f"{self.greatest:.2g} (the largest number is {self.largest:.2g}){least}"
        )


def random_texts(model: SentenceTransformer, lengths: Sequence[int] = (LENGTH,) * TEXTS) -> list[str]:
    """Texts with these numbers of tokens, drawn from a model's vocabulary with a fixed seed."""
    tokenizer = tokenizer_of(model)
    numbers = np.array(sorted(tokenizer.get_vocab().values()))
    drawn = np.random.default_rng(0).choice(numbers, sum(lengths))
    rows = np.split(drawn, np.cumsum(lengths)[:-1])
    return tokenizer.decode_batch([row.tolist() for row in rows], skip_special_tokens=False)


def megabytes(folder: Path) -> float:
    """The size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
