"""The page shows the run's numbers, says what is missing or worse, and cannot load or run anything."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from sentemb.errors import InputError
from sentemb.report import comparison, figures, write_report
from sentemb.report import page as report
from sentemb.runs import read_run

SCRIPT = "<script>alert('x')</script>"
CONFIG: dict[str, Any] = {
    "settings": {"encoder": "static:dimension=512", "--objective": "infonce:temperature=0.05", "out": f"runs/{SCRIPT}"},
    "command": f"train --out {SCRIPT}",
    "versions": {"torch": "2.13.0"},
    "corpus": {"name": f"Tales & {SCRIPT}", "fingerprint": "3fa94c", "sentences": 75340},
    "encoder": {"dimension": 512, "parameters": 15, "trainable": 9},
    "world_size": 1,
}


def record(step: int, **more: Any) -> dict[str, Any]:
    loss = 4.5 + 1.7 * math.exp(-step / 100)
    references = {
        "loss_reference": math.log(512),
        "mutual_information": math.log(512) - loss,
        "uniformity_optimum": -3.984,
    }
    heldout = {
        "heldout_alignment": step / 300,
        "heldout_uniformity": -1 - step / 150,
        "retrieval_mrr": 0.03 + step / 2000,
    }
    return {"step": step, "loss": loss, "uniformity_used": 0.87, "pairs_seen": step * 512} | references | heldout | more


def row(encoder: str, mr: float, cr: float, mrr: float, alignment: float = 0.5) -> dict[str, Any]:
    tasks = {
        name: {"acc": acc, "n": 10527, "protocol": "10-fold"} for name, acc in (("MR-sample", mr), ("CR-sample", cr))
    }
    geometry = {
        "alignment": alignment,
        "uniformity": -3.0,
        "uniformity_optimum": -3.984,
        "pairs": 2000,
        "source": "held",
    }
    return {"encoder": encoder, "dimension": 512, "tasks": tasks, "geometry": geometry, "retrieval_mrr": mrr}


def difference(measure: str, encoder: str, against: str, value: float, low: float, high: float) -> dict[str, Any]:
    verdict = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
    drawn = {"n": 1000, "items": "pairs", "units": 104, "drawn": "documents", "resamples": 2000, "level": 0.95}
    compared = {"measure": measure, "encoder": encoder, "against": against, "difference": value}
    return compared | {"low": low, "high": high, "verdict": verdict} | drawn


BOTH = ("trained", "averaged")
DIFFERENCES = [
    difference("MR-sample", "trained", "minilm", 4.7, 3.5, 5.9),
    difference("CR-sample", "trained", "minilm", 1.4, -0.2, 3.0),
    difference("retrieval_mrr", "trained", "minilm", 0.176, 0.15, 0.20),
    difference("MR-sample", "trained", "averaged", 1.9, 0.5, 3.3),
    difference("CR-sample", "trained", "averaged", -2.5, -4.0, -1.0),
    difference("retrieval_mrr", "trained", "averaged", 0.062, 0.04, 0.08),
    difference("CR-sample", "minilm", "averaged", -3.9, -5.5, -2.0),
]


def scores() -> dict[str, Any]:
    histogram = {"edges": [-1, -0.5, 0, 0.5, 1], "positives": [0, 1, 2, 7], "negatives": [0, 5, 4, 1]}
    neighbours = {
        "minilm": [["She left.", 0.71, False], ["Nobody.", 0.7, False]],
        "trained": [["She laughed & left.", 0.614, True]],
    }
    example = {"sentence": f"He {SCRIPT} laughed.", "positive": "She laughed & left.", "neighbours": neighbours}
    return {
        "rows": [
            row("minilm", 68.2, 74.9, 0.036) | {"role": "initial"},
            row("trained", 72.9, 76.3, 0.212),
            row("averaged", 71.0, 78.8, 0.15),
        ],
        "differences": DIFFERENCES,
        "histograms": {"minilm": histogram, "trained": histogram},
        "examples": {"candidates": 987, "sentences": [example | {"ranks": {"minilm": 12, "trained": 1}}]},
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    fill(tmp_path, [json.dumps(record(step)) for step in range(0, 301, 10)], scores())
    return tmp_path


def fill(run: Path, lines: list[str], scored: object = None, config: object = CONFIG) -> None:
    (run / "config.json").write_text(json.dumps(config))
    (run / "log.jsonl").write_text("\n".join(lines))
    if scored is not None:
        (run / "scores.json").write_text(json.dumps(scored))


def page(run: Path) -> str:
    return write_report(run).read_text("utf-8")


def test_the_page_shows_names_numbers_and_four_figures(run):
    text = page(run)
    assert text.count("<svg ") == 4 and "Not drawn" not in text
    for shown in ("static:dimension=512", "infonce:temperature=0.05", "Tales &amp; ", "2.13.0", "75340", "n = 10,527"):
        assert shown in text
    for label in (
        "loss (nats)",
        "uniformity loss (nats)",
        "cosine similarity",
        "training step",
        "lowest uniformity in 512",
    ):
        assert label in text
    order = ["<h1>", ">Summary<", "id='path'", "id='histogram'", "id='neighbours'", "id='scores'", "id='training'"]
    order += ["id='loss'", "id='retrieval'", "id='settings'"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_the_summary_says_what_is_better_worse_and_not_to_be_told(run):
    text = page(run)
    assert (
        "Against minilm, the trained encoder is better in MR-sample accuracy (72.9, was 68.2) and MRR (0.212, was "
        "0.036). No difference beyond chance in CR-sample accuracy."
    ) in text
    assert "Against averaged, the trained encoder is better in MR-sample accuracy (72.9 against 71.0)" in text
    assert "worse in CR-sample accuracy (76.3 against 78.8)." in text
    assert "embeddings use 87% of the uniformity" in text


def test_before_and_after_stand_in_a_table_with_their_interval(run):
    text = page(run)
    assert "<td>68.2</td><td>72.9</td><td>+4.70</td><td>+3.50 to +5.90</td><td><strong>better</strong></td>" in text
    assert "<td>74.9</td><td>76.3</td><td>+1.40</td><td>-0.20 to +3.00</td><td>cannot tell</td>" in text
    assert "1,000 pairs of 104 documents, which were drawn whole" in text and "2,000 draws" in text
    assert "before: minilm" in text and "untrained" not in text


def test_a_comparison_is_read_from_either_side(run):
    parsed = read_run(run)
    forth, back = (comparison.difference_of(parsed, "CR-sample", *pair) for pair in (BOTH, BOTH[::-1]))
    assert (forth.low, forth.high, forth.verdict) == (-4.0, -1.0, "worse")
    assert (back.low, back.high, back.verdict) == (1.0, 4.0, "better")


def test_only_what_is_better_than_every_other_row_beyond_chance_is_bold(run):
    bold = re.findall(r"<td><strong>([^<]*)</strong>", page(run))
    # CR: averaged is better than both; MR, MRR: trained. Not alignment and uniformity, nor the mean without intervals.
    assert sorted(bold) == sorted(["better", "better", "72.9", "0.212", "78.8"])


def test_scores_of_an_earlier_version_have_no_intervals_and_nothing_bold(run):
    rows = [row("untrained", 68.2, 74.9, 0.036), row("trained", 72.9, 76.3, 0.212)]
    histograms = {"untrained": scores()["histograms"]["minilm"], "trained": scores()["histograms"]["trained"]}
    fill(run, [json.dumps(record(0))], {"rows": rows, "histograms": histograms})
    text = page(run)
    assert "no intervals for trained against untrained" in text and "<strong>" not in text
    assert "before: untrained" in text and "72.9" in text  # both histograms, and the numbers


def test_neighbours_stand_side_by_side_and_the_true_one_is_marked(run):
    text = page(run)
    assert "<small>0.71</small> She left.</li>" in text and "is number 12</small>" in text and "987" in text
    assert text.count("<mark>") == 1 and "<mark>She laughed &amp; left.</mark>" in text
    heads = "<th scope='col'>sentence</th><th scope='col'>before: minilm</th><th scope='col'>after: trained</th>"
    assert heads in text


def drawn(figures_function: Any, folder: Path, lines: list[dict[str, Any]]) -> Any:
    fill(folder, [json.dumps(line) for line in lines], config={})
    return figures_function(read_run(folder)).axes


def test_long_sentences_are_cut_and_settings_without_a_value_left_out(tmp_path):
    long = "word " * 200 + "end"
    example = {"sentence": long, "positive": long, "neighbours": {"trained": [[long, 0.5, True]]}}
    scored = scores() | {"examples": {"candidates": 9, "sentences": [example]}}
    fill(tmp_path, [json.dumps(record(0))], scored, CONFIG | {"settings": {"lr": 0.5, "guide": None}})
    page = write_report(tmp_path).read_text("utf-8")
    assert page.count("word " * 46 + "word…") == 3 and "word end" not in page
    assert ">lr<" in page and ">guide<" not in page


def test_axes_do_not_zoom_into_noise(tmp_path):
    noise = [
        {"step": s, "loss": -2 + 0.001 * (s % 2), "lr": 1e-3, "retrieval_mrr": 0.02 + 0.001 * (s % 2)}
        | {
            "stsb_dev_spearman": 80 + 0.1 * (s % 2),
            "heldout_alignment": 1.0 + 1e-3 * s,
            "heldout_uniformity": -2 - 1e-3 * s,
        }
        for s in range(6)
    ]
    spans = {
        figures.retrieval_figure: figures.LEAST_RETRIEVAL,
        figures.dev_figure: figures.LEAST_SPEARMAN,
        figures.loss_figure: 2 * figures.LEAST_LOSS,
        figures.path_figure: figures.LEAST_ALIGNMENT,
    }
    for figure, least in spans.items():
        axes = drawn(figure, tmp_path, noise)[0]
        assert np.ptp(axes.get_ylim()) == pytest.approx(least, rel=1e-3), figure.__name__
    assert np.ptp(axes.get_xlim()) == pytest.approx(figures.LEAST_UNIFORMITY)
    far = [line | {"retrieval_mrr": 0.1 * line["step"]} for line in noise]
    assert drawn(figures.retrieval_figure, tmp_path, far)[0].get_ylim()[1] >= 0.5


def test_the_learning_rate_has_a_panel_from_zero(tmp_path):
    lines = [{"step": s, "loss": 2.0, "lr": 1e-3 * s} for s in range(4)]
    _, rate = drawn(figures.loss_figure, tmp_path, lines)
    assert rate.get_ylabel() == "learning rate" and rate.get_ylim()[0] == 0
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [0, 1e-3, 2e-3, 3e-3])
    _, rate = drawn(figures.loss_figure, tmp_path, [line | {"lr": 1e-3} for line in lines])  # a constant one
    assert rate.get_ylim()[0] == 0 and rate.get_ylim()[1] > 1e-3


@pytest.mark.parametrize(
    ("dev", "title", "highest"),
    [
        ("stsb", "Dev score over training: STS-B dev, Spearman x 100", "highest, 82.0 at step 2: best/"),
        (None, "Dev score over training: STS-B dev, Spearman x 100", "highest, 82.0 at step 2: best/"),
        ("<near_$x$ & far>", "Dev score over training: near_$x$ &amp; far", "highest, 0.500 at step 3: best/"),
        ("heldout", None, "highest, 0.032 at step 4: best/"),
    ],
)
def test_the_score_that_chooses_the_best_is_drawn_and_named(dev, title, highest, run):
    assert "id='dev'" not in page(run)
    values = [0.1, 0.2, 0.3, 0.5, 0.5]
    lines = [json.dumps(record(s) | {"stsb_dev_spearman": 80 + s % 3, "near_$x$ & far": values[s]}) for s in range(5)]
    for select in ("last", "best"):
        config = CONFIG | {"settings": {"select": select} | ({"dev": dev} if dev else {})}
        fill(run, lines, scores(), config)
        text = page(run)
        assert text.count("best/</") == 1 and f"{highest}</" in text  # one ring in all figures
        assert ("id='dev'" in text) is (title is not None) and (title is None or f"<h2>{title}</h2>" in text)
        assert ("--select best" in text) is (select == "best" and title is not None)


def test_stsb_that_chooses_nothing_gets_no_figure_of_a_dev_score(run):
    lines = [json.dumps(record(s) | {"stsb_dev_spearman": 80 + s % 3}) for s in range(5)]
    fill(run, lines, scores(), CONFIG | {"settings": {"dev": "heldout"}})
    assert "STS-B dev" not in page(run)


def test_a_row_that_misses_a_task_gets_no_mean(run):
    scored = {"rows": scores()["rows"]}
    del scored["rows"][2]["tasks"]["CR-sample"]
    fill(run, [json.dumps(record(0))], scored)
    assert "<td>71.0</td><td>–</td><td>–</td>" in page(run)


def test_corpus_and_settings_are_text_never_markup(run):
    text = page(run)
    assert "<script" not in text.lower() and text.count("&lt;script&gt;") >= 5  # title, h1, setting, command, example
    fill(
        run,
        [],
        {
            "rows": [row(SCRIPT, 1, 2, 0.1)],
            "examples": {"sentences": [{"sentence": {"a": SCRIPT}, "neighbours": {SCRIPT: [[SCRIPT, SCRIPT, True]]}}]},
        },
        {SCRIPT: {SCRIPT: SCRIPT}},
    )
    assert "<script" not in page(run).lower()


@pytest.mark.parametrize("records", [31, 3000])
def test_the_page_loads_nothing(run, records):
    fill(run, [json.dumps(record(step)) for step in range(records)], scores())
    text = page(run)
    assert text.count("data:image/png;base64,") == (0 if records < 2000 else 3)  # long lines are drawn as pixels
    for reference in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text):
        assert reference.startswith(("#", "data:image/png;base64,")) or reference == "https://arxiv.org/abs/2005.10242"
    assert "@import" not in text and "<link" not in text and "default-src 'none'" in text


ALONE = """import runpy, sys, types
package = types.ModuleType("sentemb")  # the module without the package's other imports: torch takes seconds
package.__path__ = [sys.argv.pop(1)]
sys.modules["sentemb"] = package
runpy.run_module("sentemb.report", run_name="__main__", alter_sys=True)
"""


def test_pairs_of_few_documents_say_of_how_many(run):
    content = scores()
    for entry in content["differences"]:
        if entry["measure"] == "retrieval_mrr":
            entry |= {"drawn": "pairs", "units": 1000, "documents": 1}
    (run / "scores.json").write_text(json.dumps(content))
    assert "1,000 pairs of 1 document, each drawn by itself" in page(run)


def test_same_inputs_same_bytes_in_another_process(run):
    first = write_report(run).read_bytes()
    (run / "report.html").unlink()
    command = [sys.executable, "-c", ALONE, str(Path(report.__file__).parents[1]), str(run)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, stdout=subprocess.DEVNULL)
    assert (run / "report.html").read_bytes() == first
    assert sorted(p.name for p in run.iterdir()) == ["config.json", "log.jsonl", "report.html", "scores.json"]


def test_ids_of_the_figures_do_not_meet(run):
    ids = re.findall(r"""\bid=["']([^"']+)["']""", page(run))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page(run))) | set(re.findall(r"url\(#([^)]+)\)", page(run))) <= set(ids)


def test_a_line_cut_short_is_left_out_and_a_repeated_step_counts_once(run):
    lines = [json.dumps(record(0)), "not json", json.dumps(record(10, loss=9.0)), json.dumps(record(10, loss=4.321))]
    fill(run, [*lines, '{"step": 20, "loss": 4.'])
    text = page(run)
    assert "4.321" in text and "1 line of log.jsonl could not be read" in text
    assert "<dt>steps</dt><dd>10</dd>" in text


def test_held_out_scores_on_a_line_of_their_own_are_kept(tmp_path):
    fill(
        tmp_path,
        [json.dumps(r) for s in (0, 10) for r in ({"step": s, "retrieval_mrr": 0.1}, {"step": s, "loss": 2.0})],
    )
    assert page(tmp_path).count("<svg ") == 2


def test_numbers_that_are_none_are_said_not_drawn(run):
    bad = [record(10, loss=math.nan), record(20, loss=None), record(30, loss=math.inf, heldout_uniformity="x")]
    fill(run, [json.dumps(r) for r in [record(0), *bad, record(40)]], scores())
    text = page(run)
    assert "not finite in 3 of 5 records, first at step 10" in text and text.count("<svg ") == 4


@pytest.mark.parametrize("lines", [[], [json.dumps(record(0))], [json.dumps({"step": 0})], ["[]", "null", "3"]])
def test_a_run_just_begun_has_a_page(tmp_path, lines):
    fill(tmp_path, lines, config={})
    text = page(tmp_path)
    assert "has not been scored yet" in text and "so there are no curves" in text and text.count("Not drawn") == 4


def test_without_held_out_scores_the_path_is_that_of_batches(tmp_path):
    fill(tmp_path, [json.dumps({"step": s, "alignment": 0.1 * s, "uniformity": -0.2 * s}) for s in range(5)])
    assert "training batches" in page(tmp_path)


@pytest.mark.parametrize(
    "scored",
    [
        [],
        {"rows": "many", "histograms": [], "examples": 3},
        {
            "rows": [{}, None, {"encoder": 3, "tasks": [], "geometry": None}],
            "histograms": {"trained": {"edges": [0, 1]}},
        },
        {"rows": [{"encoder": "trained", "tasks": {"MR": {"acc": None, "n": 0}, "CR": 5}}, {"encoder": "$x^$"}]},
        {
            "histograms": {"trained": {"edges": [0, 1, 1], "positives": [1, 1], "negatives": [1, 1]}},
            "examples": {"sentences": [3, {"neighbours": {"a": [1, [2]]}}, {"neighbours": []}]},
        },
        {
            "rows": [{"encoder": "trained"}, {"encoder": 3, "role": "initial"}, {"encoder": "a", "role": "initial"}],
            "differences": [3, {}, {"encoder": "trained", "against": "a", "measure": "retrieval_mrr", "low": "x"}],
        },
        {"histograms": {"trained": {"edges": [0, 1, None], "positives": [1, "a"], "negatives": [0, 0]}}},
    ],
)
def test_odd_scores_give_a_page(run, scored):
    fill(run, [], scored)
    assert "<h2>Summary</h2>" in page(run)


def test_scores_cut_short_and_lone_surrogates_give_a_page(run):
    fill(run, [])
    (run / "scores.json").write_text('{"rows": [')
    (run / "config.json").write_text('{"corpus": {"name": "\\ud800"}, "command": ["a", "b"]}')
    assert "holds no rows that can be read" in page(run)


@pytest.mark.parametrize("missing", ["config.json", "log.jsonl"])
def test_a_folder_that_is_no_run_is_an_input_error(run, missing, capsys):
    (run / missing).unlink()
    with pytest.raises(InputError, match=re.escape(missing)):
        write_report(run)
    assert report.main([str(run)]) == 2
    error = capsys.readouterr().err
    assert missing in error and error.count("\n") == 1 and not (run / "report.html").exists()


def test_config_that_is_no_object_is_an_input_error(run):
    (run / "config.json").write_text("[1]")
    with pytest.raises(InputError, match="not a JSON object"):
        write_report(run)


def test_a_page_that_cannot_be_written_leaves_nothing_behind(run):
    (run / "report.html").mkdir()
    fill(run, [])
    with pytest.raises(InputError, match="cannot write"):
        write_report(run)
    assert not list(run.glob(".report*"))


def test_command_line(run, capsys):
    (run / "log.jsonl").write_text("")
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    with pytest.raises(SystemExit) as stopped:
        report.main(["--help"])
    assert stopped.value.code == 0 and "config.json" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH")
def test_a_browser_draws_the_page(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    offline = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    quiet = "--disable-component-update --disable-sync --hide-scrollbars --window-size=1200,1600"
    places = [
        f"--user-data-dir={folder / 'profile'}",
        f"--screenshot={folder / 'page.png'}",
        write_report(run).as_uri(),
    ]
    subprocess.run(["chromium", *offline.split(), *quiet.split(), *places], check=True, timeout=60, capture_output=True)
    pixels = np.asarray(imread(folder / "page.png"))[:, :, :3]
    assert pixels.shape[:2] == (1600, 1200)
    for color in ((0, 114, 178), (213, 94, 0)):  # positive pairs and the optimum of uniformity
        assert np.all(np.abs(pixels * 255 - color) < 3, axis=2).sum() > 100


LAYOUT = """() => ({
  page: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  boxes: [...document.querySelectorAll('.wide')].map(box => {
    box.scrollLeft = box.scrollWidth;
    const cells = [...box.querySelectorAll('tr > :last-child')].map(cell => cell.getBoundingClientRect());
    const edge = box.getBoundingClientRect().right + 1;
    return {reached: cells.every(cell => cell.right <= edge), tallest: Math.max(...cells.map(cell => cell.height))};
  }),
})"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH")
def test_the_last_columns_of_wide_tables_can_be_reached(run):
    """The page itself does not scroll sideways; a table does within its box, with rows of a few lines."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    scores = json.loads((run / "scores.json").read_text())
    for each in scores["rows"]:
        each["search"] = {"task": "novels", "scores": {"nDCG@10": 0.4, "MRR@10": 0.3, "recall@100": 0.9}}
        each["teacher_similarity"], each["cost"] = 0.9, {"sentences_per_second": 12345, "megabytes": 90.9}
    (run / "scores.json").write_text(json.dumps(scores))
    with sync.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = chromium.new_context(offline=True).new_page()
        tab.goto(write_report(run).as_uri())
        for width in (1100, 360):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            layout = tab.evaluate(LAYOUT)
            assert layout["page"] <= 0 and len(layout["boxes"]) == 2, width
            assert all(box["reached"] and box["tallest"] < 200 for box in layout["boxes"]), (width, layout)
        chromium.close()


def test_a_users_queries_are_on_the_page_as_text(run):
    queries = [{"query": SCRIPT, "nearest": {"minilm": [[0.71, "A night."]], "trained": [[0.66, SCRIPT], "broken"]}}]
    (run / "search.json").write_text(json.dumps({"corpus": "Novels", "sentences": 550_000, "queries": queries}))
    text = page(run)
    assert "id='queries'" in text and "nearest of 550,000 sentences of Novels" in text
    assert "before: minilm" in text and "after: trained" in text and "<small>0.71</small> A night." in text
    assert SCRIPT not in text
    for broken in ("", "[1]", '{"queries": 3}', '{"queries": [{"nearest": 5}]}'):
        (run / "search.json").write_text(broken)
        assert "id='queries'" not in page(run)


def test_the_path_on_stsb_is_drawn_where_it_was_scored(tmp_path):
    lines = [json.dumps(record(step) | {"stsb_alignment": 0.2, "stsb_uniformity": -step / 100}) for step in range(4)]
    fill(tmp_path, lines, config={"settings": {"init": "minilm", "encoder": None, "objective": "infonce"}})
    text = page(tmp_path)
    assert "STS-B dev" in text and "id='stsb'" in text and "begun from minilm" in text
