"""Numbers with their nouns."""

import pytest

from sentemb.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "plural", "expected"),
    [
        (1, "process", None, "1 process"),
        (2, "process", None, "2 processes"),
        (0, "thread", None, "0 threads"),
        (1234, "line", None, "1,234 lines"),
        (3, "child", "children", "3 children"),
    ],
)
def test_a_number_and_its_noun_agree(number, noun, plural, expected):
    assert counted(number, noun, plural) == expected
