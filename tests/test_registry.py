"""The configuration language: names, typed options, and errors that say what to do."""

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Optional

import pytest

from sentemb.errors import InputError
from sentemb.registry import PathText, absolute_paths, build, check, options_of, parse, quoted


def recipe(width: int, rate: float = 0.5, deep: bool = False, name: str = "a", place: Path = Path(), extra: int = 0):
    if rate < 0:
        raise ValueError(f"rate must not be negative, got {rate}")
    return width, rate, deep, name, place, extra


TABLE = {"recipe": recipe, "other": recipe}


def test_values_take_the_annotated_types():
    made = build(TABLE, "recipe:width=3,rate=1e-3,deep=yes,name=b/c:d,place=x/y", extra=7)
    assert made == (3, 1e-3, True, "b/c:d", Path("x/y"), 7)


def test_given_arguments_are_no_options():
    assert build(TABLE, "recipe:width=1", extra=2)[-1] == 2
    with pytest.raises(InputError, match="unknown option of name 'recipe' 'extra'"):
        build(TABLE, "recipe:width=1,extra=4", extra=2)


def test_what_the_program_passes_does_not_vanish():
    with pytest.raises(InputError, match="encoder 'recipe' has no parameter 'max_length', which the program passes"):
        build(TABLE, "recipe:width=1", "encoder", max_length=12)
    # what is called where it is needed need not be needed
    assert build(TABLE, "recipe:width=1", texts=lambda: ["a"])[0] == 1
    assert build({"all": lambda **more: more}, "all", max_length=12) == {"max_length": 12}


def late(rate: "float" = 0.1, count: "int | None" = 7, deep: "bool" = False, unknown: "NotThere" = 0):  # noqa: F821
    return rate, count, deep


class Late:
    """As a class under ``from __future__ import annotations``."""

    def __init__(self, rate: "float" = 0.1, count: "Optional[int]" = 7, deep: "bool" = False) -> None:  # noqa: UP045
        self.values = rate, count, deep


def test_annotations_that_are_text_convert_as_types_do():
    table = {"late": late, "class": Late, "partial": partial(late, deep=True)}
    assert build(table, "late:rate=0.3,count=3,deep=yes") == (0.3, 3, True)
    assert build(table, "late:count=none") == (0.1, None, False)
    assert build(table, "class:rate=0.3,count=3,deep=yes").values == (0.3, 3, True)
    assert build(table, "partial:rate=0.3,count=3") == (0.3, 3, True)
    with pytest.raises(InputError, match="option 'count' of name 'late' is a whole number or none, got 'few'"):
        build(table, "late:count=few")


def test_types_of_several_kinds_and_of_none():
    def several(a: int | None = 1, b: float | str = 0.5, c: Literal["x", 2] = "x", d: str | None = "", e=0.5):
        return a, b, c, d, e

    table = {"several": several}
    assert build(table, "several:a=4,b=0.25,c=2,d=none,e=2") == (4, 0.25, 2, None, 2.0)
    assert build(table, "several:b=half,d=some") == (1, "half", "x", "some", 0.5)
    with pytest.raises(InputError, match="is one of 'x', 2, got 'y'"):
        build(table, "several:c=y")
    for kind in (list[int], dict, "NotThere", int | list):

        def odd(sizes=None):
            return sizes

        odd.__annotations__["sizes"] = kind
        with pytest.raises(InputError, match="option 'sizes' of name 'odd' is annotated .*, which no text can be tur"):
            build({"odd": odd}, "odd:sizes=3")
        assert build({"odd": odd}, "odd") is None  # its default is not text


def test_a_value_in_quotes_holds_commas_spaces_and_doubled_quotes():
    assert parse("""table:path="a, b.csv" ,column='it''s',document=it's""") == (
        "table",
        {"path": "a, b.csv", "column": "it's", "document": "it's"},
    )
    assert parse('a:b="",c=" d "')[1] == {"b": "", "c": " d "}
    for value in ("a,b", " a", "a ", '"a', "'a", "a", "", 'a "b", c', "x=y", "it's"):
        assert parse(f"t:first={quoted(value)},last=1")[1] == {"first": value, "last": "1"}
    for spec, message in (
        ('a:b="c', 'begins with " and has no closing one'),
        ("a:b='c,d=e", "begins with ' and has no closing one"),
        ('a:b="c"d,e=f', "continues after its closing quote"),
    ):
        with pytest.raises(InputError, match=message):
            parse(spec)


def test_paths_in_a_spec_become_absolute(tmp_path, monkeypatch):
    def source(path: PathText, column: str = "text", place: Path | None = None, other: "PathText | None" = None):
        return path

    monkeypatch.chdir(tmp_path)
    for name in ("a, b.csv", "text", "c"):
        (tmp_path / name).touch()
    table, cwd = {"source": source}, os.getcwd()
    for spec, expected in (
        ('source:path="a, b.csv",column=text', f'source:path="{cwd}/a, b.csv",column=text'),
        ("source:path=c,place=c,other=c", f"source:path={cwd}/c,place={cwd}/c,other={cwd}/c"),
        ("source:path=text,column=text", f"source:path={cwd}/text,column=text"),
    ):
        assert absolute_paths(table, spec) == expected
    (tmp_path / "link").symlink_to("c")
    (tmp_path / "link.csv").symlink_to("c")  # as the hub's cache has them: what it is stands in the ending
    assert absolute_paths(table, "source:path=link") == f"source:path={cwd}/c"
    assert absolute_paths(table, "source:path=link.csv") == f"source:path={cwd}/link.csv"
    for same in ("source:path=hub/name", "source", "other:path=c", "source:path=c,wrong=c", "source:path"):
        assert absolute_paths(table, same) == same


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("recip", "unknown thing 'recip' .did you mean 'recipe'.*valid: other, recipe"),
        ("zzz", "unknown thing 'zzz'; valid: other, recipe"),
        ("recipe:widht=3", "unknown option of thing 'recipe' 'widht' .did you mean 'width'"),
        ("recipe", "needs width; write recipe:width="),
        ("recipe:width=wide", "option 'width' of thing 'recipe' is a whole number, got 'wide'"),
        ("recipe:width=3,rate=x", "is a number, got 'x'"),
        ("recipe:width=3,deep=perhaps", "is true or false, got 'perhaps'"),
        ("recipe:width", "option 'width' in 'recipe:width' is not key=value"),
        ("recipe:width=3,width=4", "given twice"),
        ("recipe:width=3,rate=-1", "thing 'recipe:width=3,rate=-1': rate must not be negative"),
        ("", "unknown thing ''"),
    ],
)
def test_errors_are_one_sentence(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        build(TABLE, spec, "thing")
    assert "\n" not in str(caught.value)


def test_check_makes_nothing():
    factory, values = check(TABLE, "recipe:width=3,rate=-1")
    assert factory is recipe and values == {"width": 3, "rate": -1.0}


def test_parse_allows_spaces_and_empty_options():
    assert parse("a: b = 1 ,, c=x=y") == ("a", {"b": "1", "c": "x=y"})


@dataclass(frozen=True)
class Shape:
    FORMER_OPTIONS: ClassVar = {"wide": "width"}

    width: int = 3
    path: PathText = ""

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


def drawn(size: int, shape: Shape = Shape(), depth: int = 1):
    return size, shape, depth


def test_a_dataclass_parameter_stands_for_its_fields(tmp_path, monkeypatch):
    table = {"drawn": drawn, "partial": partial(drawn, depth=5)}
    assert list(options_of(drawn, ["size"])) == ["width", "path", "depth"]
    assert build(table, "drawn:width=5,depth=2", size=1) == (1, Shape(5), 2)
    assert build(table, "partial", size=1) == (1, Shape(), 5) and build(table, "drawn", size=1) == (1, Shape(), 1)
    for spec, message in [
        ("drawn:widht=3", "did you mean 'width'"),
        ("drawn:width=wide", "is a whole number, got 'wide'"),
        ("drawn:width=0", "drawn:width=0': width must be at least 1, got 0"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            build(table, spec, size=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    assert absolute_paths(table, "drawn:path=file.txt,width=2") == f"drawn:path={tmp_path.resolve()}/file.txt,width=2"


def test_a_renamed_option_works_and_warns_once(caplog):
    table = {"drawn": drawn}
    for _ in range(2):
        assert build(table, "drawn:wide=7", size=1)[1] == Shape(7)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["option 'wide' of name 'drawn' is 'width' now; version 0.2 drops the old name"]
