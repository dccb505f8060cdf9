"""What import-linter (pyproject.toml) cannot see: what packages offer, names that stand once, docstrings of modules."""

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOPS = ("sentemb", "eval", "recipes")
ENTRIES = {"sentemb.corpus.__main__"}  # of commands, above all


def files(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"no module in {package}"
    return paths


def name_of(path: Path) -> str:
    """The dotted name of a module or package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for top in TOPS for path in files(top)}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"} - {"sentemb", "recipes"}


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Modules and names of a file's ``from MODULE import NAMES``."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in nodes), f"{path} has a relative import"
    return [(node.module or "", [alias.name for alias in node.names]) for node in nodes]


# What names a kind of word, and not what a value is. (`given` of hypothesis is another's name.)
EMPTY_WORDS = {
    *("found", "kept", "known", "said", "told", "whole"),
    *("own", "beside", "here", "there", "given", "anew"),
}
OF_LIBRARIES = {"given", "parse_known_args"}
FOLDERS = ("sentemb", "eval", "recipes", "benchmarks", "tests")


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a file uses or binds, and its line; of ``test_...`` functions none, which are sentences."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("test_"):
            yield node.name, node.lineno
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).rpartition(".")[2], node.lineno


def empty_names(source: str) -> list[str]:
    return [
        f"line {line}: {name}"
        for name, line in identifiers(ast.parse(source))
        if EMPTY_WORDS & set(name.lower().split("_")) and name not in OF_LIBRARIES
    ]


def test_an_empty_name_is_seen():
    source = "def told(own=1):\n    found_words = [kept for kept in x.known]\n    return call(whole=HERE)\n"
    assert len(empty_names(source)) == 8
    assert empty_names("def test_what_is_kept():\n    well_known_text = 'found'\n") == ["line 2: well_known_text"]
    assert empty_names("shown, knowing, wholesale, ownership = parser.parse_known_args()") == []


def test_names_say_what_a_value_is():
    names = {
        str(path.relative_to(ROOT)): empty_names(path.read_text(encoding="utf-8"))
        for folder in FOLDERS
        for path in files(folder)
    }
    assert {path: lines for path, lines in names.items() if lines} == {}


def test_others_import_only_what_a_package_offers():
    for importer, path in MODULES.items():
        if importer in ENTRIES:
            continue
        for module, names in imports(path):
            for package in (p for p in PACKAGES if is_inside(module, p) and not is_inside(importer, p)):
                nested = any(is_inside(package, other) and package != other for other in PACKAGES)
                if nested and not any(is_inside(importer, o) for o in PACKAGES if package.startswith(o + ".")):
                    continue  # (seen through the package around it)
                if module == "eval.senteval":  # the public face of evaluation, which is a command too
                    continue
                assert module == package, f"{importer} imports {module}, and not from {package}"
                offered = importlib.import_module(package).__all__
                assert set(names) <= set(offered), f"{importer} takes {set(names) - set(offered)} of {package}"


def test_what_a_package_offers_is_there_and_listed():
    for name in sorted(PACKAGES):
        package = importlib.import_module(name)
        for offered in getattr(package, "__all__", ()):
            assert getattr(package, offered) is not None
            assert offered in dir(package)


def test_no_two_public_things_share_a_name_across_packages():
    homes = defaultdict(set)
    for name in sorted(PACKAGES):
        for offered in getattr(importlib.import_module(name), "__all__", ()):
            thing = getattr(importlib.import_module(name), offered)
            homes[offered].add(id(thing) if not isinstance(thing, str | int | tuple) else repr(thing))
    assert not {name for name, things in homes.items() if len(things) > 1}


def test_packages_are_small_enough_to_look_through():
    for name in (*PACKAGES, "sentemb", "recipes"):
        modules = [path for path in MODULES[name].parent.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 20, name


def test_every_module_says_what_it_is():
    for package in (*TOPS, "tests"):
        for path in files(package):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
