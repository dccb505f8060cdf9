"""The model that a run ends with, as a folder."""

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from sentemb.corpus import Corpus
from sentemb.encoders import as_router, without_adapters
from sentemb.pipeline.model import tower_dimension
from sentemb.runs import PREFIXES, ROUTER, read_selected, shorter_prefixes, write_card


def selected(folder: Path) -> str:
    """The step of a best/ folder, in words."""
    return f"{read_selected(folder)['step']} steps (the best by the dev score)"


def save_trained_model(
    folder: Path, model: SentenceTransformer, settings: dict[str, Any], corpus: Corpus, trained: str
) -> None:
    """The model and its card, which has no scores yet; two towers also as a stock Router, where that can be."""
    with without_adapters(model):
        model.save(str(folder), create_model_card=False)
        if router := as_router(model):
            router.save(str(folder / ROUTER), create_model_card=False)
    about: dict[str, Any] = {"settings": settings, "corpus": {"name": corpus.name}}
    about[PREFIXES] = shorter_prefixes(settings.get("matryoshka"), tower_dimension(model))
    write_card(folder, about | {"encoder": {"dimension": model.get_embedding_dimension()}}, trained)
