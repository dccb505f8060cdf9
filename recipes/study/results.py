"""A study's folder read for its figures and its page: whatever is missing or broken is left out, never a crash."""

import json
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from sentemb.errors import InputError
from sentemb.runs import Record, RunFolder, Series, as_dict, as_list, number, plain, renamed_histograms

TEXTS = (
    "name",
    "family",
    "objective",
    "objective_name",
    "encoder",
    "towers",
    "head",
    "pairs",
    "setting",
    "status",
    "reason",
)
NUMBERS = (
    *("temperature", "alpha", "t", "contrastive", "align", "uniform", "dimension", "batch_size", "lr", "seed", "steps"),
    "sequences_seen",
    *("seconds", "loss", "alignment", "uniformity", "uniformity_optimum", "potential", "retrieval_mrr"),
    *("retrieval_recall_at_1", "effective_rank", "mean_cosine"),
    *("information", "nearest_gap", "mrr_after_head", "STS-B_spearman", "document_acc", "class_acc"),
    *("search_ndcg_at_10", "search_mrr_at_10", "search_map_at_100", "search_recall_at_100"),
)
MOST_FAMILIES = 8  # of which one encoder each is shown
OF_A_TASK = ("acc", "cv", "test", "tolerance", "after_head")
KINDS = {"static": "averages", "rnn": "recurrent", "transformer": "transformers"}  # by the name in an encoder's spec
SAME = ("encoder", "dimension", "towers", "head", "pairs", "batch_size", "lr")  # rows of one curve have these in common


@dataclass
class Results:
    """What a study has found. ``table`` has all columns of its format, in the study's order, one row an encoder."""

    folder: Path
    about: Record
    table: pd.DataFrame
    tasks: list[str]
    statistics: Record
    notes: list[str] = field(default_factory=list)

    def arrays(self, name: str) -> dict[str, Series]:
        """What ``measured.npz`` of an encoder holds; empty without one."""
        arrays: dict[str, Series] = {}
        broken = suppress(OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
        with broken, np.load(self._run(name) / "measured.npz", allow_pickle=False) as file:
            for key in file.files:
                arrays[key] = file[key]
        return renamed_histograms(arrays)

    def log(self, name: str) -> list[Record]:
        """Records of an encoder's log, steps ascending; empty without one."""
        records: list[Record] = []
        with suppress(OSError, ValueError):
            for line in RunFolder(self._run(name)).log.read_text("utf-8", errors="replace").splitlines():
                with suppress(ValueError, RecursionError):
                    records.append(as_dict(json.loads(line)))
        return sorted((r for r in records if np.isfinite(number(r.get("step")))), key=lambda r: number(r["step"]))

    def _run(self, name: str) -> Path:
        if Path(name).name != name:  # a name from a table never leads out of the study's folder
            raise ValueError(f"{name!r} is not an encoder's folder")
        return self.folder / "encoders" / name


def read_results(study: Path) -> Results:
    """Everything in a study's folder that can be read.

    Raises:
        InputError: ``study`` is not a folder.
    """
    if not study.is_dir():
        raise InputError(f"{study} is not a folder; give the folder that a sweep has written")
    notes: list[str] = []
    about = _json(study / "study.json", notes)
    statistics = _json(study / "statistics.json", notes)
    table = _table(study, notes)
    tasks = [plain(task) for task in as_list(about.get("tasks"))]
    if "tasks" not in about:
        tasks = [column.removesuffix("_acc") for column in table.columns if column.endswith("_acc")]
    return Results(study, about, complete(table, tasks), tasks, statistics, notes)


def complete(table: pd.DataFrame, tasks: Iterable[str] = ()) -> pd.DataFrame:
    """``table`` with all columns: text where text belongs, elsewhere float64, NaN for what is not a finite number."""
    table = table.reset_index(drop=True)
    made: dict[str, object] = {}
    for column in TEXTS:
        values = table[column] if column in table else [None] * len(table)
        made[column] = ["" if v is None or v != v else f"{v:g}" if isinstance(v, float) else plain(v) for v in values]
    for column in (*NUMBERS, *(f"{task}_{part}" for task in tasks for part in OF_A_TASK)):
        values = pd.to_numeric(table[column], errors="coerce") if column in table else np.nan
        numbers = np.broadcast_to(np.asarray(values, dtype=np.float64), len(table))
        made[column] = np.where(np.isfinite(numbers), numbers, np.nan)
    made["reference"] = table["reference"].fillna(False).astype(bool) if "reference" in table else False
    done = pd.DataFrame(made, index=table.index)
    done.loc[done["status"] == "", "status"] = np.where(done["uniformity"].notna(), "ok", "failed")[
        done["status"] == ""
    ]
    done.loc[done["name"] == "", "name"] = "unnamed"
    done.loc[done["family"] == "", "family"] = "encoder"
    return done


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of encoders that were trained to the end."""
    return table[table["status"] == "ok"]


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Usable rows without those that are there for comparison only."""
    return usable(table)[lambda rows: ~rows["reference"]]


def kinds_of(rows: pd.DataFrame) -> pd.Series:
    """What kind of encoder each is: averages, recurrent, transformers, or others."""
    names = [str(spec).partition(":")[0].strip() for spec in rows["encoder"]]
    return pd.Series([KINDS.get(name, "others") for name in names], index=rows.index, dtype=object)


def by_kind(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The table of each kind of trained encoder with weights of alignment and uniformity; of one kind, without name."""
    weighted = compared(table)[lambda rows: rows["align"].notna() & rows["uniform"].notna()]
    kinds = list(dict.fromkeys(kinds_of(weighted)))
    if len(kinds) < 2:
        return [("", table)]
    return [(kind, table[kinds_of(table) == kind]) for kind in kinds]


def in_common(table: pd.DataFrame, columns: Iterable[str] = SAME) -> pd.DataFrame:
    """The rows that share the most frequent values of ``columns``, so that a curve through them changes one thing."""
    keys = [tuple(row) for row in table[list(columns)].astype(str).itertuples(index=False)]
    counts = pd.Series(keys, dtype=object).value_counts(sort=False)
    return table[[key == counts.idxmax() for key in keys]] if keys else table


def is_temperature_study(table: pd.DataFrame) -> bool:
    """Whether the temperature is what varies: three of them at least and no weights of alignment and uniformity."""
    rows = table[~table["reference"]]
    return rows["temperature"].nunique() > 2 and not rows[["align", "uniform"]].notna().to_numpy().any()


def chosen(table: pd.DataFrame, tasks: list[str], most: int = 6) -> pd.DataFrame:
    """At most ``most`` usable rows that show a study's range, taken from its families in turn; of 8 families one each.

    In a temperature study the lowest, highest and middle temperature; else the best, then the worst by the first
    task's cross-validation (by uniformity without a task). In the order of family and that value.
    """
    rows = compared(table) if len(compared(table)) else usable(table)
    by = _by(rows, tasks)
    queues = []
    for _, family_rows in rows.groupby("family", sort=False):
        if is_temperature_study(table):
            first = family_rows.drop_duplicates("temperature").sort_values("temperature", kind="stable")
            picks = [first.index[0], first.index[-1], first.index[len(first) // 2]]
        else:
            ranked = family_rows.sort_values(by, ascending=by == "uniformity", kind="stable", na_position="last")
            rankable = ranked[ranked[by].notna()] if ranked[by].notna().any() else ranked
            picks = [rankable.index[0], rankable.index[-1]]
        queues.append(list(dict.fromkeys(picks)))
    longest = max(map(len, queues), default=0)
    turns = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    turns = turns[: max(most, min(len(queues), MOST_FAMILIES))]
    order = {family: i for i, family in enumerate(dict.fromkeys(rows["family"]))}
    value = "temperature" if is_temperature_study(table) else by
    picked = rows.loc[turns]
    return picked.iloc[
        np.lexsort([picked[value].fillna(-np.inf) * (1 if value == "temperature" else -1), picked["family"].map(order)])
    ]


def best_with_repeats(table: pd.DataFrame, tasks: list[str], most: int = 12) -> pd.DataFrame:
    """The best usable row of each family by the first task's cross-validation, and its setting with the most seeds."""
    rows = usable(table)
    by, picks = _by(rows, tasks), []
    for _, family_rows in rows.groupby("family", sort=False):
        best = family_rows.sort_values(by, ascending=by == "uniformity", kind="stable", na_position="last").iloc[0]
        seeds = family_rows.groupby("setting")["setting"].transform("size").where(family_rows["setting"] != "", 0)
        repeats = family_rows[(seeds == seeds.max()) & (seeds > 1)]
        repeats = repeats[repeats["setting"] == repeats["setting"].iloc[0]] if len(repeats) else repeats
        picks.append([best.name, *(i for i in repeats.index if i != best.name)])
    turns = [queue[i] for i in range(max(map(len, picks), default=0)) for queue in picks if i < len(queue)]
    return rows.loc[turns[:most]]


def _by(rows: pd.DataFrame, tasks: list[str]) -> str:
    measures = [f"{task}_{part}" for task in tasks[:1] for part in ("cv", "acc")]
    return next((column for column in measures if rows[column].notna().any()), "uniformity")


def _table(study: Path, notes: list[str]) -> pd.DataFrame:
    for ending, read in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
        path = study / f"results{ending}"
        if path.is_file():
            try:
                return read(path)
            except (OSError, ValueError):  # pyarrow's and pandas' own errors are ValueErrors
                notes.append(f"{path.name} cannot be read.")
    notes.append("There is no table of results yet.")
    return pd.DataFrame()


def _json(path: Path, notes: list[str]) -> Record:
    if not path.is_file():
        return {}
    try:
        parsed = json.loads(path.read_text("utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        notes.append(f"{path.name} is not a JSON object and is left out.")
    return as_dict(parsed)
