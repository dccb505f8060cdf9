"""A study's figures and page: closed forms, whatever is missing, and a browser that finds nothing to complain of."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import ive

from recipes.study.figures import captions
from recipes.study.figures.all_figures import draw_all
from recipes.study.figures.curves import families_figure, weights_figure
from recipes.study.figures.planes import family_marks, paths_figure, plane_figure
from recipes.study.figures.shapes import effective_rank_of
from recipes.study.figures.spheres import classes_figure, on_circle, potential, spread_out, synthetic, vmf_density
from recipes.study.page import study_headline, write_study_page
from recipes.study.results import Results, best_with_repeats, chosen, complete, is_temperature_study, read_results
from sentemb.errors import InputError
from sentemb.geometry import uniformity_optimum
from sentemb.report import Drawn, Headline

NASTY = "x<script>alert('x')</script>\"&$a_b$"
TASKS = ("MR", "CR")


def encoder(name: str, family: str, quality: float, **more: Any) -> dict[str, Any]:
    """A row; quality in 0 to 1 is better."""
    row = {"name": name, "family": family, "objective": f"{family}:quality={quality:.2f}", "objective_name": family}
    row |= {
        "encoder": "static:dimension=64",
        "dimension": 64,
        "batch_size": 400,
        "towers": "two",
        "pairs": "neighbours",
    }
    row |= {"seed": 0, "setting": name, "status": "ok", "reason": "", "steps": 500, "seconds": 20.5, "loss": 3.0}
    row |= {"alignment": 0.5 + 0.6 * quality**2, "uniformity": -4 * quality**0.5, "uniformity_optimum": -3.87}
    row |= {
        "potential": math.exp(-4 * quality**0.5),
        "retrieval_mrr": quality / 2,
        "retrieval_recall_at_1": quality / 3,
    }
    for task, least in zip(TASKS, (55, 65), strict=True):
        row |= {f"{task}_{part}": least + 15 * quality + i / 10 for i, part in enumerate(("acc", "cv", "test"))}
        row[f"{task}_tolerance"] = 0.8 - 0.7 * quality
    return row | {"effective_rank": 1 + 60 * quality, "mean_cosine": 1 - quality} | more


def rows() -> list[dict[str, Any]]:
    made = [
        encoder(f"contrastive-{t}", "contrastive", q, temperature=t, contrastive=1.0)
        for t, q in ((0.05, 0.8), (0.1, 0.9), (1.0, 0.4))
    ]
    made += [
        encoder(f"align-{w}", "align+uniform", q, align=w, uniform=1 - w, alpha=2.0, t=2.0)
        for w, q in ((0.1, 0.5), (0.5, 0.7), (0.9, 0.1))
    ]
    made.append(encoder("mixture", "mixture", 0.85, contrastive=1.0, align=1.0, uniform=1.0, temperature=0.1))
    made.append(encoder(NASTY, "unnormalised", 0.3, contrastive=1.0, temperature=1.0))
    made += [encoder(f"circle-{f}", f, 0.5, dimension=2) for f in ("random", "supervised")]
    made.append(encoder("sphere", "random", 0.45, dimension=3))
    nothing = dict.fromkeys([k for k in made[0] if k.startswith(TASKS)] + ["alignment", "uniformity", "potential"])
    made.append(made[0] | nothing | {"name": "gone", "status": "diverged", "reason": "loss is nan at step 7"})
    made.append(made[1] | nothing | {"name": "broken", "status": "failed", "reason": "no <memory>"})
    return made


def measured(row: dict[str, Any], chance: np.random.Generator, n: int = 400) -> dict[str, np.ndarray]:
    edges = np.linspace(-1, 1, 51)
    middle, quality = (edges[1:] + edges[:-1]) / 2, row["uniformity"] ** 2 / 16
    shapes = {
        "positives": (1 - quality / 2, 0.15),
        "hardest_negatives": (1 - 0.6 * quality, 0.1),
        "negatives": (1 - quality, 0.2),
    }
    arrays = {key: np.exp(-(((middle - mean) / width) ** 2)) for key, (mean, width) in shapes.items()}
    arrays = {key: shares / shares.sum() for key, shares in arrays.items()}
    d = int(row["dimension"])
    arrays |= {"edges": edges, "singular_values": np.exp(-np.arange(d) / (3 + 60 * quality))}
    if d <= 3:
        x = chance.normal(size=(n, d)) + (2 if row["family"] == "supervised" else 0.7) * np.sign(
            chance.normal(size=(n, 1))
        )
        arrays["features"] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        arrays |= {"class_features": arrays["features"], "classes": np.arange(n) % 3}
    return arrays


def make_study(folder: Path, made: list[dict[str, Any]], n: int = 400) -> Path:
    """A study's folder as a sweep leaves it."""
    folder.mkdir()
    table, chance = pd.DataFrame(made), np.random.default_rng(0)
    table.to_parquet(folder / "results.parquet")
    for row in made:
        run = folder / "encoders" / row["name"]
        if row["status"] == "ok" and "/" not in row["name"]:
            run.mkdir(parents=True)
            np.savez_compressed(run / "measured.npz", **measured(row, chance, n))
            log = [{"step": 10, "loss": 5.0}]
            for k in np.linspace(0, 1, 8):
                at = {"heldout_alignment": row["alignment"] * k + 0.1 * (1 - k) + 0.02 * chance.normal()}
                at["heldout_uniformity"] = row["uniformity"] * k**0.5 - 0.2
                log.append({"step": int(500 * k), **at})
            (run / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n{cut")
    about = {"name": "toy", "title": f"A toy study {NASTY}", "description": "First.\n\nSecond <b>.", "corpus": "sample"}
    about |= {"seconds": 4000, "tasks": list(TASKS), "base": {"lr": 0.0005, "clip": NASTY}, "reference_encoder": None}
    (folder / "study.json").write_text(json.dumps(about))
    lines = [["contrastive", "0.05", "70.1"], ["mixture", None, "71.2"]]
    statistics = {"tables": [{"title": "Best of each family", "note": f"A note {NASTY}", "head": ["a", "b", "c"]}]}
    statistics["tables"][0]["rows"] = lines
    (folder / "statistics.json").write_text(json.dumps(statistics | {"said": ["Rank correlation is 0.9.", NASTY]}))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    # "/" cannot be in a folder's name; the nasty name has one, so that its row has no files
    return make_study(tmp_path_factory.mktemp("studies") / "toy", rows())


@pytest.fixture(scope="module")
def drawn(study) -> list[Drawn]:
    return draw_all(study)


@pytest.fixture(scope="module")
def page(study) -> str:
    return write_study_page(study).read_text(encoding="utf-8")


# ---- closed forms


@pytest.mark.parametrize("kappa", [1.0, 50.0, 2000.0])
def test_density_of_angles_integrates_to_one(kappa):
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, 3000)
    at = np.linspace(-np.pi, np.pi, 20001)[:-1]
    assert vmf_density(angles, at, kappa).mean() * 2 * np.pi == pytest.approx(1, abs=1e-9)


def test_density_of_evenly_spaced_angles_is_uniform():
    density = vmf_density(np.linspace(0, 2 * np.pi, 721)[:-1], np.linspace(-3, 3, 50))
    assert density == pytest.approx(np.full(50, 1 / (2 * np.pi)), abs=1e-12)


def test_potential_of_evenly_spaced_points_is_the_sum_and_near_the_optimum():
    n = 2000
    cosine = np.cos(2 * np.pi * np.arange(1, n) / n)
    mean_potential = potential(on_circle(2 * np.pi * np.arange(n) / n))
    assert mean_potential == pytest.approx(np.exp(4 * cosine - 4).mean(), abs=1e-9)
    assert mean_potential == pytest.approx(math.exp(uniformity_optimum(2)), abs=1e-3)


def test_descent_step_is_the_potentials_gradient():
    angles, rate, step = np.random.default_rng(1).uniform(0, 6, 7), 1e-6, 1e-6
    moved = (spread_out(angles, 1, rate) - angles) / rate
    for i in range(7):
        up, down = (angles + s * step * np.eye(7)[i] for s in (1, -1))
        slope = (potential(on_circle(up)) - potential(on_circle(down))) / (2 * step)
        assert moved[i] == pytest.approx(-slope * (7 * 6 / 2) / 7, abs=1e-5)  # of the pairs' mean, per point


def test_harmonics_are_the_kernel():
    k, at = np.arange(1, 25), np.linspace(0, np.pi, 9)
    series = ive(0, 4.0) + (2 * ive(k, 4.0) * np.cos(np.outer(at, k))).sum(axis=1)
    assert series == pytest.approx(np.exp(4 * np.cos(at) - 4), abs=1e-14)


def test_optimised_points_are_nearer_the_optimum_than_their_start():
    sets, optimum = synthetic(600), math.exp(uniformity_optimum(2))
    far = {name: abs(potential(points) - optimum) for name, points in sets.items()}
    assert far["clustered, optimised"] < 0.002 < 0.05 < far["clustered"]
    assert all(np.linalg.norm(p, axis=1) == pytest.approx(np.ones(600)) for p in sets.values())


def test_effective_rank_of_equal_values_is_their_number():
    assert effective_rank_of(np.array([2.0, 2, 2, 0])) == pytest.approx(3)


# ---- figures


def test_everything_is_drawn_and_written(study, drawn):
    assert [f.name for f in drawn if not f.svg] == ["claims", "gains", "sentences"]  # of families of several seeds
    assert {f.name for f in drawn} >= {"plane_MR", "plane_CR", "weights", "temperature", "circle", "sphere", "paths"}
    for figure in [f for f in drawn if f.svg]:
        assert (study / "figures" / f"{figure.name}.png").stat().st_size > 5000
        assert (study / "figures" / f"{figure.name}.svg").read_text().startswith("<?xml")
        assert figure.caption


def test_every_point_has_a_tooltip_and_a_row(drawn, page):
    plane = next(f for f in drawn if f.name == "plane_MR").svg
    ok_rows = [i for i, row in enumerate(rows()) if row["status"] == "ok"]
    assert plane.count("<a href='#encoder-") == plane.count("</a>") == len(ok_rows)
    for i in ok_rows:
        assert f"<a href='#encoder-{i}'><title>" in plane and f"<tr id='encoder-{i}'" in page


def test_curve_goes_through_the_mean_over_seeds_and_leaves_others_out():
    made = [row | {"seed": seed, "MR_acc": row["MR_acc"] + seed} for row in rows()[3:6] for seed in (0, 2)]
    made.append(rows()[3] | {"dimension": 32, "MR_acc": 0.0})
    figure = weights_figure(complete(pd.DataFrame(made), TASKS), list(TASKS))
    assert figure is not None
    line = figure.axes[0].containers[0].lines[0]
    assert line.get_xdata() == pytest.approx([0.1, 0.5, 0.9])
    assert line.get_ydata() == pytest.approx([row["MR_acc"] + 1 for row in rows()[3:6]])


def test_references_are_not_the_best_encoder_and_repeats_follow_the_best():
    made = [encoder(f"again-{seed}", "a", 0.5, seed=seed, setting="again") for seed in range(3)]
    made += [encoder("best", "a", 0.8), encoder("reference", "a", 0.99, reference=True)]
    table = complete(pd.DataFrame(made), TASKS)
    assert chosen(table, list(TASKS))["name"].tolist()[0] == "best"
    figure = plane_figure(table, "MR")
    assert figure is not None
    ring = next(line for line in figure.axes[0].lines if line.get_label() == "best by cross-validation")
    assert ring.get_xdata()[0] == pytest.approx(made[3]["uniformity"])
    names = best_with_repeats(table[~table["reference"]], list(TASKS))["name"].tolist()
    assert names == ["best", "again-0", "again-1", "again-2"]


def test_a_panel_shows_one_class_of_one_encoder():
    angles, classes = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, 90)), np.arange(90) % 3
    shown = [(f"encoder {i}", on_circle(each), classes) for i, each in enumerate(angles)]
    figure = classes_figure([*shown, ("of three dimensions", np.ones((90, 3)), classes)])
    assert figure is not None and len(figure.axes) == 6
    for i, axes in enumerate(figure.axes):
        expected = shown[i // 3][1][classes == i % 3]
        np.testing.assert_allclose(axes.lines[0].get_xydata(), expected)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["class 1", "class 2", "class 3"]
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["encoder 0", "encoder 1"]
    assert classes_figure([]) is None


def test_the_circle_shows_linear_accuracies(study):
    folder = study.parent / "accuracies"
    made = [encoder(f"circle-{f}", f, 0.5, dimension=2, document_acc=12.34, class_acc=56.78) for f in ("a", "b")]
    svg = {figure.name: figure.svg for figure in draw_all(make_study(folder, made))}
    assert svg["circle"].count("linear 12.3%") == 2 and svg["classes"].count("56.8%") == 2
    assert "which training document, %" in write_study_page(folder).read_text(encoding="utf-8")


def test_chosen_are_best_and_worst_or_temperatures():
    table = complete(pd.DataFrame(rows()), TASKS)
    names = chosen(table, list(TASKS))["name"].tolist()
    assert len(names) == 6 and {"contrastive-0.1", "align-0.5", "mixture", NASTY} <= set(names)
    hot = [encoder(f"{f}-{t}", f, t / 2, temperature=t) for f in ("ordinary", "hard") for t in (0.1, 0.2, 0.5, 1.0)]
    table = complete(pd.DataFrame([*hot, encoder("simple", "simple", 0.2)]), TASKS)
    assert is_temperature_study(table)
    expected = ["ordinary-0.1", "ordinary-0.5", "ordinary-1.0", "hard-0.1", "hard-1.0", "simple"]
    assert chosen(table, list(TASKS))["name"].tolist() == expected


# ---- pieces that are missing


def variants() -> dict[str, list[dict[str, Any]]]:
    made = rows()
    unknown = dict.fromkeys([k for k in made[0] if k.startswith(TASKS)])
    return {
        "one row": made[:1],
        "all diverged": [row | {"status": "diverged", "reason": "nan"} for row in made],
        "no accuracy": [row | unknown for row in made],
        "points that coincide": [made[0] | {"name": f"twin-{i}", "seed": i, "setting": "same"} for i in range(12)],
        "few columns": [{"name": "a", "status": "ok"}, {"name": "b", "status": "ok"}],
        "infinities": [row | {"alignment": math.inf, "MR_acc": -math.inf} for row in made],
        "references only": [row | {"reference": True} for row in made],
    }


@pytest.mark.parametrize("which", variants())
def test_a_study_of_little_gives_a_page(tmp_path, which):
    made = variants()[which]
    folder = tmp_path / "study"
    folder.mkdir()
    pd.DataFrame(made).to_parquet(folder / "results.parquet")
    (folder / "study.json").write_text(json.dumps({"tasks": list(TASKS)}))
    text = write_study_page(folder).read_text(encoding="utf-8")
    assert all(f"id='encoder-{i}'" in text for i in range(len(made)))
    assert "Figures that are not drawn" in text


@pytest.mark.parametrize("broken", ["study.json", "statistics.json", "results.parquet"])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_missing_or_damaged_files_give_a_page_that_says_so(study, tmp_path, monkeypatch, broken, how):
    folder = shutil.copytree(study, tmp_path / "copy")
    if how == "damaged":
        (folder / broken).write_bytes(b"\x00[1, broken")
    else:
        (folder / broken).unlink()
    if broken != "results.parquet":  # the other two change no figure
        monkeypatch.setattr("recipes.study.page.draw_results", lambda results: [])
    text = write_study_page(folder).read_text(encoding="utf-8")
    assert how == "gone" or broken in text
    if broken == "results.parquet":
        assert "No encoder is done yet" in text and not list((folder / "figures").iterdir())


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_encoders_without_files_leave_their_figures_out(study, tmp_path, how):
    folder = shutil.copytree(study, tmp_path / "copy")
    for path in [*(folder / "encoders").rglob("*.npz"), *(folder / "encoders").rglob("*.jsonl")]:
        path.write_bytes(b"\x00[1, broken") if how == "damaged" else path.unlink()
    figures_by_name = {figure.name: figure for figure in draw_all(folder)}
    without = {"similarities", "spectrum", "paths", "circle", "classes", "potentials", "sphere"}
    without |= {"claims", "gains", "sentences"}  # which the toy study has nothing for
    assert {name for name, figure in figures_by_name.items() if not figure.svg} == without
    assert all(figures_by_name[name].missing for name in without) and figures_by_name["plane_MR"].svg
    assert {path.stem for path in (folder / "figures").iterdir()} == set(figures_by_name) - without


def test_csv_is_read_where_there_is_no_parquet(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "copy")
    pd.read_parquet(folder / "results.parquet").to_csv(folder / "results.csv", index=False)
    (folder / "results.parquet").unlink()
    before, after = read_results(study).table, read_results(folder).table
    pd.testing.assert_frame_equal(before, after)


def test_no_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        write_study_page(tmp_path / "none")


def test_names_lead_to_no_other_folder(study):
    results = read_results(study)
    assert results.arrays("../encoders/mixture") == {} == results.arrays("..") and results.log("../x") == []
    assert results.arrays("mixture")


def test_a_plane_without_task_is_drawn_in_one_colour():
    assert plane_figure(complete(pd.DataFrame(rows()), TASKS), None) is not None


@pytest.mark.parametrize(("families", "distinct"), [(12, True), (13, False)])
def test_more_families_than_markers_have_no_legend_and_stand_in_one_list(families, distinct):
    made = [encoder(f"{family}-{seed}", f"family {family}", 0.5) for family in range(families) for seed in (1, 2)]
    table = complete(pd.DataFrame(made), TASKS)
    plane, accuracies = plane_figure(table, "MR"), families_figure(table, list(TASKS))
    assert plane is not None and accuracies is not None
    labels = [text.get_text() for text in plane.legends[0].get_texts()]
    assert sum(label.startswith("family") for label in labels) == (families if distinct else 0)
    markers = {line.get_marker() for line in plane.axes[0].lines if (line.get_gid() or "").startswith("point")}
    assert len(markers) == (families if distinct else 1)
    assert ("shape is its family" in captions.plane(table, "MR")) == distinct
    first, second = (axes.get_position() for axes in accuracies.axes)
    assert (first.x0 == second.x0) == distinct and (first.y0 == second.y0) != distinct
    paths = [(f"family {i}", np.arange(3.0), np.arange(3.0)) for i in range(families)]
    figure = paths_figure(paths, family_marks(table))
    assert figure is not None and len(figure.legends[0].get_texts()) == 2 + (families if distinct else 0)


# ---- the page


def headline_of(tables: list[dict[str, Any]], table: list[dict[str, Any]] | None = None) -> Headline:
    table = complete(pd.DataFrame(rows() if table is None else table), TASKS)
    return study_headline(Results(Path("toy"), {}, table, list(TASKS), {"tables": tables}))


def difference_table(*lines: tuple[str, str, str, str, str]) -> dict[str, Any]:
    return {"head": ["task", "a", "b", "a - b, points", "p (Holm)"], "rows": [list(line) for line in lines]}


def test_the_headline_says_what_is_more_than_chance():
    verdicts = [["MR", "better"], ["CR", "worse"], ["CR", "cannot tell"]]
    trained = {"head": ["task", "verdict"], "rows": verdicts}
    equal = difference_table(("MR", "infonce", "dcl", "+0.40", "0.6"), ("CR", "infonce", "dcl", "-0.10", "1"))
    headline = headline_of([trained, equal])
    assert headline.title == (
        "Training improved 1 of 3 scores beyond chance and worsened 1; no difference beyond chance between infonce and "
        "dcl"
    )
    assert "bootstrap" in headline.detail and "McNemar" in headline.detail
    clear = difference_table(("MR", "infonce", "dcl", "+1.40", "0.01"), ("CR", "infonce", "dcl", "-2.10", "0.04"))
    title = headline_of([equal, clear]).title  # the last table is that of all encoders
    assert title == "On MR infonce beats dcl by 1.40 points and on CR dcl beats infonce by 2.10 points, beyond chance"
    many = [("MR", str(i), str(i + 1), "+9.00", "0.01" if i < 3 else "0.9") for i in range(5)]
    assert headline_of([difference_table(*many)]).title == "3 of 5 differences between families are more than chance"
    none = [(*line[:4], "0.9") for line in many]
    assert headline_of([difference_table(*none)]).title == "None of 5 differences between families is more than chance"


def test_the_headline_of_a_study_without_tests_names_the_best_and_promises_nothing():
    headline = headline_of([])
    best = max((row for row in rows() if row["status"] == "ok" and not row.get("reference")), key=lambda r: r["MR_cv"])
    assert headline.title.startswith("Best of ") and f"on MR: {best['name']}" in headline.title
    assert "No test says" in headline.detail
    assert headline_of([], [{"name": "a", "status": "failed"}]).title == "No encoder is scored yet"


def test_page_names_every_encoder_and_shows_statistics(page):
    for row in rows():
        if row["name"] != NASTY:
            assert f">{row['name']}</th>" in page
    reasons = ("loss is nan at step 7", "no &lt;memory&gt;")
    for text in (*reasons, "Rank correlation is 0.9.", "Best of each family", "71.2"):
        assert text in page
    assert "Diverged and not drawn: gone." in page and "Failed and not drawn: broken." in page
    assert "The same for all:" in page


def test_nasty_text_is_escaped(page):
    assert page.count("<script>") == 1 and "alert('x')" not in page.replace("alert(&#39;x&#39;)", "")
    assert "x&lt;script&gt;alert(" in page
    links = set(re.findall(r"https?://[^/\"'< ]*", page))
    assert links == {"https://arxiv.org", "http://www.w3.org"}  # the papers; names of XML's vocabularies


def test_same_files_give_the_same_bytes(study, page, tmp_path):
    folder = shutil.copytree(study, tmp_path / study.name)
    shutil.rmtree(folder / "figures")
    assert write_study_page(folder).read_text(encoding="utf-8") == page
    for path in (study / "figures").iterdir():
        assert path.read_bytes() == (folder / "figures" / path.name).read_bytes(), path.name


# ---- in a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MEASURED = """() => ({
  images: [...document.images].map(i => i.complete && i.naturalWidth > 0),
  drawings: [...document.querySelectorAll('.paper svg')]
    .map(s => s.getBoundingClientRect()).map(b => b.width * b.height),
  rasters: [...document.querySelectorAll('svg image')].map(i => i.getBBox().width),
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""
FIRST = "() => [...document.querySelectorAll('#encoders tbody th')].map(cell => cell.textContent)"


@pytest.mark.slow
def test_browser_shows_the_page_without_network_and_without_complaint(study, page, tmp_path):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    complaints: list[str] = []
    with sync.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        context = chromium.new_context(offline=True, viewport={"width": 1200, "height": 900})
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:100]}"))
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        tab.goto((study / "study.html").as_uri())
        for width in (1200, 600, 360):
            tab.set_viewport_size({"width": width, "height": 900})
            layout = tab.evaluate(MEASURED)
            assert layout["wide"] <= 0, f"the page scrolls sideways at {width} px"
            assert all(layout["images"]) and len(layout["drawings"]) >= 10 and min(layout["drawings"]) > 1000
            assert layout["rasters"] and min(layout["rasters"]) > 0
        assert tab.title() == f"A toy study {NASTY}"
        assert tab.locator("svg a title").count() >= 20
        before = tab.evaluate(FIRST)
        tab.locator("#encoders th button", has_text="MR CV").click()
        best_first = tab.evaluate(FIRST)
        tab.locator("#encoders th button", has_text="MR CV").click()
        worst_first = tab.evaluate(FIRST)
        chromium.close()
    assert complaints == [] and set(asked) <= {"file", "data"}
    assert best_first[0] == "contrastive-0.1" and worst_first[0] == "align-0.9"
    assert sorted(best_first) == sorted(worst_first) == sorted(before)
    assert best_first[-2:] == worst_first[-2:] == ["gone", "broken"]  # what is not there is last both ways
