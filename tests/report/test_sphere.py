"""The sphere of a page: what is recorded at the end of training, and what the page makes of it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentemb.report import sphere_content, write_report
from sentemb.validation import HeldOutPairs, Sides, sphere_points
from sentemb.validation.sphere import COUNT, LONGEST

N = 30
TEXTS = [f"sentence {i}" for i in range(2 * N)]
PAIRS = HeldOutPairs(TEXTS[:N], TEXTS[N:], "made up")
NASTY = "</script><script>alert('x')</script> & <b>"


def encoder(rows: np.ndarray) -> Any:
    """An encode of TEXTS by these rows ``[2N, d]``."""
    return lambda texts: rows[[TEXTS.index(text) for text in texts]]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def random_rows(dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2 * N, dimension))


def points_of(content: dict[str, Any], name: str) -> np.ndarray:
    """``[N, 2, 3]``"""
    return np.array(content["encoders"][name]["points"])


def test_three_dimensions_are_shown_as_they_are():
    rows = random_rows(3)
    content = sphere_points({"a": Sides(encoder(rows))}, PAIRS)
    points, expected = points_of(content, "a").transpose(1, 0, 2).reshape(-1, 3), unit(rows)
    np.testing.assert_allclose(points @ points.T, expected @ expected.T, atol=5e-3)
    cosines = [a @ b for a, b in zip(expected[:N], expected[N:], strict=True)]
    assert content["encoders"]["a"]["cosines"] == pytest.approx(cosines, abs=1e-3)
    assert content["encoders"]["a"]["share"] == 1 and content["pairs"] == [
        list(p) for p in zip(TEXTS[:N], TEXTS[N:], strict=True)
    ]


@pytest.mark.parametrize("dimension", [1, 2])
def test_fewer_dimensions_fill_a_part_of_the_sphere(dimension):
    points = points_of(sphere_points({"a": Sides(encoder(random_rows(dimension)))}, PAIRS), "a")
    np.testing.assert_allclose(np.linalg.norm(points, axis=2), 1, atol=2e-3)
    assert np.linalg.matrix_rank(points.reshape(-1, 3), tol=0.05) == dimension


def test_collapsed_embeddings_stay_one_spot_before_the_reader():
    rows = np.ones(40) + 0.05 * random_rows(40)
    points = points_of(sphere_points({"a": Sides(encoder(rows))}, PAIRS), "a")
    assert points[..., 2].min() > 0.99


def test_the_same_shape_turned_in_space_is_drawn_alike():
    rows = random_rows(8)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))
    content = sphere_points({"before": Sides(encoder(rows)), "after": Sides(encoder(-rows @ turn))}, PAIRS)
    np.testing.assert_allclose(points_of(content, "before"), points_of(content, "after"), atol=2e-3)
    x = unit(rows)
    values = np.linalg.svd(x, compute_uv=False) ** 2
    assert content["encoders"]["after"]["share"] == pytest.approx(values[:3].sum() / values.sum(), abs=1e-3)


def test_the_second_sentence_is_of_the_second_tower():
    rows = random_rows(3)
    towers = Sides(encoder(rows), encoder(-rows))
    cosines = sphere_points({"a": towers}, PAIRS)["encoders"]["a"]["cosines"]
    alike = sphere_points({"a": Sides(encoder(rows))}, PAIRS)["encoders"]["a"]["cosines"]
    assert cosines == pytest.approx([-c for c in alike], abs=2e-3)


def test_few_pairs_are_drawn_and_long_sentences_are_cut():
    many = HeldOutPairs([f"{i} " + "long " * 99 for i in range(COUNT + 50)], ["short"] * (COUNT + 50), "made up")
    encode = lambda texts: np.array([[len(t), 1.0, i] for i, t in enumerate(texts)])  # noqa: E731
    content = sphere_points({"a": Sides(encode)}, many)
    assert len(content["pairs"]) == COUNT == len(content["encoders"]["a"]["points"])
    assert {len(a) for a, _ in content["pairs"]} == {LONGEST} and content["pairs"][0][0].endswith("…")
    assert content["pairs"] == sphere_points({"a": Sides(encode)}, many)["pairs"]


# ---- the page


def sphere(n: int = 12) -> dict[str, Any]:
    """As a run records it."""
    chance = np.random.default_rng(3)
    encoders = {
        name: {"points": unit(chance.normal(size=(n, 2, 3))).round(3).tolist(), "cosines": [0.5] * n, "share": 0.25}
        for name in ("random rnn", "trained")
    }
    return {"seed": 0, "pairs": [[f"first {i}", f"second {i}"] for i in range(n)], "encoders": encoders}


def write_run(folder: Path, content: object, source: str = "5 neighbouring pairs", towers: int = 1) -> str:
    geometry = {"geometry": {"source": source}}
    rows = [{"encoder": "random rnn", "role": "initial"} | geometry, {"encoder": "trained"} | geometry]
    config = {"corpus": {"name": "tales"}, "settings": {"towers": towers}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.jsonl").write_text("\n".join(json.dumps({"step": s, "loss": 3.0 - s / 9}) for s in range(9)))
    (folder / "scores.json").write_text(json.dumps({"rows": rows, "sphere": content}))
    return write_report(folder).read_text("utf-8")


def test_the_page_holds_what_was_recorded_and_no_sentence_is_markup(tmp_path):
    recorded = sphere()
    recorded["pairs"][3] = [NASTY, "\u2028 \ud800"]
    text = write_run(tmp_path, recorded)
    assert text.count("<script") == 2 == text.count("</script>") and "alert('x')" not in text
    data = json.loads(re.search(r"id='sphere-data'>(.*?)</script>", text)[1])
    assert data["pairs"] == recorded["pairs"]
    assert [each["title"] for each in data["encoders"]] == ["before: random rnn", "after: trained"]
    for each, name in zip(data["encoders"], ("random rnn", "trained"), strict=True):
        assert each["points"] == np.array(recorded["encoders"][name]["points"]).ravel().tolist()
    assert "script-src 'sha256-" in text and "25% of the squared length (before: random rnn)" in text


def test_neighbours_have_one_colour_and_pairs_of_two_kinds_two(tmp_path):
    legend, alike = "<p class='legend'>", "<section id='sphere' class='alike'>"
    text = write_run(tmp_path, sphere(), "1,000 neighbouring pairs from 1 held-out document of tales")
    assert alike in text and legend not in text
    for source, towers in (("300 labelled pairs from 300 held-out rows of tales", 1), ("5 neighbouring pairs", 2)):
        text = write_run(tmp_path, sphere(), source, towers)
        assert alike not in text and legend in text


def broken() -> dict[str, Any]:
    content = sphere(2)
    points = {"points": [[1]], "cosines": [1, 1], "share": 1}
    return {
        "none": None,
        "text": "round",
        "no encoder": content | {"encoders": {}},
        "too few points": content | {"encoders": {"a": points}},
        "no numbers": content | {"encoders": {"a": points | {"points": [[["x"] * 3] * 2] * 2}}},
        "not finite": content | {"encoders": {"a": points | {"points": [[[float("nan")] * 3] * 2] * 2}}},
        "half a pair": content | {"pairs": [["a"], ["b"]]},
    }


@pytest.mark.parametrize("which", broken())
def test_what_cannot_be_drawn_gives_a_page_without_a_sphere(which, tmp_path):
    text = write_run(tmp_path, broken()[which])
    assert "<script" not in text and "id='sphere'" not in text and "script-src" not in text


def test_one_encoder_is_drawn_alone():
    content = sphere(2)
    del content["encoders"]["trained"]
    assert [each["title"] for each in sphere_content(content, "random rnn", alike=True)["encoders"]] == [
        "before: random rnn"
    ]
