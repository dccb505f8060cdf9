"""Imports only flow down: registry, geometry -> objectives, encoders, ... -> train, report -> eval -> recipes."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEVELS = {
    "sentemb.registry": 0,
    "sentemb.blockwise": 0,
    "sentemb.geometry": 0.05,
    "sentemb.gru": 0,
    "sentemb.packing": 0,
    "sentemb.augment": 0,
    "sentemb.heads": 0,
    "sentemb.machine": 0.1,
    "sentemb.towers": 0.1,
    "sentemb.prompts": 0.2,
    "sentemb.mlm": 0.2,
    "sentemb.forward": 0.3,  # the training forward of encoders
    "sentemb.cache": 0.1,
    "sentemb.order": 0,
    "sentemb.epoch": 0.1,
    "sentemb.files": 0.05,
    "sentemb.text": 0.1,
    "sentemb.labelled": 0.2,
    "sentemb.embeddings": 0.15,  # an encoder's word tables
    "sentemb.sample": 0.2,
    "sentemb.objectives": 1,
    "sentemb.encoders": 1,
    "sentemb.loading": 0.95,  # any checkpoint back
    "sentemb.corpus": 0.9,
    "sentemb.pairs": 1,
    "sentemb.whole": 0.15,  # files that are whole or not there
    "sentemb.trust": 0.2,
    "sentemb.stopping": 0.2,
    "sentemb.checkpoint": 2,
    "sentemb.card": 2.1,
    "sentemb.runlog": 2,
    "sentemb.twin": 1,  # an encoder's slow copy
    "sentemb.source": 2,
    "sentemb.processes": 0.1,
    "sentemb.config": 0.2,
    "sentemb.update": 2.1,
    "sentemb.train": 2.5,
    "sentemb.runfiles": 2,
    "sentemb.figures": 2.1,
    "sentemb.report": 2.2,
    "sentemb.inspection": 3,
}


def imported(path: Path) -> set[str]:
    """Our modules that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in ("sentemb", "eval", "recipes", "tests", "benchmarks")}


def files(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"no module in {package}"
    return paths


def module(path: Path) -> str:
    """The dotted name of a file of the library: of a package, one name for all its files."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[:2]).removesuffix(".__init__")


def test_every_module_has_a_level():
    names = {module(path) for path in files("sentemb")} - {"sentemb"}
    assert names == set(LEVELS)


def test_the_library_imports_neither_eval_nor_recipes():
    for path in files("sentemb"):
        assert not {n for n in imported(path) if not n.startswith("sentemb")}, path


def test_imports_inside_the_library_flow_down_and_siblings_stay_apart():
    for path in files("sentemb"):
        if (own := module(path)) == "sentemb" or path.name == "__main__.py":  # a command is above all
            continue
        parts = {".".join(name.split(".")[:2]) for name in imported(path)}  # (of a package, its one name)
        for name in (parts & set(LEVELS)) - {own}:
            assert LEVELS[name] < LEVELS[own], f"{own} imports {name}"


def test_eval_imports_no_recipe_and_probes_see_arrays_only():
    for path in files("eval"):
        assert not {n for n in imported(path) if n.split(".")[0] in ("recipes", "tests", "benchmarks")}, path
    for name, own in (("probe", {"eval.logistic", "eval.mlp"}), ("logistic", set()), ("mlp", set())):
        assert {".".join(n.split(".")[:2]) for n in imported(ROOT / "eval" / f"{name}.py")} == own


def test_every_module_says_what_it_is():
    for package in ("sentemb", "eval", "recipes", "tests"):
        for path in files(package):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
