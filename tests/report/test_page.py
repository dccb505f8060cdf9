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
from sentemb.report import page as report
from sentemb.report import write_report

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


def scores() -> dict[str, Any]:
    histogram = {"edges": [-1, -0.5, 0, 0.5, 1], "positives": [0, 1, 2, 7], "negatives": [0, 5, 4, 1]}
    return {
        "rows": [
            row("untrained", 68.2, 74.9, 0.036),
            row("trained", 72.9, 76.3, 0.212),
            row("averaged", 71.0, 78.8, 0.15),
        ],
        "histograms": {"untrained": histogram, "trained": histogram},
        "examples": [[f"He {SCRIPT} laughed.", "She laughed & left.", 0.614]],
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
    order = ["<h1>", ">Summary<", ">Scores<", "id='loss'", "id='path'", "id='histogram'", "id='retrieval'", "<details>"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_the_summary_compares_trained_with_each_other_row(run):
    fill(run, [json.dumps(record(0))], {"rows": scores()["rows"]})
    text = page(run)
    assert "5.9 times that of untrained (MRR 0.212 against 0.036)" in text
    assert "Mean accuracy over the tasks is 74.6%, +3.0 points against untrained (71.6%)" in text
    assert "embeddings use 87% of the uniformity" in text


def test_what_did_not_pay_is_said(run):
    fill(run, [json.dumps(record(0))], {"rows": scores()["rows"]})
    assert "did not pay everywhere: trained is worse than averaged in CR-sample accuracy (76.3, not 78.8)" in page(run)
    rows = [row("untrained", 70, 80, 0.1, alignment=0.1), row("trained", 69, 81, 0.05, alignment=0.9)]
    fill(run, [json.dumps(record(0))], {"rows": rows})
    text = page(run)
    assert "worse than untrained in MR-sample accuracy (69.0, not 70.0), alignment loss (0.900, not 0.100)" in text
    assert "0.5 times that of untrained" in text and "read alignment together with uniformity" in text


def test_nothing_is_said_against_a_run_that_is_nowhere_worse(run):
    fill(run, [json.dumps(record(0))], {"rows": scores()["rows"][:2]})
    text = page(run)
    assert "On no measure in the table is trained worse" in text and "did not pay" not in text


def test_the_best_of_each_column_is_bold_and_only_that(run):
    fill(run, [], {"rows": scores()["rows"]})
    bold = re.findall(r"<strong>([^<]*)</strong>", page(run))
    assert {"72.9", "78.8", "74.9", "0.212"} <= set(bold)  # MR, CR, their mean, MRR
    assert bold.count("0.500") == bold.count("-3.000") == 3  # ties: alignment and uniformity
    assert len(bold) == 10


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
        {"rows": [row(SCRIPT, 1, 2, 0.1)], "examples": [[SCRIPT, {"a": SCRIPT}, SCRIPT]]},
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


def test_same_inputs_same_bytes_in_another_process(run):
    first = write_report(run).read_bytes()
    (run / "report.html").unlink()
    command = [sys.executable, "-c", ALONE, str(Path(report.__file__).parent), str(run)]
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
    assert "4.321" in text and "1 line(s) of log.jsonl could not be read" in text
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
            "examples": [[1, 2]],
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
    for color in ((0, 114, 178), (213, 94, 0)):  # the loss line and the optimum of uniformity
        assert np.all(np.abs(pixels * 255 - color) < 3, axis=2).sum() > 100


def test_the_path_on_stsb_is_drawn_where_it_was_scored(tmp_path):
    lines = [json.dumps(record(step) | {"stsb_alignment": 0.2, "stsb_uniformity": -step / 100}) for step in range(4)]
    fill(tmp_path, lines, config={"settings": {"init": "minilm", "encoder": None, "objective": "infonce"}})
    text = page(tmp_path)
    assert "STS-B dev" in text and "id='stsb'" in text and "begun from minilm" in text
