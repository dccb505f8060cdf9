"""One self-contained HTML page from a run's files: what was trained, what it bought, and where it did not pay.

``write_report(run)`` reads RUN/config.json, RUN/log.jsonl and, where there is one, RUN/scores.json, and writes
RUN/report.html: no script, no network, figures inline, the same bytes for the same inputs. A missing piece gives a
page that says so. ``python -m sentemb.report RUN`` writes the page again.

Alignment, uniformity and the plane they are drawn in: Wang & Isola 2020, arXiv 2005.10242.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from sentemb.errors import InputError
from sentemb.program import command_parser
from sentemb.report.comparison import comparison_tables, verdict
from sentemb.report.drawing import LOOK, Drawn, image
from sentemb.report.examples import nearest_neighbours
from sentemb.report.figures import (
    HELDOUT_MRR,
    STSB_DEV,
    dev_column,
    dev_figure,
    dev_name,
    histogram_figure,
    loss_figure,
    path_figure,
    retrieval_figure,
    stsb_figure,
)
from sentemb.report.headline import run_headline, run_tiles
from sentemb.report.prefixes import prefix_table
from sentemb.report.queries import nearest_to_queries
from sentemb.report.score_columns import TEACHER_SIMILARITY
from sentemb.report.score_table import score_table
from sentemb.report.sphere import sphere_content
from sentemb.report.teacher_figures import speed_figure, teacher_figure
from sentemb.report.template import PageTable, html_page
from sentemb.runs import Record, Run, RunFolder, as_dict, duration, number, plain, read_run, show
from sentemb.storage import write_text

LOSS = """How wrong the encoder is about which sentences belong together. The dashed line, log(number of candidates),
is the loss of guessing. A lower panel turns the loss into information (van den Oord et al. 2018): how much a
sentence's embedding tells about its positive, at least; it cannot rise above the dashed line. The last panel is the
learning rate."""
PATH = """Alignment says how close positive pairs lie, uniformity how evenly all sentences fill the sphere. A
good encoder has both: it moves toward the lower left. No encoder of this dimension can be left of the dashed line,
except by the chance of a finite sample."""
STSB = """The same plane on STS-B dev, as the SimCSE paper draws it (Gao et al. 2021): alignment of pairs scored above
4, uniformity of all its sentences. Training on other text may well make either worse here; best/ is chosen by its
Spearman where that is the dev score."""
CHOSEN = "The run chooses best/ by it: the state with the highest one."
DEV_STSB = """Spearman's rank correlation of the cosines of STS-B's 1,500 dev pairs with human scores. The axis spans at
least 10 points; one score's 95% interval is about 3 wide."""
HISTOGRAM = """Cosine similarity of sentences that belong together (positive pairs) and of random pairs, before and
after training on the same axes. The less the two shapes overlap, the better the encoder separates them."""
RETRIEVAL = """How well a held-out sentence finds its positive among the held-out candidates: recall at 1 is how often
the positive is nearest of all, MRR the mean of 1 / its rank. 1 is perfect. The axis spans at least 0.15. A ring marks
the MRR of best/ where the run chooses by it."""

TEACHER = """How near the student comes to its teacher on held-out sentences. Similarity: Spearman's correlation of
the cosines of 20,000 random pairs of sentences, the student's with the teacher's. Cosine: of each sentence's embedding,
seen through the map of the objective where it has one, with the teacher's. The axis spans at least 0.2."""
START = """How near the model stays to the one that training began from (here called the teacher) on held-out
sentences. Similarity: Spearman's correlation of the cosines of 20,000 random pairs of sentences by both. Cosine: of
each sentence's embedding with the start's. The axis spans at least 0.2."""
SPEED = """Each encoder's mean score against the speed of its encode on this machine, both measured at the end of the
run: up and to the right is better. The caption of the table says how the speed was measured."""


def write_report(run: Path) -> Path:
    """Read a run folder's files and write RUN/report.html whole or not at all.

    Args:
        run: folder with ``config.json`` (an object), ``log.jsonl`` (one record a line; a line cut short by a killed
            run is left out; a step logged twice, as after a resume, counts once, with its later values) and, where the
            encoder was scored, ``scores.json``.

    Returns:
        The page's path.

    Raises:
        InputError: no config.json or log.jsonl, a config.json that is not a JSON object, or a page that cannot be
            written.
    """
    page = RunFolder(run).report
    try:
        write_text(page, _page(read_run(run)))
    except OSError as error:
        raise InputError(f"cannot write {page}: {error.strerror}; make {run} writable") from error
    return page


Drawing = Callable[[Run], Figure | None]
FIGURES: list[tuple[str, str, Drawing, str, str]] = [  # id, title, figure, explanation, what is missing without it
    ("loss", "Loss over training", loss_figure, LOSS, "two records with a finite loss in log.jsonl"),
    ("path", "Alignment and uniformity over training", path_figure, PATH, "two records with both in log.jsonl"),
    ("histogram", "Positive and random pairs", histogram_figure, HISTOGRAM, "histograms in scores.json"),
    ("retrieval", "Retrieval over training", retrieval_figure, RETRIEVAL, "two held-out scores in log.jsonl"),
]
TEACHER_FIGURES: list[tuple[str, str, Drawing, str, str]] = [
    ("speed", "Scores against speed", speed_figure, SPEED, "two encoders with a score and a speed in scores.json"),
    ("teacher", "Nearness to the teacher", teacher_figure, TEACHER, "two scores by the teacher in log.jsonl"),
]
START_FIGURE = ("teacher", "Nearness to the start", teacher_figure, START, "two scores by the start in log.jsonl")
STSB_FIGURE = ("stsb", "Alignment and uniformity on STS-B", stsb_figure, STSB, "two scores of STS-B in log.jsonl")


FIRST = ("speed", "histogram", "path")  # the figures that matter most; the others are folded
LAST = {"steps": "step", "pairs seen": "pairs_seen", "peak memory, MiB": "peak_memory_mib"}


def _page(run: Run) -> str:
    begun = as_dict(run.config.get("settings")).get("init")
    encoder = f"begun from {begun}" if begun else f"encoder {run.setting('encoder')}"
    with style.context(["default", LOOK]):
        figures = [_drawn(run, *figure) for figure in _figures(run)]
    sphere = sphere_content(as_dict(run.scores.get("sphere")), run.initial(), _neighbours_of_one_encoder(run))
    return html_page(
        "run.html",
        scripts=["sphere.js"] if sphere else [],
        title=run.corpus(),
        made=f"{encoder}, objective {run.setting('objective')}",
        headline=run_headline(run),
        tiles=run_tiles(run),
        sentences=_summary(run),
        notes=run.notes,
        sphere=sphere,
        first_figures=[drawn for drawn in figures if drawn.name in FIRST],
        more_figures=[drawn for drawn in figures if drawn.name not in FIRST],
        prefixes=prefix_table(run),
        queries=nearest_to_queries(run),
        neighbours=nearest_neighbours(as_dict(run.scores.get("examples")), run.initial()),
        tables=[*comparison_tables(run), score_table(run)] if run.rows() else [],
        facts=_facts(run),
        settings=_settings(run.config),
    )


def _neighbours_of_one_encoder(run: Run) -> bool:
    """Whether both sides of a held-out pair are of one kind; queries and passages, and two towers, are not."""
    sources = [plain(as_dict(row.get("geometry")).get("source", "")) for row in run.rows()]
    return run.setting("towers") != "2" and any("neighbouring" in source for source in sources)


def _figures(run: Run) -> list[tuple[str, str, Drawing, str, str]]:
    """Those of all runs, those of a run with a teacher, and those of the dev score."""
    teacher = as_dict(run.config.get("teacher"))
    of_teacher = [START_FIGURE] if teacher.get("is_start") else TEACHER_FIGURES if teacher else []
    return [*of_teacher, *FIGURES, *_dev_figures(run)]


def _dev_figures(run: Run) -> list[tuple[str, str, Drawing, str, str]]:
    """Of the dev score, where it is not drawn anyway, and of STS-B's geometry where it was logged."""
    cards: list[tuple[str, str, Drawing, str, str]] = []
    column = dev_column(run)
    if column not in (HELDOUT_MRR, TEACHER_SIMILARITY) and np.isfinite(run.series(column)).any():
        title = f"Dev score over training: {dev_name(run)}"
        text = f"{DEV_STSB} {CHOSEN}" if column == STSB_DEV else CHOSEN
        if run.setting("select") == "best":
            text += " It becomes model/ (--select best)."
        cards.append(("dev", title, dev_figure, text, "two dev scores in log.jsonl"))
    if np.isfinite(run.series("stsb_alignment")).any():
        cards.append(STSB_FIGURE)
    return cards


def _summary(run: Run) -> list[str]:
    sentences = verdict(run) if run.rows() else ["The encoder has not been scored yet."]
    used = run.last("uniformity_used")
    if math.isfinite(used):
        collapse = ": close to collapse, where every sentence gets the same embedding" if used < 0.1 else ""
        sentences.append(
            f"In the last record a batch's embeddings use {used:.0%} of the uniformity they could have{collapse}."
        )
    if len(run.records) < 2:
        count = "one record" if run.records else "no record"
        sentences.append(f"The log has {count} so far, so there are no curves.")
    return sentences


def _facts(run: Run) -> list[tuple[str, str]]:
    encoder, speed = as_dict(run.config.get("encoder")), run.series("pairs_per_second")
    median = float(np.median(speed[speed > 0])) if np.any(speed > 0) else math.nan
    return [
        *((name, show(run.last(key), 0)) for name, key in LAST.items()),
        ("last loss", show(run.last("loss"), 3)),
        ("pairs per second, median", show(median, 0)),
        ("time", duration(run.last("seconds"))),
        ("dimension", show(number(encoder.get("dimension")), 0)),
        ("trainable parameters", show(number(encoder.get("trainable")), 0)),
        ("processes", show(number(run.config.get("world_size")), 0)),
    ]


def _drawn(run: Run, name: str, title: str, draw: Drawing, explained: str, missing: str) -> Drawn:
    figure = draw(run)
    return Drawn(name, title, explained, image(figure, name, title) if figure else "", missing)


def _settings(config: Record) -> list[PageTable]:
    """What config.json says: a table for each object in it, settings first, and one for the values outside of them."""
    tables = {key: value for key, value in config.items() if isinstance(value, dict)}
    top_level = {key: value for key, value in config.items() if key not in tables}
    tables = {"settings": {}, "versions": {}, "run": top_level, "corpus": {}, **tables}
    given = {name: [item for item in values.items() if item[1] is not None] for name, values in tables.items()}
    return [PageTable(name, (), rows, wide=False) for name, rows in given.items() if rows]


def main(arguments: list[str] | None = None) -> int:
    """``python -m sentemb.report RUN``: write the page again and print its path; exit code 2 if RUN is not a run."""
    description = "Write RUN/report.html, one self-contained page, from the files of a training run."
    parser = command_parser(description, "sentemb.report")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder with config.json and log.jsonl")
    try:
        print(write_report(parser.parse_args(arguments).run))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
