"""A user's queries with the sentences nearest to them, before and after training."""

import json
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.report.examples import Rankings, is_row
from sentemb.runs import Run, RunFolder, as_dict, as_list, number, plain, show
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


def nearest_to_queries(run: Run) -> Rankings | None:
    """The section of the page; None where nothing was asked."""
    queries = [as_dict(each) for each in as_list(run.search.get("queries"))]
    names = list(dict.fromkeys(name for each in queries for name in as_dict(each.get("nearest"))))
    if not names:
        return None
    rows = [
        {
            "text": each.get("query", ""),
            "rankings": [_ranking(as_dict(each.get("nearest")).get(name)) for name in names],
        }
        for each in queries
    ]
    titles = [*(f"before: {name}" for name in names[:-1]), f"after: {names[-1]}"]
    sentences, corpus = show(number(run.search.get("sentences")), 0), plain(run.search.get("corpus", "a corpus"))
    caption = CAPTION.format(sentences=sentences, corpus=corpus)
    return Rankings("queries", "Your queries", caption, ["query", *titles], rows)


def _ranking(rows: object) -> dict[str, Any]:
    nearest = [row for row in as_list(rows) if is_row(row, 2)]
    return {"nearest": [{"text": text, "similarity": show(number(score), 2)} for score, text in nearest]}
