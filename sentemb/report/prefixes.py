"""The scores of embeddings that are cut, of a run with ``--matryoshka``."""

from markupsafe import Markup

from sentemb.report.score_columns import CANNOT_TELL, columns_of, difference_of
from sentemb.report.template import PageTable
from sentemb.runs import PREFIXES, TRAINED, Record, Run, as_dict, as_list, number, show

CAPTION = """The trained encoder with its embeddings cut to their first dimensions, for which it was trained, too
(Matryoshka, Kusupati et al. 2022). {how} gives them: fewer numbers to keep
and to compare for each sentence. Better, worse: than the full embedding, beyond chance (paired bootstrap)."""


def prefix_table(run: Run) -> PageTable | None:
    """A table with a row for each length; None where the run has none."""
    rows = prefix_rows(run)
    if not rows:
        return None
    rows += [row for row in run.rows() if row.get("encoder") == TRAINED]
    columns = columns_of(rows)
    cells = [
        [
            show(number(row.get("dimension")), 0),
            *(Markup("{}{}").format(show(c.values[i], c.digits), _verdict(run, c.key, row)) for c in columns),
        ]
        for i, row in enumerate(rows)
    ]
    head = ["dimension", *(column.title for column in columns)]
    return PageTable("Embeddings cut", head, cells, _caption(run, rows[0]))


def _caption(run: Run, row: Record) -> str:
    size = f"{number(row.get('dimension')):.0f}"
    towers = as_dict(run.config.get("settings")).get("towers")
    plainly = f"SentenceTransformer(PATH, truncate_dim={size})"
    return CAPTION.format(how="Cutting each of the two encoders" if towers == 2 else plainly)


def _verdict(run: Run, measure: str, row: Record) -> Markup:
    """What is beyond chance of a cut embedding's difference from the full one, in small letters."""
    d = difference_of(run, measure, row.get("encoder"), TRAINED)
    return Markup(" <small>{}</small>").format(d.verdict) if d is not None and d.verdict != CANNOT_TELL else Markup()


def prefix_rows(run: Run) -> list[Record]:
    """The rows of scores.json of embeddings that are cut."""
    return [row for row in as_list(run.scores.get(PREFIXES)) if isinstance(row, dict)]
