"""The choice among models: intervals, the allowed loss, the frontier."""

from dataclasses import replace

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.adaptation.candidates import Candidate, Difference, differences_of, eligible, frontier_of
from sentemb.adaptation.measures import GAIN, mean_of
from sentemb.adaptation.outcome import Judged, verdict_of
from sentemb.validation import ItemScores


def candidate(arm: str, gain: float, loss: float, setting: str = "") -> Candidate:
    values = {GAIN: gain, "STS": -loss}
    scores, start = ({name: ItemScores(np.full(9, k * v)) for name, v in values.items()} for k in (1.0, 0.0))
    return Candidate(arm, setting, scores, start)


TRIED = [candidate("a", 3, 2), candidate("a", 2, 0.4, "weight 0.5"), candidate("b", 1, 0.1), candidate("c", -1, 0)]


def test_the_greatest_gain_within_the_allowed_loss_comes_first():
    assert [each.name for each in eligible(TRIED, "STS", 0.5)] == ["a, weight 0.5", "b"]
    assert [each.name for each in eligible(TRIED, "STS", 5)] == ["a", "a, weight 0.5", "b"]
    assert eligible(TRIED, "STS", 0) == []


def test_worth_is_the_gain_at_the_allowed_loss():
    assert TRIED[0].worth("STS", 0.5) == pytest.approx(3 * 0.5 / 2)
    assert TRIED[2].worth("STS", 0.5) == 1 and TRIED[3].worth("STS", 0.5) == -1


def test_the_frontier_has_what_no_other_beats():
    rows = {(row["arm"], row["setting"]): row["on_frontier"] for row in frontier_of(TRIED, "STS")}
    assert rows == {("keep", ""): True, ("a", ""): True, ("a", "weight 0.5"): True, ("b", ""): True, ("c", ""): False}
    beaten = [*TRIED, candidate("d", 2.5, 0.05)]
    rows = {(row["arm"], row["setting"]): row["on_frontier"] for row in frontier_of(beaten, "STS")}
    assert rows["d", ""] and not rows["b", ""] and not rows["a", "weight 0.5"]


def test_a_mean_of_measures_is_the_mean_of_their_scores():
    random = np.random.default_rng(0)
    parts = [
        ItemScores(random.random(n), documents=np.arange(n) % 12, items=name, scale=100)
        for n, name in ((30, "pairs"), (7, "queries"))
    ]
    joined = mean_of(parts)
    assert joined.score == pytest.approx(np.mean([part.score for part in parts]))
    assert joined.items == "pairs and queries" and joined.by_document
    assert mean_of([parts[0], ItemScores(random.random(4))]).documents is None


def test_a_difference_beyond_chance_has_an_interval_above_zero():
    random = np.random.default_rng(0)
    start = {GAIN: ItemScores(random.random(300), scale=100)}
    better = {GAIN: ItemScores(start[GAIN].values + 0.1 + 0.1 * random.random(300), scale=100)}
    difference = differences_of(better, start)[GAIN]
    assert 10 < difference.low < difference.value < difference.high < 20
    same = differences_of({GAIN: ItemScores(start[GAIN].values + random.normal(0, 0.1, 300), scale=100)}, start)[GAIN]
    assert same.low < 0 < same.high


def test_the_verdict_of_a_search_without_a_choice_says_why():
    nothing = verdict_of(None, [candidate("a", -1, 0)], "STS", 0.5)
    assert nothing.startswith("No method helped: keep your model.")
    costly = verdict_of(None, TRIED[:1], "STS", 0.5)
    assert "keep your model" in costly and "lost 2.00 points of STS; 0.5 are allowed" in costly


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.1, ("It paid: a raised", "Of 4 models tried", "the interval of its gain is above 0")),
        (0.0, ("not above 0",)),
        (-0.1, ("not above 0",)),
    ],
)
def test_the_verdict_of_a_choice_says_why(shift, words):
    random = np.random.default_rng(0)
    values, noise = random.random(300), random.normal(0, 0.05, 300)
    start = {GAIN: ItemScores(values, scale=100), "STS": ItemScores(values)}
    differences = differences_of(start | {GAIN: ItemScores(values + noise + shift, scale=100)}, start)
    judged = Judged(TRIED[0], SentenceTransformer(modules=[nn.Identity()]), {}, {}, differences)
    verdict = verdict_of(judged, TRIED, "STS", 0.5, "what it does")
    assert ("a: what it does; 0 updates. Of 4" in verdict) == judged.helps
    assert all(each in verdict for each in words) and judged.helps == (shift > 0)


def test_a_few_updates_are_too_few_for_a_verdict():
    tried = [candidate("whiten", -1, 0), replace(candidate("a", -1, 0), updates=1)]
    assert "too short to tell" in verdict_of(None, tried, "STS", 0.5)
    assert "No method was tried" in verdict_of(None, [], "STS", 0.5)
    judged = Judged(tried[1], SentenceTransformer(modules=[nn.Identity()]), {}, {}, {GAIN: Difference(1, -1, 3)})
    assert "for more than 1 update;" in verdict_of(judged, tried, "STS", 0.5), "a gain within chance tells nothing"
    enough = [replace(candidate("a", -1, 0), updates=200)]
    assert verdict_of(None, enough, "STS", 0.5).startswith("No method helped")
