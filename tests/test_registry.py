"""The configuration language: names, typed options, and errors that say what to do."""

from pathlib import Path

import pytest

from sentemb.registry import InputError, build, check, parse


def recipe(width: int, rate: float = 0.5, deep: bool = False, name: str = "a", place: Path = Path(), extra: int = 0):
    if rate < 0:
        raise ValueError(f"rate must not be negative, got {rate}")
    return width, rate, deep, name, place, extra


TABLE = {"recipe": recipe, "other": recipe}


def test_values_take_the_annotated_types():
    made = build(TABLE, "recipe:width=3,rate=1e-3,deep=yes,name=b/c:d,place=x/y", extra=7)
    assert made == (3, 1e-3, True, "b/c:d", Path("x/y"), 7)


def test_given_arguments_are_no_options_and_unwanted_ones_are_dropped():
    assert build(TABLE, "recipe:width=1", extra=2, unknown=3)[-1] == 2
    with pytest.raises(InputError, match="unknown option of name 'recipe' 'extra'"):
        build(TABLE, "recipe:width=1,extra=4", extra=2)


@pytest.mark.parametrize(
    ("spec", "said"),
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
def test_errors_are_one_sentence(spec, said):
    with pytest.raises(InputError, match=said) as caught:
        build(TABLE, spec, "thing")
    assert "\n" not in str(caught.value)


def test_check_makes_nothing():
    factory, values = check(TABLE, "recipe:width=3,rate=-1")
    assert factory is recipe and values == {"width": 3, "rate": -1.0}


def test_parse_allows_spaces_and_empty_options():
    assert parse("a: b = 1 ,, c=x=y") == ("a", {"b": "1", "c": "x=y"})
