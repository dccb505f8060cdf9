"""Sentences beside numbers: held-out sentences with their nearest neighbours, before and after training."""

from sentemb.runs import Record, Run, as_dict, as_list, number, safe, show

CAPTION = """Held-out sentences, drawn by a fixed seed and not by any result, and for each the nearest of {candidates}
candidates: the second sentences of the held-out pairs, the sentence itself left out. Marked: its true neighbour."""


def examples_section(run: Run) -> str:
    """The section of a run's page; empty where scores.json has no examples."""
    return neighbours_section(as_dict(run.scores.get("examples")), run.initial())


def neighbours_section(examples: Record, initial: str | None) -> str:
    """The section of a page; empty without examples.

    Args:
        examples: of :func:`sentemb.validation.nearest_examples`.
        initial: the encoder that stands under "before"; the others stand under "after".
    """
    sentences = [as_dict(each) for each in as_list(examples.get("sentences"))]
    names = list(dict.fromkeys(name for each in sentences for name in as_dict(each.get("neighbours"))))
    if not names:
        return ""
    titles = [f"before: {name}" if name == initial else f"after: {name}" for name in names]
    head = "".join(f"<th scope='col'>{safe(title)}</th>" for title in ["sentence", *titles])
    body = ""
    for each in sentences:
        sentence, positive = safe(each.get("sentence", "")), safe(each.get("positive", ""))
        body += f"<tr><td>{sentence}<br><small>true neighbour: {positive}</small></td>"
        body += "".join(f"<td>{_neighbours(each, name)}</td>" for name in names) + "</tr>\n"
    table = f"<table class='examples'><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    caption = safe(CAPTION.format(candidates=show(number(examples.get("candidates")), 0)))
    return f"<section><h2>Nearest neighbours</h2><p class='caption'>{caption}</p>\n{table}</section>"


def _neighbours(example: Record, name: str) -> str:
    lines = ""
    for row in as_list(as_dict(example.get("neighbours")).get(name)):
        if not isinstance(row, list) or len(row) != 3:
            continue
        text, score, is_positive = row
        shown = f"<mark>{safe(text)}</mark>" if is_positive is True else safe(text)
        lines += f"<li><small>{show(number(score), 2)}</small> {shown}</li>"
    rank = number(as_dict(example.get("ranks")).get(name))
    return f"<ol>{lines}</ol><small>the true neighbour is number {show(rank, 0)}</small>"
