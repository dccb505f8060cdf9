"""The self-contained page of the report on a corpus."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.inspection.text import Section
from sentemb.storage import write_text

PAGE = "corpus.html"
MARK = '<meta name="generator" content="sentemb.corpus">'  # by which a page of this command is recognised


def write_corpus_page(folder: Path, sections: Sequence["Section"]) -> Path:
    """Write the self-contained page into ``folder``, whole or not at all, and say where it is.

    Raises:
        InputError: it cannot be written.
    """
    from markupsafe import Markup
    from matplotlib import style

    from sentemb.report import LOOK, html_page

    with style.context(["default", LOOK]):
        shown = list(map(_shown, sections))
    content = html_page(
        "corpus.html",
        "sentemb.inspection",
        title=sections[0].title,
        headline=_headline(sections[0]),
        mark=Markup(MARK),
        sections=shown,
    )
    page = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(page, content)
    except OSError as error:
        raise InputError(f"cannot write {page}: {error.strerror}; give another --out") from error
    return page


def _headline(section: "Section") -> str:
    facts = dict(section.facts)
    return f"{facts['sentences']} sentences in {facts['documents'].partition(', ')[0]} documents"


def _shown(section: "Section") -> dict[str, Any]:
    from matplotlib.figure import Figure

    from sentemb.report import BLUE, PageTable, image

    svg = ""
    if section.bars:
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.bar([label for label, _ in section.bars], [100 * share for _, share in section.bars], color=BLUE)
        axes.set(xlabel="tokens", ylabel="% of the sentences")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params("x", rotation=45)
        svg = image(figure, "lengths", section.title)
    tables = [
        PageTable(section.title, head, rows, wide=False)
        for head, rows in (((), section.facts), (section.head, section.rows))
    ]
    return {"title": section.title, "notes": section.notes, "svg": svg, "tables": tables}


def refuse_foreign_page(folder: Path) -> None:
    """InputError if no page can be written into ``folder``, or one is there that this command has not made."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {folder}: {existing} is not a folder that can be written to; give another --out")
    try:
        with (folder / PAGE).open(encoding="utf-8", errors="replace") as file:
            ours = MARK in file.read(200)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"--out {folder}: its {PAGE} cannot be written ({error.strerror}); give another --out"
        ) from None
    if not ours:
        raise InputError(f"--out {folder}: its {PAGE} was not made by this command; give another --out")
