"""A static encoder in fewer bytes: a folder that sentence-transformers, sentemb and model2vec (numpy alone) read."""

from pathlib import Path
from typing import cast

from sentence_transformers import SentenceTransformer

from sentemb.encoders import Precision, folder_of_model, load, refuse_existing, save_model2vec, tokenizer_of
from sentemb.errors import InputError, in_a_line
from sentemb.export.comparison import Difference, megabytes, random_texts


def export_static(checkpoint: str, out: Path, precision: str) -> list[str]:
    """Write the folder, read it again, and say what it has become.

    Raises:
        InputError: as :func:`sentemb.encoders.save_model2vec` and :func:`sentemb.encoders.load`; or a disk that cannot
            be written to.
    """
    refuse_existing(out)
    folder = folder_of_model(checkpoint)
    model = load(folder, device="cpu")
    try:
        save_model2vec(model, out, cast(Precision, precision))
    except OSError as error:
        raise InputError(f"{out} cannot be written ({in_a_line(error)}); choose another place") from error
    small = load(out, device="cpu")
    lines = [
        f"{out}: {small.get_embedding_dimension()} dimensions in {precision}, {megabytes(out):.1f} MB; "
        f"{folder} has {megabytes(folder):.1f} MB",
        str(Difference.of(model, small, random_texts(model))),
    ]
    return lines + _unknown_words(small)


def _unknown_words(model: SentenceTransformer) -> list[str]:
    """A note where model2vec treats an unknown word differently."""
    tokenizer = tokenizer_of(model)
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown not in tokenizer.encode("\U00013000").tokens:  # a hieroglyph, which byte-level vocabularies can write
        return []
    return ["note: model2vec leaves unknown words out of the mean; sentence-transformers and sentemb count them"]
