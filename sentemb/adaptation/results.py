"""Write the results of an adaptation: the model, results.json and the page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from sentemb.adaptation.folder import AdaptationFolder
from sentemb.adaptation.outcome import Judged
from sentemb.adaptation.page import adaptation_page
from sentemb.runs import write_card
from sentemb.storage import write_folder, write_text
from sentemb.training import processor
from sentemb.versions import versions_of

PACKAGES = ("torch", "sentence-transformers", "transformers", "sentemb")


def write_results(
    folder: AdaptationFolder, start: SentenceTransformer, about: Mapping[str, Any], judged: Judged | None
) -> None:
    """Write the model, results.json and, last, the page.

    Args:
        folder: of the adaptation. start: the model that it began with.
        about: all but what follows from ``judged``.
        judged: the model that comes out; None: the start.
    """
    content = dict(about) | {
        "adapted": judged is not None,
        "chosen": None if judged is None else judged.candidate.name,
        "processor": processor(),
        "versions": versions_of(PACKAGES),
    }
    model = start if judged is None else judged.model

    def save(partial: Path) -> None:
        model.save(str(partial), create_model_card=False)
        if judged is None:
            write_text(partial / "README.md", f"# The model as it was\n\n{content['verdict']}\n")
            return
        settings = {"init": content["begun"]["model"], "corpus": content["begun"]["corpus"], "pairs": content["chosen"]}
        trained = f"{judged.candidate.updates} updates"
        write_card(partial, {"settings": settings, "corpus": content["corpus"]}, trained)

    write_folder(folder.model, save)
    write_text(folder.results, json.dumps(content, indent=1) + "\n")
    write_text(folder.report, adaptation_page(content))
    folder.finish()
