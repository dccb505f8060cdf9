"""The page of an adaptation shows scores whatever came out of it."""

import re
from typing import Any

from sentemb.adaptation.page import adaptation_page


def candidate(arm: str, setting: str, gain: float, **more: Any) -> dict[str, Any]:
    row = {"arm": arm, "setting": setting, "updates": 90, "seconds": 30.0, "status": "tried"}
    gains = {"gain": gain, "gain_low": gain - 1, "gain_high": gain + 1}
    return row | gains | {"general": -2.5, "general_low": -3.0, "general_high": -2.0} | more


def content(**more: Any) -> dict[str, Any]:
    made = {"verdict": "No method helped: keep your model. None raised the scores.", "notes": [], "processor": "a CPU"}
    made |= {"begun": {"model": "minilm"}, "versions": {}, "corpus": {"name": "BOOKS", "sentences": 9, "documents": 3}}
    return made | {"budget": 60, "spent": 50, "seconds": 70, "final": [], "candidates": [], "frontier": []} | more


def tiles(page: str) -> list[str]:
    return [" ".join(re.sub(r"<[^>]*>", " ", tile).split()) for tile in re.findall(r"<li><span.*?</li>", page, re.S)]


def test_where_no_method_helped_each_one_shows_its_best_gain():
    tried = [candidate("whiten", "power 1", -2.0), candidate("passages", "", 0.25), candidate("whiten", "", 1.5)]
    page = adaptation_page(content(candidates=tried, general="STS-B dev", allowed=0.5))
    assert tiles(page) == [
        "whiten +1.50 better +0.50 to +2.50; elsewhere -2.50",
        "passages +0.25 cannot tell -0.75 to +1.25; elsewhere -2.50",
    ]
    assert "the change of STS-B dev; 0.5 points may be lost" in page and "The best of each method" in page


def test_scores_of_the_judged_model_take_their_place():
    final = [{"measure": "MRR", "before": 10.0, "after": 12.0, "difference": 2.0, "low": 1.0, "high": 3.0}]
    page = adaptation_page(content(candidates=[candidate("passages", "", 2.0)], final=final))
    shown = ["MRR 10.00 → 12.00 better +2.00 [+1.00, +3.00]"]
    assert tiles(page) == shown and "Scores before and after" in page
    repeated = [*final, final[0] | {"measure": "gain", "low": 1.1, "high": 2.9}]  # (of other draws)
    assert tiles(adaptation_page(content(final=repeated))) == ["MRR 10.00 → 12.00 better +2.00 [+1.10, +2.90]"]
    tiny = final[0] | {"after": 9.999, "difference": -0.001, "low": -0.002, "high": -0.0005}
    assert tiles(adaptation_page(content(final=[tiny]))) == ["MRR 10.00 → 10.00 cannot tell -0.00 [-0.00, -0.00]"]
    mean = [*final, final[0] | {"measure": "gain", "after": 11.0}]
    assert tiles(adaptation_page(content(final=mean)))[1].startswith("mean on your text 10.00 → 11.00")


def test_a_text_that_is_too_small_has_no_scores():
    page = adaptation_page(content(verdict="This text is too small to tell whether a method helps: give more."))
    assert tiles(page) == [] and "too small to tell" in page
