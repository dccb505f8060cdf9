"""One self-contained HTML page of a study: what was found, its tables and figures, and every encoder in a table.

``write_study_page(study)`` reads the files of a sweep's folder, draws the figures into STUDY/figures and writes
STUDY/study.html: no network, figures inline, the same bytes for the same inputs; its one script sorts the table. A
missing piece gives a page that says so.
"""

import math
import re
from pathlib import Path

import pandas as pd

from recipes.study.figures import Drawn, draw_results
from recipes.study.results import Results, read_results
from sentemb.report import html_page
from sentemb.runs import Record, as_dict, as_list, duration, number, plain, safe
from sentemb.storage import write_text

BROAD = ("similarities", "circle", "sphere")  # figures with panels side by side get a row of their own
STUDY_CSS = """
.figures .broad { grid-column: 1 / -1 }
.figures { grid-auto-flow: dense }
.paper svg { max-width: var(--width) }
.paper a { cursor: pointer }
.paper a:hover, .paper a:focus { opacity: .55; outline: none }
#encoders table { font-size: .8rem }
#encoders th, #encoders td { padding: .25rem .5rem }
#encoders td.number { text-align: right }
#encoders td.reason { white-space: normal; min-width: 16rem }
#encoders tbody th { min-width: 11rem; max-width: 20rem }
#encoders th button { all: unset; cursor: pointer; font-weight: 600 }
#encoders th button:focus-visible { outline: 2px solid var(--mark) }
#encoders th[aria-sort=ascending] button::after { content: " ▲" }
#encoders th[aria-sort=descending] button::after { content: " ▼" }
tr:target, tr:target th { background: #E69F0055 }
tr.bad td, tr.bad th { color: var(--soft) }
"""
SORT = """
for (const button of document.querySelectorAll('#encoders th button')) {
  button.addEventListener('click', () => {
    const head = button.closest('th'), body = head.closest('table').tBodies[0];
    const up = head.getAttribute('aria-sort') === 'descending' || !head.hasAttribute('aria-sort') && !head.dataset.down;
    for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const text = row => row.cells[head.cellIndex].textContent;
    const order = (a, b) => {
      const [x, y] = [text(a), text(b)], [i, j] = [parseFloat(x), parseFloat(y)];
      if (head.dataset.number === undefined) return x.localeCompare(y) * (up ? 1 : -1);
      if (isNaN(i) || isNaN(j)) return isNaN(i) - isNaN(j);
      return (i - j) * (up ? 1 : -1);
    };
    body.append(...[...body.rows].sort(order));
  });
}
"""
WHAT = (
    "encoder",
    "dimension",
    "towers",
    "head",
    "pairs",
    "batch_size",
    "lr",
    "seed",
)  # said once where all encoders share it
SETTINGS = ("objective", "temperature", "alpha", "t", "contrastive", "align", "uniform")
MEASURES = {  # column: title, digits, whether more is better
    "alignment": ("align loss", 3, False),
    "uniformity": ("uniform loss", 3, False),
    "potential": ("potential", 4, False),
    "mean_cosine": ("mean cosine", 3, False),
    "effective_rank": ("effective rank", 1, True),
    "retrieval_mrr": ("MRR", 3, True),
    "retrieval_recall_at_1": ("recall at 1", 3, True),
    "search_ndcg_at_10": ("search nDCG@10", 3, True),
    "search_recall_at_100": ("search recall@100", 3, True),
    "loss": ("training loss", 3, False),
    "steps": ("steps", 0, True),
    "sequences_seen": ("sequences", 0, True),
    "seconds": ("seconds", 0, False),
}
PARTS = {"cv": ("CV, %", 2), "test": ("test, %", 2), "acc": ("10-fold, %", 2), "tolerance": ("tolerance", 3)}


def write_study_page(study: Path) -> Path:
    """Draw a study's figures and write STUDY/study.html whole or not at all.

    Args:
        study: folder of a sweep: ``results.parquet`` (or ``.csv``), ``study.json``, ``statistics.json`` and
            ``encoders/NAME``; what is missing is left out and said.

    Returns:
        The page's path.

    Raises:
        InputError: ``study`` is no folder.
    """
    results = read_results(study)
    page = study / "study.html"
    content = _page(results, draw_results(results))
    write_text(page, content)
    return page


def _page(results: Results, drawn: list[Drawn]) -> str:
    about = results.about
    title = safe(about.get("title") or about.get("name") or results.folder.name)
    described = [text for text in plain(about.get("description") or "").split("\n\n") if text.strip()]
    sentences = [safe(text) for text in as_list(results.statistics.get("said"))]
    sentences = sentences or ["No statistics yet: the study has no statistics.json with sentences."]
    notes = "".join(f"<p class='note'>{safe(note)}</p>\n" for note in results.notes)
    figures = "\n".join(_card(figure) for figure in drawn if figure.svg)
    missing = "".join(f"<li>{safe(f.title)}: needs {safe(f.missing)}.</li>\n" for f in drawn if not f.svg)
    undrawn = f"<section><h2>Figures that are not drawn</h2><ul class='soft'>\n{missing}</ul></section>"
    tables = "\n".join(_table_section(as_dict(table)) for table in as_list(results.statistics.get("tables")))
    body = f"""<h1>{title}</h1>
{"".join(f"<p class='soft'>{safe(text)}</p>" for text in described)}
<section><h2>What was found</h2>
{"".join(f"<p>{sentence}</p>" for sentence in sentences)}
{notes}<dl>{_facts(results)}</dl>
</section>
{tables}
<div class="figures">
{figures}
</div>
{undrawn if missing else ""}
{_encoders(results)}
{_base(results)}
<p class="caption">Alignment and uniformity: Wang &amp; Isola 2020,
<a href="https://arxiv.org/abs/2005.10242">arXiv 2005.10242</a>. Temperature and tolerance: Wang &amp; Liu 2021,
<a href="https://arxiv.org/abs/2012.09740">arXiv 2012.09740</a>.</p>"""
    return html_page(title, body, style=STUDY_CSS, script=SORT)


def _facts(results: Results) -> str:
    counts = results.table["status"].value_counts()
    facts = [
        ("encoders", str(len(results.table))),
        *((status, str(counts[status])) for status in ("diverged", "failed") if counts.get(status)),
        ("corpus", plain(as_dict(results.about.get("corpus")).get("name") or results.about.get("corpus") or "–")),
        ("tasks", ", ".join(results.tasks) or "–"),
        ("time", duration(number(results.about.get("seconds")))),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{safe(value)}</dd></div>" for name, value in facts if value != "–")


def _card(figure: Drawn) -> str:
    broad = " class='broad'" if figure.name in BROAD else ""
    points = re.search(r'<svg [^>]*?width="([\d.]+)pt"', figure.svg)
    width = float(points[1]) / 9.4 if points else 40  # rem: letters of all figures are about as large
    return (
        f"<figure id='{figure.name}'{broad}><h2>{safe(figure.title)}</h2>"
        f"<div class='paper' style='--width: {width:.1f}rem'>{figure.svg}</div>"
        f"<figcaption>{safe(figure.caption)}</figcaption></figure>"
    )


def _table_section(table: Record) -> str:
    head = "".join(f"<th scope='col'>{safe(cell)}</th>" for cell in as_list(table.get("head")))
    body = "".join(f"<tr>{_cells(as_list(row))}</tr>\n" for row in as_list(table.get("rows")))
    note = f"<p class='caption'>{safe(table['note'])}</p>" if table.get("note") else ""
    html_table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    title = safe(table.get("title", "Table"))
    return f"<section><h2>{title}</h2><div class='wide' tabindex='0'>{html_table}</div>{note}</section>"


def _cells(cells: list[object]) -> str:
    texts = ["–" if cell is None else safe(cell) for cell in cells]
    return "".join(f"<{'td' if i else 'th scope=row'}>{text}</{'td' if i else 'th'}>" for i, text in enumerate(texts))


def _encoders(results: Results) -> str:
    """All encoders, a row each; a column that says the same of all is said once above."""
    table = results.table
    if table.empty:
        return "<section><h2>All encoders</h2><p>No encoder is done yet.</p></section>"
    varying_columns = [column for column in WHAT if table[column].nunique(dropna=False) > 1]
    text_of_column = {column: _text(table[column].iloc[0]) for column in WHAT if column not in varying_columns}
    shared = [f"{column.replace('_', ' ')} {text}" for column, text in text_of_column.items() if text not in ("", "–")]
    columns: list[tuple[str, str, int | None, bool]] = [("family", "family", None, False)]
    columns += [(c, c, None, False) for c in SETTINGS if c == "objective" or table[c].notna().any()]
    columns += [(c, c.replace("_", " "), None, False) for c in varying_columns]
    columns.append(("status", "status", None, False))
    for task in results.tasks:
        for part, (title, digits) in PARTS.items():
            columns.append((f"{task}_{part}", f"{task} {title}", digits, True))
    columns += [(key, *shape) for key, shape in MEASURES.items()]
    columns = [c for c in columns if c[2] is None or table[c[0]].notna().any()]
    if (table["reason"] != "").any():
        columns.append(("reason", "reason", None, False))
    kinds = [pd.api.types.is_numeric_dtype(table[key]) for key, *_ in columns]
    head = "<th scope='col'><button>name</button></th>"
    for (_, title, _, more), numeric in zip(columns, kinds, strict=True):
        sort = f"{' data-number' if numeric else ''}{' data-down' if more else ''}"
        head += f"<th scope='col'{sort.replace('data-down', 'data-down=1')}><button>{safe(title)}</button></th>"
    body = ""
    for index, row in table.iterrows():
        bad = "" if row["status"] == "ok" else " class='bad'"
        cells = "".join(_cell(key, row[key], digits) for key, _, digits, _ in columns)
        body += f"<tr id='encoder-{index}'{bad}><th scope='row'>{safe(row['name'])}</th>{cells}</tr>\n"
    same = f"The same for all: {', '.join(shared)}. " if shared else ""
    return f"""<section id="encoders"><h2>All encoders</h2>
<p class="caption">{safe(same)}Click a column's head to sort by it. CV: 5-fold accuracy on a training split, which
encoders are chosen by; test: accuracy of that classifier on the rest; 10-fold: SentEval's nested cross-validation.</p>
<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></div></section>"""


def _cell(key: str, value: object, digits: int | None) -> str:
    if not isinstance(value, float):
        return f"<td{' class=reason' if key == 'reason' else ''}>{safe(value)}</td>"
    text = _text(value) if digits is None else "–" if math.isnan(value) else f"{value:.{digits}f}"
    return f"<td class='number'>{text}</td>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else "–"
    return plain(value)


def _base(results: Results) -> str:
    settings = as_dict(results.about.get("base"))
    if reference := results.about.get("reference_encoder"):
        settings = settings | {"reference encoder": reference}
    rows = "".join(f"<tr><th scope='row'>{safe(k)}</th><td>{safe(v)}</td></tr>\n" for k, v in settings.items())
    table = f"<table><tbody>\n{rows}</tbody></table>"
    return f"<details><summary>Settings that most encoders share</summary>{table}</details>" if rows else ""
