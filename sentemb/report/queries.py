"""A user's queries with the sentences nearest to them, before and after training."""

import json
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.runs import Record, Run, RunFolder, as_dict, as_list, number, plain, safe, show
from sentemb.storage import write_text

CAPTION = """For each query the nearest of {sentences} sentences of {corpus} by each encoder, with their similarity. An
encoder's similarities compare with each other, and not with those of another encoder."""


def write_search(run: Path, content: dict[str, Any]) -> None:
    """Write RUN/search.json, which the page shows.

    Args:
        run: a run folder.
        content: ``{"corpus": its name, "sentences": how many were searched, "queries": [{"query", "nearest": {encoder:
            [[similarity, sentence], ...]}}]}``.

    Raises:
        InputError: it cannot be written.
    """
    path = RunFolder(run).search
    try:
        write_text(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; make {run} writable") from None


def queries_section(run: Run) -> str:
    """The section of the page; empty where nothing was asked."""
    queries = [as_dict(each) for each in as_list(run.search.get("queries"))]
    names = list(dict.fromkeys(name for each in queries for name in as_dict(each.get("nearest"))))
    if not names:
        return ""
    titles = [f"after: {name}" if name == names[-1] else f"before: {name}" for name in names]
    head = "".join(f"<th scope='col'>{safe(title)}</th>" for title in ["query", *titles])
    body = ""
    for each in queries:
        cells = "".join(f"<td>{_nearest(as_dict(each.get('nearest')), name)}</td>" for name in names)
        body += f"<tr><td>{safe(each.get('query', ''))}</td>{cells}</tr>\n"
    table = f"<table class='examples'><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    sentences, corpus = show(number(run.search.get("sentences")), 0), plain(run.search.get("corpus", "a corpus"))
    caption = safe(CAPTION.format(sentences=sentences, corpus=corpus))
    return f"<section id='queries'><h2>Your queries</h2><p class='caption'>{caption}</p>\n{table}</section>"


def _nearest(rankings: Record, name: str) -> str:
    rows = [row for row in as_list(rankings.get(name)) if isinstance(row, list) and len(row) == 2]
    lines = "".join(f"<li><small>{show(number(score), 2)}</small> {safe(text)}</li>" for score, text in rows)
    return f"<ol>{lines}</ol>"
