"""The model that a run ends with, as a folder."""

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from sentemb.corpus import Corpus
from sentemb.encoders import without_adapters
from sentemb.runs import read_selected, write_card


def selected(folder: Path) -> str:
    """The step of a best/ folder, in words."""
    return f"{read_selected(folder)['step']} steps (the best by the dev score)"


def save_trained_model(
    folder: Path, model: SentenceTransformer, settings: dict[str, Any], corpus: Corpus, trained: str
) -> None:
    """The model and its card, which has no scores yet."""
    with without_adapters(model):
        model.save(str(folder), create_model_card=False)
    about = {"settings": settings, "corpus": {"name": corpus.name}}
    write_card(folder, about | {"encoder": {"dimension": model.get_embedding_dimension()}}, trained)
