"""The self-contained page of the report on a corpus."""

import os
from collections.abc import Sequence
from pathlib import Path

from sentemb.errors import InputError
from sentemb.inspection.text import Section
from sentemb.storage import write_text

PAGE = "corpus.html"
MARK = '<meta name="generator" content="sentemb.corpus">'  # by which a page is known to be one of ours


def write_corpus_page(folder: Path, sections: Sequence["Section"]) -> Path:
    """Write the self-contained page into ``folder``, whole or not at all, and say where it is.

    Raises:
        InputError: it cannot be written.
    """
    from matplotlib import style

    from sentemb.report import LOOK, html_page
    from sentemb.runs import safe

    with style.context(["default", LOOK]):
        body = "\n".join(map(_as_html, sections))
    name = safe(sections[0].title)
    content = html_page(name, f"<h1>What is in a corpus</h1>\n{body}", meta=MARK)
    page = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(page, content)
    except OSError as error:
        raise InputError(f"cannot write {page}: {error.strerror}; give another --out") from error
    return page


def _as_html(section: "Section") -> str:
    from matplotlib.figure import Figure

    from sentemb.report import BLUE, image
    from sentemb.runs import safe

    parts = [f"<p class='note'>{safe(note)}</p>" for note in section.notes]
    if section.bars:
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        axes.bar([label for label, _ in section.bars], [100 * share for _, share in section.bars], color=BLUE)
        axes.set(xlabel="tokens", ylabel="% of the sentences")
        axes.spines[["top", "right"]].set_visible(False)
        parts.append(f"<div class='paper'>{image(figure, 'lengths', section.title)}</div>")
    tables: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = [((), section.facts), (section.head, section.rows)]
    for head, rows in tables:
        titles = "".join(f"<th scope='col'>{safe(title)}</th>" for title in head)
        body = "".join(f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
        parts.append(f"<table><thead><tr>{titles}</tr></thead><tbody>\n{body}</tbody></table>" if rows else "")
    return f"<section><h2>{safe(section.title)}</h2>\n" + "\n".join(parts) + "</section>"


def refuse_foreign_page(folder: Path) -> None:
    """InputError if no page can be written into ``folder``, or one is there that this command has not made."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {folder}: {existing} is no folder that can be written to; give another --out")
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
