"""Results as tables: for the terminal, Markdown, LaTeX, CSV; and paired tests between encoders."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.seeds import Results, columns, grouped, over_seeds
from eval.tasks import METRICS, TASKS, kind_of
from sentemb.registry import choose
from sentemb.validation import ONE_SIDE
from sentemb.versions import versions_of

PACKAGES = ("torch", "sentence-transformers", "transformers", "scikit-learn", "numpy")
FORMATS = ("text", "markdown", "latex", "csv", "json")


@dataclass(frozen=True)
class Table:
    """A head and lines of cells; the first column is text, the rest are numbers. ``notes`` go below."""

    title: str
    head: list[str]
    lines: list[list[str]]
    notes: tuple[str, ...] = ()


Rows = Sequence[Mapping[str, Any]]
VERDICTS = "better, worse: the interval of the paired bootstrap leaves out 0; cannot tell: it holds 0"
RETRIEVAL = {"retrieval_mrr": "MRR", "retrieval_recall_at_1": "recall at 1"}  # as titles have it


def tables(results: Results, comparison: Rows = (), differences: Rows = ()) -> list[Table]:
    """One table for few tasks of one kind; else a table a kind: probes, similarity, regressors, geometry, tests.

    Args:
        results: by checkpoint. comparison: of :func:`eval.significance.compare`.
        differences: of :func:`eval.significance.differences_from_first`.
    """
    asked: dict[str, str | None] = {}  # each task's kind; what failed and is not a task of TASKS has none
    for result in results.values():
        asked |= {n: kind_of(n, {}) for n in result.get("failed", ()) if n not in asked}
        asked |= {n: kind_of(n, row) for n, row in result["tasks"].items()}
    order = {name: place for place, name in enumerate(TASKS)}
    names = sorted(asked, key=lambda name: order.get(name, len(order)))  # one's own behind ours
    kinds = [
        (title, METRICS[kind], [name for name in names if asked[name] == kind], labels)
        for title, kind, labels in (
            ("accuracy", "probe", ("transfer", "mean")),
            ("Spearman x 100", "similarity", ("sts", "mean_similarity")),
            ("Pearson x 100, supervised", "regression", ()),
        )
    ]
    score_tables = [_scores(results, *kind) for kind in kinds if kind[2]]
    if len(score_tables) == 1 and len(score_tables[0].head) <= 6:
        table, shape = score_tables[0], _shape(results, brief=True)
        lines = [[*line, *more[1:]] for line, more in zip(table.lines, shape.lines, strict=True)]
        score_tables = [Table(table.title, [*table.head, *shape.head[1:]], lines, (*table.notes, *shape.notes))]
    elif any(result["geometry"] for result in results.values()):
        score_tables.append(_shape(results))
    if any("search" in result for result in results.values()):
        score_tables.append(_search(results))
    if len(grouped(results)) < len(results):
        score_tables.append(compact(results))
    if comparison:
        lines = [
            [str(r["task"]), str(r["a"]), str(r["b"]), str(r["only_a"]), str(r["only_b"]), f"{r['p']:.2g}"]
            for r in comparison
        ]
        head = ["task", "a", "b", "only a right", "only b right", "p"]
        score_tables.append(Table("McNemar's exact test, two-sided", head, lines))
    if differences:
        score_tables.append(_differences(differences))
    return score_tables


def _differences(rows: Rows) -> Table:
    """How other encoders differ from the first one on each score, with intervals."""
    lines = []
    for row in rows:
        digits = 4 if row["measure"] in RETRIEVAL else 2
        interval = f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}"
        title = RETRIEVAL.get(row["measure"], row["measure"])
        lines.append([row["encoder"], title, f"{row['difference']:+.{digits}f}", interval, row["verdict"]])
    head = ["encoder", "score", "difference", f"{rows[0]['level']:.0%} interval", "verdict"]
    return Table(f"difference from {rows[0]['against']}", head, lines, (VERDICTS,))


def compact(results: Results) -> Table:
    """One table for a paper: a row a model, accuracies and correlations together; mean and deviation over seeds."""
    order = {name: place for place, name in enumerate(TASKS)}
    names = dict.fromkeys(name for result in results.values() for name in columns(result))
    names = dict.fromkeys(sorted(names, key=lambda name: order.get(name, len(order))))
    groups = grouped(results)
    lines, notes = [], []
    for name, group in groups.items():
        scores = over_seeds(group)
        cells = [_mean_and_deviation(**scores[column]) if column in scores else "-" for column in names]
        lines.append([name, str(group[0]["dimension"]), *cells])
        if len(group) > 1:
            notes.append(f"{name}: mean and standard deviation (n - 1) over {len(group)} seeds")
    return Table("accuracy, correlation x 100", ["encoder", "dim", *names], lines, tuple(notes))


def _mean_and_deviation(mean: float, std: float | None, n: int) -> str:
    return f"{mean:.2f}" if n == 1 else f"{mean:.2f} ± {std:.2f}"


def _scores(results: Results, title: str, metric: str, names: list[str], labels: tuple[str, ...]) -> Table:
    labels = tuple(label for label in labels if any(label in r.get("averages", {}) for r in results.values()))
    lines, notes = [], []
    for encoder, result in results.items():
        line = [encoder, str(result["dimension"])]
        line += [f"{result['tasks'][n][metric]:.2f}" if n in result["tasks"] else "-" for n in names]
        for label in labels:
            average = result.get("averages", {}).get(label)
            line.append(f"{average['value']:.2f}{'' if average['complete'] else '*'}" if average else "-")
            if average and not average["complete"]:
                notes.append(f"* incomplete: without {', '.join(average['missing'])}")
        lines.append(line)
    columns = ["mean" if label == "mean_similarity" else label for label in labels]
    return Table(title, ["encoder", "dim", *names, *columns], lines, tuple(dict.fromkeys(notes)))


def _search(results: Results) -> Table:
    """Of results that have ``search`` (``{"task", "notes", "scores"}``)."""
    searched = [result["search"] for result in results.values() if "search" in result]
    metrics = list(dict.fromkeys(metric for each in searched for metric in each["scores"]))
    lines = []
    for encoder, result in results.items():
        scores = result.get("search", {}).get("scores", {})
        lines.append([encoder, *(f"{scores[metric]:.4f}" if metric in scores else "-" for metric in metrics)])
    notes = dict.fromkeys(text for each in searched for text in (each["task"], *each["notes"]))
    return Table("search", ["encoder", *metrics], lines, tuple(notes))


def _shape(results: Results, brief: bool = False) -> Table:
    measured = any("alignment" in (r["geometry"] or {}) or "geometry" in r.get("failed", {}) for r in results.values())
    keys = {"alignment": "alignment", "uniformity": "uniformity"} if measured else {}
    more = [
        *RETRIEVAL.items(),
        ("effective_rank", "effective rank"),
        ("mean_cosine", "mean cosine"),
    ]
    for key, label in more[: 1 if brief else 4]:
        if any(key in (result["geometry"] or {}) for result in results.values()):
            keys[key] = label
    lines = []
    for encoder, result in results.items():
        shape = result["geometry"] or {}
        cells = [f"{shape[key]:.{1 if key == 'effective_rank' else 4}f}" if key in shape else "-" for key in keys]
        lines.append([encoder, *cells])
    return Table("geometry", ["encoder", *keys.values()], lines, _how_ranked(results))


def _how_ranked(results: Results) -> tuple[str, ...]:
    """Notes on whose MRR is not of one encoder by cosine."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for encoder, result in results.items():
        shape = result["geometry"] or {}
        if "retrieval_mrr" in shape:
            how = shape.get("retrieval_sides", ONE_SIDE), shape.get("retrieval_score", "cosine")
            kinds.setdefault(how, []).append(encoder)
    usual = (ONE_SIDE, "cosine")
    if set(kinds) <= {usual}:
        return ()
    scores = {"dot": "inner product"}
    return tuple(f"MRR of {', '.join(names)}: {s}, by {scores.get(by, by)}" for (s, by), names in kinds.items())


def as_text(score_tables: Sequence[Table]) -> str:
    """Aligned columns for a terminal."""
    blocks = []
    for table in score_tables:
        rows = [table.head, *([_short(line[0]), *line[1:]] for line in table.lines)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
        text = [
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        text.insert(1, "  ".join("-" * width for width in widths))
        title = [table.title] if len(score_tables) > 1 else []
        blocks.append("\n".join([*title, *text, *table.notes]))
    return "\n\n".join(blocks)


def _short(name: str, width: int = 40) -> str:
    """The end of a long path says most."""
    return name if len(name) <= width else "..." + name[3 - width :]


def as_markdown(score_tables: Sequence[Table]) -> str:
    """Pipe tables."""
    blocks = []
    for table in score_tables:
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.head, *table.lines)]
        rule = ["---", *["---:"] * (len(table.head) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
        blocks.append("\n".join([f"**{table.title}**", "", *lines, *(f"\n{_plain(note)}" for note in table.notes)]))
    return "\n\n".join(blocks)


def _plain(note: str) -> str:
    return note.replace("*", "\\*")


def as_latex(score_tables: Sequence[Table]) -> str:
    """booktabs tabulars (``\\usepackage{booktabs}``)."""
    blocks = []
    for table in score_tables:
        rows = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in (table.head, *table.lines)]
        lines = [
            f"% {table.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {note}" for note in table.notes),
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _tex(cell: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in cell)


def as_csv(results: Results, comparison: Sequence[Mapping[str, Any]] = ()) -> str:
    """A line an encoder: every score, average and geometry, and ``TASK_p`` of the test against the first encoder."""
    lines = []
    first = next(iter(results), None)
    for encoder, result in results.items():
        line: dict[str, Any] = {"encoder": encoder, "dimension": result["dimension"]}
        line |= {key: result[key] for key in ("name", "checkpoint") if key in result}
        for name, row in result["tasks"].items():
            line[name] = row[METRICS[kind_of(name, row) or "probe"]]
            if "f1" in row:
                line[f"{name}_f1"] = row["f1"]
        for label, average in result["averages"].items():
            line[label] = average["value"]
            line[f"{label}_complete"] = average["complete"]
        shape = result["geometry"] or {}
        line |= {k: v for k, v in shape.items() if isinstance(v, int | float)}
        line |= {f"{r['task']}_p": r["p"] for r in comparison if r["a"] == first and r["b"] == encoder}
        lines.append(line)
    from pandas import DataFrame  # a third of a second to import

    return DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n").rstrip("\n")


def format_table(results: Results) -> str:
    """:func:`tables` as text for the terminal, without tests."""
    return as_text(tables(results))


RENDER: dict[str, Callable[[Sequence[Table]], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}


def render(
    kind: str,
    results: dict[str, dict[str, Any]],
    comparison: Rows = (),
    differences: Rows = (),
    one_table: bool = False,
) -> str:
    """Results in one of FORMATS. JSON: an object; of several ``{"results": [...], "comparison", "differences"}``.

    Of seeds it has ``models``, too: :func:`eval.seeds.over_seeds` by name. ``one_table``: :func:`compact` alone.
    """
    choose("format", kind, FORMATS)
    if kind == "csv":
        return as_csv(results, comparison)
    if kind != "json":
        return RENDER[kind]([compact(results)] if one_table else tables(results, comparison, differences))
    versions = versions_of(PACKAGES)
    entries = [{"checkpoint": name, **result, "versions": versions} for name, result in results.items()]
    several = {"results": entries, "comparison": comparison, "differences": differences}
    content: dict[str, Any] = entries[0] if len(entries) == 1 else several
    if len(groups := grouped(results)) < len(results):
        content["models"] = {name: over_seeds(group) for name, group in groups.items()}
    return json.dumps(content, indent=2)
