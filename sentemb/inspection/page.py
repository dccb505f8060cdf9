"""The self-contained page of the report on a corpus."""

import os
from collections.abc import Sequence
from pathlib import Path

from sentemb.errors import InputError
from sentemb.inspection.text import Section
from sentemb.storage import write_text

MARK = '<meta name="generator" content="sentemb.corpus">'  # by which a page is known to be one of ours


def write_corpus_page(page: Path, sections: Sequence["Section"]) -> None:
    """Write the self-contained page whole or not at all; InputError if it cannot be written."""
    from matplotlib import style

    from sentemb.report import LOOK, html_page
    from sentemb.runs import safe

    with style.context(["default", LOOK]):
        body = "\n".join(map(_as_html, sections))
    name = safe(sections[0].title)
    content = html_page(name, f"<h1>What is in a corpus</h1>\n{body}", meta=MARK)
    try:
        write_text(page, content)
    except OSError as error:
        raise InputError(f"cannot write {page}: {error.strerror}; give another --page") from error


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


def refuse_foreign_page(page: Path) -> None:
    """InputError if ``page`` cannot become a file, or is one that this command has not made."""
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            ours = MARK in file.read(200)
    except FileNotFoundError:
        if page.parent.is_dir() and os.access(page.parent, os.W_OK):
            return
        raise InputError(f"--page {page}: its folder is not there or cannot be written to; make it first") from None
    except OSError as error:
        raise InputError(f"--page {page} cannot be written ({error.strerror}); give another one") from None
    if not ours:
        raise InputError(f"--page {page} is there and was not made by this command; give another one")
