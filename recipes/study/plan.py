"""What a study runs: its YAML file read, its grids laid out, every setting checked before anything is trained."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sentemb.errors import InputError, in_a_line
from sentemb.languages import DEFAULT, check_language
from sentemb.pipeline import PASSAGES, default_settings
from sentemb.registry import choose

STUDY, LOGS, ENCODERS, PLANNED = "study.json", "logs", "encoders", "planned"  # in a study's folder
ROW, ARRAYS, HEAD = "row.json", "measured.npz", "head.safetensors"  # in an encoder's
SHIPPED = Path(__file__).parents[1] / "studies"
STUDY_KEYS = (
    *("name", "title", "description", "corpus", "language", "tasks", "search", "keep", "base"),
    *("compare", "encoders", "references"),
)
DEFAULTS = default_settings()
OF_AN_ENTRY = ("family", "name", "vary", "points", "choose", "trained")
# Settings that a study decides by itself, for all its encoders alike.
FIXED = ("corpus", "language", "data", "tasks", "search", "score", "threads", "track", "workers")
KEEPS = ("model", "all", "none")


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder of a study."""

    name: str  # of its folder
    family: str
    settings: dict[str, Any]  # of the recipe, complete
    trained: bool = True  # or scored as it is made
    reference: bool = False  # in the table, for comparison, but not in the statistics
    filled_in: dict[str, Any] = field(default_factory=dict)  # values of the {names} in its specs

    @property
    def setting(self) -> str:
        """Text that is equal where encoders differ in their seed only."""
        return repr((self.family, self.trained, sorted((k, str(v)) for k, v in self.settings.items() if k != "seed")))


@dataclass(frozen=True)
class Choice:
    """An entry of which held-out retrieval chooses some settings, before any of its encoders is scored on a task."""

    name: str
    position: int  # of its encoders among the study's
    trials: list[EncoderSpec]  # one for each combination of ``choose``
    candidates: list[list[EncoderSpec]]  # [i]: its encoders, should trial i be the best


@dataclass(frozen=True)
class Study:
    """A study's file, read and checked."""

    name: str
    title: str
    description: str
    corpus: str
    language: str  # of its raw text
    tasks: str | None
    search: str | None  # the search task, like --search of the recipes
    keep: str  # model, all, none: what stays of an encoder's run folder, in addition to its log and scores
    base: dict[str, Any]
    encoders: list[EncoderSpec] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)  # whose encoders are not among ``encoders`` yet
    compare: dict[str, list[str]] = field(default_factory=dict)  # a claim, and the two families that decide it

    @property
    def size(self) -> int:
        """How many encoders it has after its choices."""
        return len(self.encoders) + sum(len(choice.candidates[0]) for choice in self.choices)

    @property
    def everything(self) -> list[EncoderSpec]:
        """All encoders that may be made: also each trial, and each candidate."""
        tried = [each for choice in self.choices for each in itertools.chain(choice.trials, *choice.candidates)]
        return [*self.encoders, *tried]

    def changed(self, change: Callable[[EncoderSpec], EncoderSpec]) -> "Study":
        """The study with each of :attr:`everything` changed."""
        choices = [
            replace(
                choice,
                trials=list(map(change, choice.trials)),
                candidates=[list(map(change, candidates)) for candidates in choice.candidates],
            )
            for choice in self.choices
        ]
        return replace(self, encoders=list(map(change, self.encoders)), choices=choices)


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder."""

    out: Path

    def run(self, planned: EncoderSpec) -> Path:
        """Its run folder."""
        return self.out / ENCODERS / planned.name

    def planned(self, planned: EncoderSpec) -> Path:
        """What it was asked to be."""
        return self.out / PLANNED / f"{planned.name}.json"

    def log(self, planned: EncoderSpec) -> Path:
        """What it printed."""
        return self.out / LOGS / f"{planned.name}.txt"

    def row(self, planned: EncoderSpec) -> dict[str, Any]:
        """What was measured, if it is done; else empty."""
        return read_row(self.run(planned))


def read_row(folder: Path) -> dict[str, Any]:
    """What was measured of the encoder in a folder; empty if it is not done."""
    try:
        row = json.loads((folder / ROW).read_text(encoding="utf-8"))
        has_status = isinstance(row, dict) and "status" in row
        return row if has_status and (row["status"] != "ok" or (folder / ARRAYS).stat().st_size) else {}
    except (OSError, ValueError):
        return {}


def shipped() -> list[str]:
    """Names of the studies that come with the toolkit."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_study(name_or_path: str) -> Study:
    """The study of that name, or in that YAML file.

    Raises:
        InputError: no such study, no YAML, or a key, name or value that cannot be used; the entry is named.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml"):
            raise InputError(f"{name_or_path} is not a file; the shipped studies are {', '.join(shipped())}")
        path = SHIPPED / f"{choose('study', name_or_path, shipped())}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML ({in_a_line(error)})") from None
    try:
        return _study(content, path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _study(content: Any, stem: str) -> Study:
    content = _mapping(content, "the file", STUDY_KEYS)
    base = _mapping(content.get("base", {}), "base", _settings())
    entries = [(entry, False) for entry in _list(content.get("encoders"), "encoders")]
    entries += [(entry, True) for entry in _list(content.get("references", []), "references")]
    planned: list[EncoderSpec] = []
    choices: list[Choice] = []
    for number, (entry, reference) in enumerate(entries, 1):
        where = f"entry {number} of {'references' if reference else 'encoders'}"
        entry = _mapping(entry, where, (*OF_AN_ENTRY, *_settings()))
        if "choose" in entry:
            choices.append(_choice(entry, base, reference, where, len(planned)))
        else:
            planned += _encoders(entry, base, reference, where)
    _refuse_twins([trial for choice in choices for trial in choice.trials])
    _refuse_twins([*planned, *(encoder for choice in choices for encoder in choice.candidates[0])])
    if not choices and not any(not encoder.reference for encoder in planned):
        raise InputError("encoders has no entry; a study needs one encoder at least")
    text = {
        key: str(content.get(key, default)) for key, default in (("name", stem), ("title", stem), ("keep", "model"))
    }
    if not re.fullmatch(r"\w[\w.+-]*", text["name"]):
        raise InputError(f"name {text['name']!r} becomes a folder; write it with letters, digits, '-' and '_' only")
    return Study(
        name=text["name"],
        title=text["title"],
        description=str(content.get("description", "")).strip(),
        corpus=str(content.get("corpus", "sample")),
        language=check_language(str(content.get("language", DEFAULT))),
        tasks=_tasks(content.get("tasks")),
        search=_search(content.get("search")),
        keep=choose("keep", text["keep"], KEEPS),
        base=base,
        encoders=planned,
        choices=choices,
        compare=_compared(content.get("compare", {}), planned, choices),
    )


def _compared(value: Any, planned: list[EncoderSpec], choices: list[Choice]) -> dict[str, list[str]]:
    """Claims and the two families of each, which have one setting."""
    settings: dict[str, set[str]] = {}
    for encoder in itertools.chain(planned, *(choice.candidates[0] for choice in choices)):
        settings.setdefault(encoder.family, set()).add(encoder.setting)
    if not isinstance(value, dict):
        raise InputError("compare must be `claim: [family, family]` lines")
    for claim, pair in value.items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"compare has two families a claim (claim: [a, b]), and {claim!r} has {pair!r}")
        for family in pair:
            choose(f"family of {claim!r}", str(family), sorted(settings))
            if len(settings[str(family)]) > 1:
                raise InputError(
                    f"{family}, a family of {claim!r}, has encoders that differ in more than their seed; "
                    "give them families of their own"
                )
    return {str(claim): [str(family) for family in pair] for claim, pair in value.items()}


def _tasks(value: Any) -> str | None:
    """Names of tasks as one text; a list of them, too."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return ",".join(value)
    if value is not None and not isinstance(value, str):
        raise InputError(f"tasks must be names (tasks: MR,CR), got {value!r}")
    return value


def _search(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"search must be the path of judged queries, or {PASSAGES}, got {value!r}")
    return value


def _settings() -> tuple[str, ...]:
    return tuple(name for name in DEFAULTS if name not in FIXED)


def _mapping(value: Any, where: str, allowed_keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be `key: value` lines, got {type(value).__name__}")
    for key in value:
        choose(f"key of {where}", str(key), allowed_keys)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list (lines beginning with '- '), got {type(value).__name__}")
    return value


def _encoders(entry: dict[str, Any], base: dict[str, Any], reference: bool, where: str) -> list[EncoderSpec]:
    """The encoders of an entry: one for each combination of ``vary``, or for each of ``points``, or one."""
    return [_encoder(entry, base, reference, where, point, point) for point in _points(entry, where)]


def _points(entry: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """What varies between the encoders of an entry, one mapping an encoder."""
    vary, points = entry.get("vary", {}), entry.get("points")
    if points is not None and vary:
        raise InputError(f"{where} has both vary and points; keep one of them")
    if points is None:
        return _grid(vary, "vary", where)
    if not (isinstance(points, list) and points and all(isinstance(p, dict) and p for p in points)):
        raise InputError(f"points of {where} must be a list of `key: value` lines")
    return list(points)


def _grid(values: Any, key: str, where: str) -> list[dict[str, Any]]:
    """Each combination of a mapping of names to lists."""
    if not isinstance(values, dict) or not all(isinstance(v, list) and v for v in values.values()):
        raise InputError(f"{key} of {where} must be names with lists of values: {key}: {{temperature: [0.1, 0.5]}}")
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def _choice(entry: dict[str, Any], base: dict[str, Any], reference: bool, where: str, position: int) -> Choice:
    """The trials of an entry with ``choose``, and what its encoders are after each outcome."""
    grid = _grid(entry["choose"], "choose", where)
    if len(grid) < 2:
        raise InputError(f"choose of {where} has one combination; give it two at least, or write it as a setting")
    points = _points(entry, where)
    if "seed" in grid[0]:
        raise InputError(f"choose of {where} has seed, in which trials differ from encoders; vary it instead")
    if twice := {key for point in points for key in point} & set(grid[0]):
        raise InputError(f"{where} has {sorted(twice)[0]} under choose and also varies it; keep one of them")
    candidates = [
        [_encoder(entry, base, reference, where, chosen | point, point) for point in points] for chosen in grid
    ]
    taken = {candidate.settings["seed"] for candidate in candidates[0]}
    without = (DEFAULTS | base | entry)["seed"]  # of the entry itself
    free = next(number for number in itertools.chain([without], itertools.count()) if number not in taken)
    shared = points[0] if len(points) == 1 else {}  # (else trials have the entry's own settings)
    if all("seed" in point for point in points):
        shared = shared | {"seed": free}
    trials = [_encoder(entry, base, reference, where, shared | chosen, chosen) for chosen in grid]
    if trials[0].settings["seed"] in taken:
        trials = [replace(trial, settings=trial.settings | {"seed": free}) for trial in trials]
    return Choice(str(entry.get("name", entry.get("family", "encoder"))), position, trials, candidates)


def _encoder(
    entry: dict[str, Any],
    base: dict[str, Any],
    reference: bool,
    where: str,
    point: dict[str, Any],
    named: dict[str, Any],
) -> EncoderSpec:
    """The encoder of an entry with the values of ``point``; its name has those that are ``named``."""
    in_family: set[str] = set()
    family = str(_filled(str(entry.get("family", "encoder")), point, in_family))
    if not isinstance(trained := entry.get("trained", True), bool):
        raise InputError(f"trained of {where} is true or false, got {trained!r}")
    entry_settings = base | {key: value for key, value in entry.items() if key not in OF_AN_ENTRY}
    used = set(in_family)
    settings = {key: _filled(value, point, used) for key, value in entry_settings.items()}
    for key, value in point.items():
        if key in _settings():
            settings[key] = value
        elif key not in used:
            raise InputError(f"{where} varies {key}, which no setting uses; write {{{key}}} where its value goes")
    for key, value in settings.items():
        settings[key] = _typed(key, value, where)
    prefix, added = str(entry.get("name", family)), set(named) - (set() if "name" in entry else in_family)
    name = "-".join([prefix, *(f"{key}-{value}" for key, value in named.items() if key in added)])
    name = re.sub(r"[^\w.+-]+", "_", name).strip("_.-")
    if not name:
        raise InputError(f"{where} has a name without a letter or digit; it becomes a folder, so give it some")
    filled_in = {key: _number(value) for key, value in point.items() if key in used}
    return EncoderSpec(name, family, DEFAULTS | settings, trained, reference, filled_in)


def _filled(value: Any, point: dict[str, Any], used: set[str]) -> Any:
    """``value`` with the {names} in it replaced by the point's values."""
    if not isinstance(value, str):
        return value
    for key, replacement in point.items():
        if f"{{{key}}}" in value:
            used.add(key)
            value = value.replace(f"{{{key}}}", str(replacement))
    if left := re.search(r"\{\w+\}", value):
        raise InputError(f"{left[0]} in {value!r} has no value; give it one under vary or points")
    return value


def _typed(key: str, value: Any, where: str) -> Any:
    """The value with the type that its flag takes; YAML reads 1e-3 as text."""
    default = DEFAULTS[key]
    number = float if isinstance(default, float) else int if isinstance(default, int) else None
    if key in ("epochs", "max_steps", "max_pairs"):
        number = None if value is None else int
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{key} of {where} is true or false, got {value!r}")
        return value
    if number is None:
        if value is None and default is not None:
            raise InputError(f"{key} of {where} has no value; give it one, or leave it out")
        return value if value is None else str(value)
    try:
        if isinstance(value, bool) or (number is int and float(value) != int(float(value))):
            raise ValueError
        return number(float(value))
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if number is int else "a number"
        raise InputError(f"{key} of {where} is {kind}, got {value!r}") from None


def _number(value: Any) -> Any:
    """The number that a text is (YAML reads 1e-3 as text); else the value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _refuse_twins(planned: list[EncoderSpec]) -> None:
    names: dict[str, EncoderSpec] = {}
    settings: dict[str, EncoderSpec] = {}
    for encoder in planned:
        if encoder.name.lower() in names:
            raise InputError(f"two encoders have the name {encoder.name}; give one of their entries another `name:`")
        names[encoder.name.lower()] = encoder
        same = repr((encoder.settings, encoder.trained))
        if same in settings:
            raise InputError(f"{settings[same].name} and {encoder.name} have the same settings; leave one of them out")
        settings[same] = encoder
