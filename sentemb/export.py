"""Make a static encoder small: a folder that sentence-transformers, sentemb and model2vec (numpy alone) can read.

    python -m sentemb.export runs/words words-small                      # float16: half the size
    python -m sentemb.export runs/words words-small --precision int8     # a quarter, with a scale for each row

CHECKPOINT is a run, a model's folder or a hub name, of averaged word embeddings (--encoder static); linear layers after
them become part of the table. OUT is a new folder: SentenceTransformer(OUT) and model2vec's
StaticModel.from_pretrained(OUT) load it. What is lost by the precision is measured on random texts of the encoder's
vocabulary, and printed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sentemb.errors import InputError, in_a_line

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS, LENGTH = 1000, 16  # of the comparison: random texts, and the tokens of each


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m sentemb.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, a model's folder, or a hub name")
    made.add_argument("out", metavar="OUT", type=Path, help="a new folder, or an empty one; nothing is overwritten")
    made.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float16",
        help="of the table's numbers (default float16); embeddings are computed in float32 by sentemb",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: 0 done, 2 something given cannot be used."""
    options = parser().parse_args(arguments)
    try:
        for line in export(options.checkpoint, options.out, options.precision):
            print(line)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def export(checkpoint: str, out: Path, precision: str) -> list[str]:
    """Write the folder, read it again, and say what it has become.

    Raises:
        InputError: as :func:`sentemb.encoders.save_model2vec` and :func:`sentemb.encoders.load`; or a disk that cannot
            be written to.
    """
    from sentemb.encoders import Precision, folder_of_model, load, refuse_existing, save_model2vec  # torch, seconds

    refuse_existing(out)
    folder = folder_of_model(checkpoint)
    model = load(folder, device="cpu")
    try:
        save_model2vec(model, out, cast(Precision, precision))
    except OSError as error:
        raise InputError(f"{out} cannot be written ({in_a_line(error)}); choose another place") from error
    small = load(out, device="cpu")
    lines = [
        f"{out}: {small.get_embedding_dimension()} dimensions in {precision}, {_megabytes(out):.1f} MB; "
        f"{folder} has {_megabytes(folder):.1f} MB",
        _difference(model, small),
    ]
    return lines + _unknown_words(small)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _difference(model: "SentenceTransformer", small: "SentenceTransformer") -> str:
    """How far the embeddings of the written model are from those of the model it was made of."""
    import numpy as np

    from sentemb.encoders import tokenizer_of

    tokenizer = tokenizer_of(model)
    numbers = np.array(sorted(tokenizer.get_vocab().values()))
    drawn = np.random.default_rng(0).choice(numbers, (TEXTS, LENGTH))
    texts = tokenizer.decode_batch(drawn.tolist(), skip_special_tokens=False)
    before, after = (np.asarray(m.encode(texts, show_progress_bar=False), dtype=np.float64) for m in (model, small))
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosines = (before * after).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    least = f", and the least cosine of the two is {cosines.min():.6f}" if len(cosines) else ""
    return (
        f"{TEXTS:,} random texts of its vocabulary: the greatest difference of a number is "
        f"{np.abs(before - after).max():.2g} (the largest number is {np.abs(before).max():.2g}){least}"
    )


def _unknown_words(model: "SentenceTransformer") -> list[str]:
    """A note where model2vec treats an unknown word differently."""
    from sentemb.encoders import tokenizer_of

    tokenizer = tokenizer_of(model)
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown not in tokenizer.encode("\U00013000").tokens:  # a hieroglyph, which byte-level vocabularies can write
        return []
    return ["note: model2vec leaves unknown words out of the mean; sentence-transformers and sentemb count them"]


if __name__ == "__main__":
    main()
