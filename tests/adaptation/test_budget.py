"""The plan of a search: rungs, the time of each part, budgets as they are written."""

import pytest

from sentemb.adaptation.budget import FEW_UPDATES, affordable_arms, evaluations_of, least_budget, rungs_of
from sentemb.adaptation.search import _share
from sentemb.adaptation.settings import AdaptationSettings, seconds_of
from sentemb.errors import InputError


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2 h", 7200)])
def test_a_budget_is_a_number_and_a_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["30", "half an hour", "-5m", "m", "30 min", "1s", ""])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(InputError, match="budget"):
        AdaptationSettings(budget=text)


def test_each_rung_has_half_of_the_arms_before():
    assert [rungs_of(arms) for arms in (0, 1, 2, 4, 5)] == [[], [1], [2, 1], [4, 2, 1], [5, 3, 2, 1]]
    assert evaluations_of(2, 1, 3) == 1 + 3 + 3


@pytest.mark.parametrize("arms", range(1, 9))
def test_the_parts_of_a_rung_take_the_same_time_and_all_of_them_the_whole(arms):
    """Each part takes its share of what is left, as the search does."""
    rungs, left, spent = rungs_of(arms), 1.0, []
    for number, many in enumerate(rungs):
        for place in range(many):
            part = left * _share(rungs, number, place)
            left -= part
            spent.append((number, part))
    assert left == pytest.approx(0)
    for number, many in enumerate(rungs):
        assert [part for rung, part in spent if rung == number] == pytest.approx([1 / len(rungs) / many] * many)


@pytest.mark.parametrize(
    ("left", "score", "rate", "arms"),
    [
        (1800, 5, 2, 4),  # half an hour: all of four
        (55, 5, 1, 1),  # nothing is left after the scores of more
        (0, 5, 1, 1),
        (60, 1, 2, 3),
    ],
)
def test_a_short_budget_tries_fewer_arms(left, score, rate, arms):
    assert affordable_arms(4, left, score, 4, 5.0, rate) == arms
    assert affordable_arms(0, left, score, 4, 5.0, rate) == 0


@pytest.mark.parametrize(("overhead", "rate"), [(0.0, 1.0), (4.0, 0.5)])
def test_half_of_the_least_budget_trains_enough(overhead, rate):
    assert (least_budget(overhead, rate) / 2 - overhead) * rate == pytest.approx(FEW_UPDATES)


@pytest.mark.parametrize("left", range(30, 400, 10))
def test_all_arms_that_are_tried_get_updates_and_the_last_one_enough(left):
    overhead, rate, score = 3.0, 1.5, 2.0
    many = affordable_arms(4, left, score, 4, overhead, rate)
    rungs, time, updates = rungs_of(many), left - (sum(rungs_of(many)) + 4) * score, 0
    for number, count in enumerate(rungs):
        for place in range(count):
            part = time * _share(rungs, number, place)
            time -= part
            if many > 1:
                assert rate * (part - overhead) >= 1 - 1e-9
        updates += int(rate * (part - overhead) + 1e-9)
    assert many == 1 or updates >= FEW_UPDATES
