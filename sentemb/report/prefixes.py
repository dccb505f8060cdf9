"""The scores of embeddings that are cut, of a run with ``--matryoshka``."""

from sentemb.report.score_columns import CANNOT_TELL, columns_of, difference_of
from sentemb.runs import PREFIXES, TRAINED, Record, Run, as_list, number, safe, show

CAPTION = """The trained encoder with its embeddings cut to their first dimensions, for which it was trained, too
(Matryoshka, Kusupati et al. 2022). SentenceTransformer(PATH, truncate_dim={size}) gives them: fewer numbers to keep
and to compare for each sentence. Better, worse: than the full embedding, beyond chance (paired bootstrap)."""


def prefixes_section(run: Run) -> str:
    """A table with a row for each length; empty where the run has none."""
    rows = prefix_rows(run)
    if not rows:
        return ""
    rows += [row for row in run.rows() if row.get("encoder") == TRAINED]
    columns = columns_of(rows)
    head = "".join(f"<th scope='col'>{safe(title)}</th>" for title in ("dimension", *(c.title for c in columns)))
    body = ""
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{show(c.values[i], c.digits)}{_verdict(run, c.key, row)}</td>" for c in columns)
        body += f"<tr><th scope='row'>{show(number(row.get('dimension')), 0)}</th>{cells}</tr>\n"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    caption = CAPTION.format(size=show(number(rows[0].get("dimension")), 0))
    return f"""<section id='prefixes'><h2>Embeddings cut</h2>
<div class='wide' tabindex='0'>{table}</div>
<p class='caption'>{safe(caption)}</p>
</section>"""


def _verdict(run: Run, measure: str, row: Record) -> str:
    """What is beyond chance of a cut embedding's difference from the full one, in small letters."""
    d = difference_of(run, measure, row.get("encoder"), TRAINED)
    return f" <small>{safe(d.verdict)}</small>" if d is not None and d.verdict != CANNOT_TELL else ""


def prefix_rows(run: Run) -> list[Record]:
    """The rows of scores.json of embeddings that are cut."""
    return [row for row in as_list(run.scores.get(PREFIXES)) if isinstance(row, dict)]
