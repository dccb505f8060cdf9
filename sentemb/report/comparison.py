"""Before and after: each score of the trained encoder against others, and what of it is more than chance."""

import math
from dataclasses import dataclass, replace

from markupsafe import Markup

from sentemb.report.score_columns import BETTER, CANNOT_TELL, WORSE, columns_of, difference_of
from sentemb.report.template import PageTable
from sentemb.runs import TRAINED, Run, as_dict, as_list, number, plain, show

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
    measure: str  # its name in scores.json


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
        texts = (column.title, column.prose, before, after, difference, interval)
        scores.append(ComparedScore(*texts, d.verdict, d.over, d.level, column.key))
    return scores


def comparison_tables(run: Run) -> list[PageTable]:
    """The comparisons (:meth:`sentemb.runs.Run.compared`) that scores.json has intervals of."""
    resamples = [number(as_dict(entry).get("resamples")) for entry in as_list(run.scores.get("differences"))]
    caption = CAPTION.format(resamples=show(max(resamples, default=math.nan), 0))
    tables = [_table(run, against, scores) for against in run.compared() if (scores := comparison_of(run, against))]
    return [*tables[:-1], *(replace(table, caption=caption) for table in tables[-1:])]


def _table(run: Run, against: str, scores: list[ComparedScore]) -> PageTable:
    sides = [f"before: {against}", "after: trained"] if against == run.initial() else [against, TRAINED]
    head = ["score", *sides, "difference", f"{scores[0].level:.0%} interval", "verdict", "of"]
    rows = [
        [
            score.title,
            score.before,
            score.after,
            score.difference,
            score.interval,
            _emphasised(score.verdict),
            score.over,
        ]
        for score in scores
    ]
    return PageTable(f"trained against {against}", head, rows)


def _emphasised(verdict: str) -> str:
    return Markup("<strong>{}</strong>").format(verdict) if verdict == BETTER else verdict


def verdict(run: Run) -> list[str]:
    """The trained encoder against every other one in sentences; what got worse stands as plainly as what got better."""
    names = [plain(row.get("encoder", "unnamed")) for row in run.rows()]
    if TRAINED not in names or len(names) < 2:
        return ["scores.json has no trained encoder and another one, so there is nothing to compare."]
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
