"""Before and after: each score of the trained encoder against others, and what of it is more than chance."""

from dataclasses import dataclass

from sentemb.report.score_columns import BETTER, CANNOT_TELL, WORSE, columns_of, difference_of
from sentemb.runs import TRAINED, Run, as_dict, as_list, number, plain, safe, show

CAPTION = """The difference is that of the trained encoder from the other one, with the interval
of a paired bootstrap (both on the same items, {resamples} draws). Better or worse: the interval leaves out 0; cannot
tell: it holds 0. Of twenty differences that are chance, one will be called better or worse."""


@dataclass(frozen=True)
class ComparedScore:
    """One score of two encoders, as text."""

    title: str
    prose: str
    before: str
    after: str
    difference: str
    interval: str
    verdict: str  # of the trained one: better, worse, cannot tell
    over: str  # how many items it is of
    level: float


def comparison_of(run: Run, against: str | None = None) -> list[ComparedScore]:
    """The scores of the trained encoder and of ``against`` (None: of the one that training began with).

    Only scores whose interval scores.json has; those of version 0.1.0 have none.
    """
    rows, against = run.rows(), run.initial() if against is None else against
    names = [row.get("encoder") for row in rows]
    if TRAINED not in names or against not in names:
        return []
    scores = []
    for column in columns_of(rows):
        d = difference_of(run, column.key, TRAINED, against)
        if d is None:
            continue
        before, after = (show(column.values[names.index(name)], column.digits) for name in (against, TRAINED))
        digits = column.digits + 1
        interval = f"{d.low:+.{digits}f} to {d.high:+.{digits}f}"
        difference = f"{d.value:+.{digits}f}"
        scores.append(
            ComparedScore(column.title, column.prose, before, after, difference, interval, d.verdict, d.over, d.level)
        )
    return scores


def comparison_tables(run: Run) -> str:
    """The comparisons (:meth:`sentemb.runs.Run.compared`) as HTML tables with a caption; empty where there are none."""
    tables = "\n".join(filter(None, (_table(run, against) for against in run.compared())))
    if not tables:
        return ""
    resamples = max(number(as_dict(entry).get("resamples")) for entry in as_list(run.scores.get("differences")))
    return f"{tables}\n<p class='caption'>{safe(CAPTION.format(resamples=show(resamples, 0)))}</p>"


def _table(run: Run, against: str) -> str:
    """The trained encoder against another one; empty where scores.json has no interval of theirs."""
    scores = comparison_of(run, against)
    if not scores:
        return ""
    level = f"{scores[0].level:.0%}"
    sides = [f"before: {against}", "after: trained"] if against == run.initial() else [against, TRAINED]
    titles = ["score", *sides, "difference", f"{level} interval", "verdict", "of"]
    head = "".join(f"<th scope='col'>{safe(title)}</th>" for title in titles)
    body = ""
    for score in scores:
        verdict = f"<strong>{safe(score.verdict)}</strong>" if score.verdict == BETTER else safe(score.verdict)
        cells = [safe(text) for text in (score.before, score.after, score.difference, score.interval)]
        cells += [verdict, safe(score.over)]
        body += f"<tr><th scope='row'>{safe(score.title)}</th><td>{'</td><td>'.join(cells)}</td></tr>\n"
    table = f"<table class='comparison'><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f"<div class='wide' tabindex='0'>{table}</div>"


def verdict(run: Run) -> list[str]:
    """The trained encoder against every other one in sentences; what got worse stands as plainly as what got better."""
    names = [plain(row.get("encoder", "unnamed")) for row in run.rows()]
    if TRAINED not in names or len(names) < 2:
        return ["scores.json has no trained encoder beside another one, so there is nothing to compare."]
    others = sorted((name for name in names if name != TRAINED), key=lambda name: name != run.initial())
    return [_sentence(run, name) for name in others]


def _sentence(run: Run, against: str) -> str:
    scores = comparison_of(run, against)
    if not scores:
        return (
            f"scores.json has no intervals for trained against {against} (earlier versions wrote none), so it cannot "
            "tell which differences in the table are more than chance."
        )
    parts = []
    for kind in (BETTER, WORSE):
        named = [f"{s.prose} ({s.after}, was {s.before})" for s in scores if s.verdict == kind]
        if against != run.initial():
            named = [f"{s.prose} ({s.after} against {s.before})" for s in scores if s.verdict == kind]
        if named:
            parts.append(f"{kind} in {_listed(named)}")
    unclear = [s.prose for s in scores if s.verdict == CANNOT_TELL]
    text = f"Against {against}, the trained encoder is {'; '.join(parts)}." if parts else ""
    if unclear:
        text += " No" if text else f"Against {against}, there is no"
        text += f" difference beyond chance in {_listed(unclear)}."
    return text


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
