"""What import-linter (pyproject.toml) cannot see: each module says what it is."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def files(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"no module in {package}"
    return paths


def test_every_module_says_what_it_is():
    for package in ("sentemb", "eval", "recipes", "tests"):
        for path in files(package):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
