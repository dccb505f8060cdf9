"""One self-contained HTML page from a run's files: what was trained, what it bought, and where it did not pay.

``write_report(run)`` reads RUN/config.json, RUN/log.jsonl and, where there is one, RUN/scores.json, and writes
RUN/report.html: no script, no network, figures inline, the same bytes for the same inputs. A missing piece gives a
page that says so. ``python -m sentemb.report RUN`` writes the page again.

Alignment, uniformity and the plane they are drawn in: Wang & Isola 2020, arXiv 2005.10242.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from sentemb.errors import InputError
from sentemb.figures import histogram_figure, image, loss_figure, path_figure, retrieval_figure, stsb_figure
from sentemb.runs import Record, Run, RunFolder, as_dict, as_list, duration, number, plain, read_run, safe, show
from sentemb.storage import write_text

HIGHER, LOWER = 1, -1  # which end of a measure is better

LOSS = """How wrong the encoder is about which sentences belong together. The dashed line, log(number of candidates),
is the loss of guessing. A lower panel turns the loss into information (van den Oord et al. 2018): how much a
sentence's embedding tells about its partner, at least; it cannot rise above the dashed line."""
PATH = """Alignment says how close partners lie, uniformity how evenly all sentences fill the sphere of directions. A
good encoder has both: it moves toward the lower left. No encoder of this dimension can be left of the dashed line,
except by the chance of a finite sample."""
STSB = """The same plane on STS-B dev, as the SimCSE paper draws it (Gao et al. 2021): alignment of pairs scored above
4, uniformity of all its sentences. Training on other text may well make either worse here; best/ is chosen by its
Spearman where that is the dev score."""
HISTOGRAM = """Cosine similarity of sentences that belong together (partners) and of random pairs (strangers), before
and after training on the same axes. The less the two shapes overlap, the better partners are told from strangers."""
RETRIEVAL = """How well a held-out sentence finds its partner among the held-out candidates: recall at 1 is how often
the partner is nearest of all, MRR the mean of 1 / its rank. 1 is perfect."""


@dataclass
class _Column:
    """One measure of the score table. ``values[i]`` belongs to row i, rounded as shown; NaN where not measured."""

    title: str
    prose: str  # its name in a sentence
    better: int
    digits: int
    values: list[float]


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


# ---- scores


def _columns(rows: list[Record]) -> list[_Column]:
    """The measures of the score table; one that no row has is left out."""

    def column(title: str, prose: str, better: int, digits: int, values: list[Any]) -> _Column:
        return _Column(title, prose, better, digits, [round(number(value), digits) for value in values])

    tasks = _tasks(rows)
    found = {t: [as_dict(as_dict(r.get("tasks")).get(t)) for r in rows] for t in tasks}
    accuracy = {t: [number(r.get("acc")) for r in own] for t, own in found.items() if any("acc" in r for r in own)}
    columns = [column(f"{t}, %", f"{t} accuracy", HIGHER, 1, accuracy[t]) for t in accuracy]
    for task in (t for t in tasks if t not in accuracy):
        values = [r.get("spearman") for r in found[task]]
        columns.append(column(f"{task}, Spearman x 100", f"{task} Spearman", HIGHER, 1, values))
    if len(accuracy) > 1:  # a row that misses a task gets no mean: it would not compare
        means = np.mean(list(accuracy.values()), axis=0).tolist()
        columns.append(column("mean accuracy, %", "mean accuracy", HIGHER, 1, means))
    for key in ("alignment", "uniformity"):
        values = [as_dict(row.get("geometry")).get(key) for row in rows]
        columns.append(column(f"{key}, lower is better", f"{key} loss", LOWER, 3, values))
    for key, title in (("retrieval_mrr", "MRR"), ("retrieval_recall_at_1", "recall at 1")):
        columns.append(column(title, f"retrieval {title}", HIGHER, 3, [row.get(key) for row in rows]))
    return [c for c in columns if np.isfinite(c.values).any()]


def _tasks(rows: list[Record]) -> list[str]:
    return list(dict.fromkeys(task for row in rows for task in as_dict(row.get("tasks"))))


def _score_table(rows: list[Record]) -> str:
    columns = _columns(rows)
    titles = ["encoder", "dimension", *(c.title for c in columns)]
    head = "".join(f"<th scope='col'>{safe(title)}</th>" for title in titles)
    body = ""
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{_cell(c, i, row)}</td>" for c in columns)
        name, dimension = safe(row.get("encoder", "unnamed")), show(number(row.get("dimension")), 0)
        body += f"<tr><th scope='row'>{name}</th><td>{dimension}</td>{cells}</tr>\n"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f"<div class='wide' tabindex='0'>{table}</div>\n<p class='caption'>{safe(_score_caption(rows))}</p>"


def _cell(column: _Column, i: int, row: Record) -> str:
    text = show(column.values[i], column.digits)
    finite = [v for v in column.values if math.isfinite(v)]
    if len(finite) > 1 and column.values[i] == max(finite, key=lambda v: v * column.better):
        text = f"<strong>{text}</strong>"
    optimum = number(as_dict(row.get("geometry")).get("uniformity_optimum"))
    if column.prose == "uniformity loss" and math.isfinite(optimum):
        text += f" <small>of {show(optimum, 3)}</small>"
    return text


def _score_caption(rows: list[Record]) -> str:
    """How each number was made: protocol, n, the sampling error n implies, and the text geometry was measured on."""
    parts = ["The best of each column is bold. Beside uniformity, small: the lowest value the dimension allows."]
    for task in _tasks(rows):
        found = [as_dict(as_dict(row.get("tasks")).get(task)) for row in rows]
        protocol = " / ".join(dict.fromkeys(plain(t["protocol"]) for t in found if t.get("protocol")))
        n = max((v for t in found if (v := number(t.get("n"))) > 0), default=math.nan)
        share = next((v / 100 for t in found if 0 <= (v := number(t.get("acc"))) <= 100), math.nan)
        error = show(196 * math.sqrt(share * (1 - share) / n), 1)
        likely = f", each ± {error} points (95%)" if math.isfinite(share) else ""
        parts.append(f"{task}: {protocol or 'protocol not given'}, n = {show(n, 0)}{likely}.")
    for geometry in filter(None, (as_dict(row.get("geometry")) for row in rows)):
        counts = "".join(f", {show(number(geometry[k]), 0)} {k}" for k in ("pairs", "sentences") if k in geometry)
        parts.append(f"Alignment and uniformity on {plain(geometry.get('source', 'a source not given'))}{counts}.")
    if any("retrieval_mrr" in row for row in rows):
        parts.append("MRR: mean of 1 / rank of a held-out sentence's partner; recall at 1: how often it ranks first.")
    for row in rows:
        geometry = as_dict(row.get("geometry"))
        sides, by = (plain(geometry.get(f"retrieval_{key}", usual)) for key, usual in RANKED.items())
        if (sides, by) != tuple(RANKED.values()):
            by = "inner product" if by == "dot" else by
            parts.append(f"MRR of {plain(row.get('encoder', 'unnamed'))}: {sides}, by {by}.")
    return " ".join(dict.fromkeys(parts))


RANKED = {"sides": "one encoder", "score": "cosine"}  # how held-out pairs are ranked, of most models


def _verdict(rows: list[Record]) -> list[str]:
    """Trained against every other row in plain sentences; what got worse is said as plainly as what got better."""
    names = [plain(row.get("encoder", "unnamed")) for row in rows]
    if "trained" not in names or len(rows) < 2:
        return ["scores.json has no trained encoder beside another one, so there is nothing to compare."]
    said, worse, columns, trained = [], [], _columns(rows), names.index("trained")
    for i in [i for i in range(len(rows)) if i != trained]:
        said += [text for c in reversed(columns) if (text := _gain(c, trained, i, names[i]))]
        lost = [c for c in columns if (c.values[trained] - c.values[i]) * c.better < 0]
        pieces = [f"{c.prose} ({show(c.values[trained], c.digits)}, not {show(c.values[i], c.digits)})" for c in lost]
        worse += [f"worse than {names[i]} in {', '.join(pieces)}"] if pieces else []
    if worse:
        said.append(f"Training did not pay everywhere: trained is {'; '.join(worse)}.")
    else:
        said.append("On no measure in the table is trained worse than another row.")
    if any("alignment loss" in text for text in worse):
        said.append("Spreading sentences out also moves partners apart, so read alignment together with uniformity.")
    return said


def _gain(column: _Column, trained: int, other: int, name: str) -> str:
    """The sentence for a measure the summary opens with (retrieval, mean accuracy); empty for the rest."""
    new, old = column.values[trained], column.values[other]
    if not math.isfinite(new - old):
        return ""
    if column.prose == "retrieval MRR" and old > 0:
        times = f"{show(new / old, 1)} times that of {name}"
        return f"Retrieval of a held-out sentence's partner is {times} (MRR {new:.3f} against {old:.3f})."
    if column.prose == "mean accuracy":
        return f"Mean accuracy over the tasks is {new:.1f}%, {new - old:+.1f} points against {name} ({old:.1f}%)."
    return ""


# ---- the page

Drawing = Callable[[Run], Figure | None]
FIGURES: list[tuple[str, str, Drawing, str, str]] = [  # id, title, figure, explanation, what is missing without it
    ("loss", "Loss over training", loss_figure, LOSS, "two records with a finite loss in log.jsonl"),
    ("path", "Alignment and uniformity over training", path_figure, PATH, "two records with both in log.jsonl"),
    ("histogram", "Partners and strangers", histogram_figure, HISTOGRAM, "histograms in scores.json"),
    ("retrieval", "Retrieval over training", retrieval_figure, RETRIEVAL, "two held-out scores in log.jsonl"),
]
STSB_FIGURE = ("stsb", "Alignment and uniformity on STS-B", stsb_figure, STSB, "two scores of STS-B in log.jsonl")

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5a6270; --page: #f5f6f8; --card: #fff;
  --line: #d5d9e0; --mark: #0072B2 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a6adba; --page: #14171b; --card: #1e2227; --line: #3a4049; --mark: #56B4E9 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 .25rem }
h2 { font-size: 1.1rem; margin: 0 0 .5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
a { color: var(--mark) }
section, figure, details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem;
  margin: 1rem 0 }
section p { margin: .3rem 0; max-width: 70ch }
.soft, .caption, figcaption { color: var(--soft) }
.caption, figcaption { font-size: .875rem; margin-top: .6rem; max-width: none !important }
.note { border-left: 4px solid #E69F00; padding-left: .6rem }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1rem }
.figures figure { margin: 0 }
.paper { background: #fff; border-radius: 4px; padding: .25rem }
.paper svg, .paper img { display: block; width: 100%; max-width: 40rem; height: auto; margin: 0 auto }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem 1rem; margin: 1rem 0 0 }
dt { color: var(--soft); font-size: .8rem }
dd { margin: 0; font-weight: 600 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
thead th { font-size: .8rem; color: var(--soft); vertical-align: bottom; overflow-wrap: normal }
tbody th { font-weight: 500; overflow-wrap: normal; position: sticky; left: 0; background: var(--card) }
.wide td, .wide td small { white-space: nowrap }
small { color: var(--soft) }
strong { color: var(--mark) }
summary { cursor: pointer; font-weight: 600 }
"""

# the browser itself refuses scripts and network
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
LAST = {"steps": "step", "pairs seen": "pairs_seen", "peak memory, MiB": "peak_memory_mib"}
LOOK = {"svg.fonttype": "none", "svg.hashsalt": "sentemb", "font.size": 11, "legend.fontsize": 10}


def _page(run: Run) -> str:
    begun = as_dict(run.config.get("settings")).get("init")
    encoder = f"begun from {begun}" if begun else f"encoder {run.setting('encoder')}"
    title, made = safe(run.corpus()), f"{encoder}, objective {run.setting('objective')}"
    rows = run.rows()
    scores = _score_table(rows) if rows else "<p>No scores yet: this run has no scores.json with rows.</p>"
    with style.context(["default", LOOK]):
        drawn = [*FIGURES, *([STSB_FIGURE] if np.isfinite(run.series("stsb_alignment")).any() else [])]
        figures = "\n".join(_card(run, *figure) for figure in drawn)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}: {safe(made)}</title>
<style>{CSS}</style>
</head>
<body>
<h1>{title}</h1>
<p class="soft">{safe(made)}</p>
<section><h2>Summary</h2>
{_summary(run)}
</section>
<section><h2>Scores</h2>
{scores}
</section>
<div class="figures">
{figures}
</div>
{_examples(run)}
{_details(run.config)}
<p class="caption">Alignment and uniformity: Wang &amp; Isola 2020,
<a href="https://arxiv.org/abs/2005.10242">arXiv 2005.10242</a>.</p>
</body>
</html>
"""


def _summary(run: Run) -> str:
    said = _verdict(run.rows()) if run.rows() else ["The encoder has not been scored yet."]
    used = run.last("uniformity_used")
    if math.isfinite(used):
        collapse = ": close to collapse, where every sentence gets the same embedding" if used < 0.1 else ""
        said.append(
            f"In the last record a batch's embeddings use {used:.0%} of the uniformity they could have{collapse}."
        )
    if len(run.records) < 2:
        count = "one record" if run.records else "no record"
        said.append(f"The log has {count} so far, so there are no curves.")
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(run) if value != "–")
    notes = "".join(f"<p class='note'>{safe(note)}</p>\n" for note in run.notes)
    return "".join(f"<p>{safe(sentence)}</p>\n" for sentence in said) + notes + f"<dl>{facts}</dl>"


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


def _card(run: Run, name: str, title: str, draw: Drawing, explained: str, missing: str) -> str:
    figure = draw(run)
    body = f"<p class='soft'>Not drawn: it needs {missing}.</p>"
    if figure is not None:
        body = f"<div class='paper'>{image(figure, name, title)}</div><figcaption>{explained}</figcaption>"
    return f"<figure id='{name}'><h2>{title}</h2>{body}</figure>"


def _examples(run: Run) -> str:
    found = [e for e in as_list(run.scores.get("examples")) if isinstance(e, list) and len(e) == 3]
    cells = ((safe(a), safe(b), show(number(cosine), 3)) for a, b, cosine in found)
    body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>\n" for row in cells)
    head = "<tr><th scope='col'>sentence</th><th scope='col'>its nearest neighbour</th><th scope='col'>cosine</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>\n{body}</tbody></table>"
    return f"<section><h2>Examples</h2>{table}</section>" if found else ""


def _details(config: Record) -> str:
    """All of config.json: a table for each object in it, settings first, and one for the values beside them."""
    tables = {key: value for key, value in config.items() if isinstance(value, dict)}
    beside = {key: value for key, value in config.items() if key not in tables}
    tables = {"settings": {}, "versions": {}, "run": beside, "corpus": {}, **tables}
    body = "".join(f"<h3>{safe(name)}</h3>{_table(values)}\n" for name, values in tables.items() if values)
    return f"<details><summary>Settings, versions, command and corpus</summary>\n{body}</details>"


def _table(values: Record) -> str:
    rows = (f"<tr><th scope='row'>{safe(key)}</th><td>{safe(value)}</td></tr>\n" for key, value in values.items())
    return f"<table><tbody>\n{''.join(rows)}</tbody></table>"


def main(arguments: list[str] | None = None) -> int:
    """``python -m sentemb.report RUN``: write the page again, print its path; 2 and one sentence if RUN is no run."""
    description = "Write RUN/report.html, one self-contained page, from the files of a training run."
    parser = argparse.ArgumentParser(prog="python -m sentemb.report", description=description)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder with config.json and log.jsonl")
    try:
        print(write_report(parser.parse_args(arguments).run))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
