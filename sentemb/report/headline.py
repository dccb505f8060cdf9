"""What a run has come to, in a line, and the few numbers that say so."""

from dataclasses import dataclass

from sentemb.report.comparison import ComparedScore, comparison_of, verdict
from sentemb.report.score_columns import BETTER, CANNOT_TELL, MEAN, WORSE, columns_of, tasks_of
from sentemb.runs import TRAINED, Run, show

MOST = 8  # tiles; with more scores than that, single tasks stand in the table alone


@dataclass(frozen=True)
class Headline:
    """A title that says what happened, and whether that is more than chance."""

    title: str
    detail: str


@dataclass(frozen=True)
class Tile:
    """One number before and after."""

    title: str
    before: str  # empty: the number is a difference
    after: str
    verdict: str = ""  # better, worse, cannot tell; empty: not compared
    detail: str = ""


def run_headline(run: Run) -> Headline:
    """Of a training run: the trained encoder against the one that training began with.

    The order of scores is fixed: the mean over tasks, single tasks, retrieval. The title names the first that is better
    and the first that is worse beyond chance; where none is, the first of all.
    """
    scores = comparison_of(run)
    if not run.records:
        return Headline("Nothing is trained yet", "The log has no record.")
    if not run.rows():
        steps = show(run.last("step"), 0)
        return Headline(f"Trained for {steps} steps, not scored yet", "The end of a run measures its scores.")
    if not scores:
        return Headline("Trained; no score shows whether that helped", verdict(run)[0])
    scores.sort(key=lambda score: score.measure != MEAN)
    better, worse, unclear = ([s for s in scores if s.verdict == v] for v in (BETTER, WORSE, CANNOT_TELL))
    counts = [f"{len(group)} {what}" for group, what in ((better, "better"), (worse, "worse")) if group]
    counts += [f"{len(unclear)} not different beyond chance"] if unclear else []
    tally = f"Of {len(scores)} scores against {run.initial()}: {', '.join(counts)}."
    rose, fell = (
        f"{group[0].prose} {verb} from {group[0].before} to {group[0].after}" if group else ""
        for group, verb in ((better, "rose"), (worse, "fell"))
    )
    if better and worse:
        return Headline(f"A trade: {rose}, {fell}", f"Both are more than chance. {tally}")
    if better or worse:
        first = (better or worse)[0]
        chance = f"This is more than chance: the {first.level:.0%} interval of the difference is {first.interval}."
        title = f"Training helped: {rose}" if better else f"Training made it worse: {fell}"
        return Headline(title, f"{chance} {tally}")
    lead = scores[0]
    title = f"No difference beyond chance: {lead.prose} was {lead.before}, is {lead.after}"
    return Headline(title, f"The {lead.level:.0%} interval of the difference, {lead.interval}, holds 0. {tally}")


def run_tiles(run: Run) -> list[Tile]:
    """The few scores before and after training, and the geometry, which no interval compares."""
    rows, scores = run.rows(), comparison_of(run)
    if not scores:
        return []
    if len(scores) > MOST:
        tasks = tasks_of(rows)
        scores = [score for score in scores if score.measure not in tasks]
    names = [row.get("encoder") for row in rows]
    before, after = names.index(run.initial()), names.index(TRAINED)
    geometry = [
        Tile(c.title, show(c.values[before], c.digits), show(c.values[after], c.digits), detail="lower is better")
        for c in columns_of(rows)
        if c.key in ("alignment", "uniformity")
    ]
    return [*map(_tile, scores), *geometry]


def _tile(score: ComparedScore) -> Tile:
    return Tile(score.title, score.before, score.after, score.verdict, f"{score.difference} ({score.interval})")
