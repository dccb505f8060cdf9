"""--matryoshka and --truncate: what a run writes and prints of each prefix, and what it refuses."""

import json
import math
import re

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import sentemb
from eval import evaluate, senteval
from sentemb.encoders import load, towers_of
from sentemb.objectives import InfoNCE, Matryoshka
from sentemb.runs import parse_prefixes, prefixes_of, shorter_prefixes
from sentemb.validation import CachedEncoder
from tests.conftest import SENTENCES
from tests.devices import SINGLE
from tests.helpers import DOCUMENTS, LITTLE, STATIC, TINY, records, steady

TEXTS = [text for text in SENTENCES if text]
PREFIXES = ["--matryoshka", "8:0.5,4,12"]  # of twelve dimensions


@pytest.fixture
def run(recipe, book_file, folder, tmp_path, capsys):
    """A run with prefixes of 4 and 8 dimensions, scored on two little tasks; and what it printed."""
    options = [option for option in TINY if option != "--no-score"]
    tasks = ["--data", str(folder), "--tasks", "TINY,STS-B", "--eval-every", "2", "--save-every", "2"]
    recipe(["--corpus", str(book_file), *options, *PREFIXES, *tasks, "--out", "a"])
    return tmp_path / "a", capsys.readouterr().out


def test_log_table_page_and_card_have_each_prefix(run):
    folder, printed = run
    assert "also of prefixes (matryoshka 4, 8, 12)" in printed
    for record in records(folder):
        weighted = sum(w * record[f"loss_{size}d"] for size, w in ((4, 1), (8, 0.5), (12, 1))) / 2.5
        assert record["loss"] == pytest.approx(weighted, rel=SINGLE)
        assert {"alignment_4d", "uniformity_8d"} <= record.keys() and "alignment_12d" not in record
    last, config = records(folder)[-1], json.loads((folder / "config.json").read_text())
    assert config["prefixes"] == [4, 8] and config["settings"]["matryoshka"] == "8:0.5,4,12"

    scores = json.loads((folder / "scores.json").read_text())
    assert [row["encoder"] for row in scores["prefixes"]] == ["trained @4", "trained @8"]
    model = str(folder / "model")
    for row, size in zip(scores["prefixes"], (4, 8), strict=True):
        assert row["dimension"] == size and set(row["tasks"]) == {"TINY", "STS-B"} and "items" not in row
        assert row["encoded"] == 0 and row["reused"] > 0
        assert row["retrieval_mrr"] == pytest.approx(last[f"retrieval_mrr_{size}d"], abs=1e-6)
        assert last[f"heldout_alignment_{size}d"] == pytest.approx(row["geometry"]["alignment"], abs=1e-6)
        assert math.isfinite(last[f"stsb_dev_spearman_{size}d"])
        cut = SentenceTransformer(model, truncate_dim=size, device="cpu")
        np.testing.assert_allclose(cut.encode(TEXTS), load(model).encode(TEXTS)[:, :size], atol=SINGLE)
        lines = " ".join(line for line in printed.splitlines() if line.startswith(f"trained @{size} "))
        assert f"{row['retrieval_mrr']:.4f}" in lines and f"{row['tasks']['TINY']['acc']:.2f}" in lines
        assert re.search(rf"<th scope='row'>{size}</th>", (folder / "report.html").read_text())
    compared = [d for d in scores["differences"] if d["encoder"] == "trained @4"]
    assert {d["measure"] for d in compared} >= {"TINY", "STS-B", "retrieval_mrr"}
    assert all(d["against"] == "trained" for d in compared)
    difference = next(d["difference"] for d in compared if d["measure"] == "retrieval_mrr")
    full = scores["rows"][1]["retrieval_mrr"]
    assert difference == pytest.approx(scores["prefixes"][0]["retrieval_mrr"] - full, abs=1e-6)
    assert scores["prefixes"][0]["retrieval_mrr"] != scores["rows"][1]["retrieval_mrr"]
    card = (folder / "model" / "README.md").read_text()
    assert "the first 4 or 8 dimensions of an embedding are an embedding, too" in card
    assert "`SentenceTransformer(PATH, truncate_dim=4)`" in card and "By the dimensions that are left:" in card
    assert "the first 4 or 8" in (folder / "best" / "README.md").read_text() or not (folder / "best").is_dir()


def test_the_command_scores_what_is_left(run, folder, tmp_path, capsys):
    made, _ = run
    row = json.loads((made / "scores.json").read_text())["prefixes"][0]
    start = [str(made), "--data", str(folder), "--tasks", "TINY,STS-B", "--geometry-split", "none"]
    cache = ["--cache", str(tmp_path / "embeddings"), "--output", str(tmp_path / "a.json")]
    for size, encoded in ((None, True), (4, False), (4, False)):
        cut = [] if size is None else ["--truncate", str(size)]
        with pytest.raises(SystemExit) as end:
            senteval.main([*start, *cut, *cache])
        assert not end.value.code
        result = json.loads((tmp_path / "a.json").read_text())
        assert (result["encoded"] > 0) == encoded and result["dimension"] == (size or 12)
    assert result["tasks"]["TINY"]["acc"] == row["tasks"]["TINY"]["acc"]
    assert result["tasks"]["STS-B"]["spearman"] == pytest.approx(row["tasks"]["STS-B"]["spearman"])
    table = evaluate(str(made), "TINY,STS-B", folder, progress=False, truncate=4)
    assert table.loc["TINY", "score"] == row["tasks"]["TINY"]["acc"]
    capsys.readouterr()
    for size, message in (("13", "cut to 13 dimensions, as they have 12"), ("0", "--truncate must be at least 1")):
        with pytest.raises(SystemExit) as end:
            senteval.main([*start, "--truncate", size])
        assert end.value.code == 2 and message in capsys.readouterr().err
    with pytest.raises(sentemb.InputError, match="as they have 12; name 1 to 12"):
        evaluate(str(made), "TINY", folder, progress=False, truncate=40)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--matryoshka", "4,13"], "names a prefix of 13 dimensions, and the model's embeddings have 12"),
     (["--matryoshka", "12"], "12 is the whole embedding"),
     (["--matryoshka", "4,8,4"], "names 4 dimensions twice"),
     (["--matryoshka", "4,half"], "holds 'half', which is not a number of dimensions; write 64,128,256"),
     (["--matryoshka", "4:0"], "holds '4:0'; dimensions must be at least 1, and a weight a positive number"),
     (["--matryoshka", ""], "holds '', which is not a number"),
     (["--matryoshka", "4", "--head", "mlp"], "a head would mix their dimensions")],
)  # fmt: skip
def test_prefixes_that_cannot_be_cost_one_sentence(options, message, recipe, book_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        recipe(["--corpus", str(book_file), *TINY, *options, "--out", "a"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and message in error and "Traceback" not in error
    assert not (tmp_path / "a").exists()


def test_a_run_is_resumed_with_its_prefixes_only(recipe, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), *TINY, *PREFIXES, "--save-every", "2"]
    recipe([*start, "--out", "a"])
    recipe([*start, "--out", "b"])
    for lost in ("model", "report.html", "checkpoints/step-5", "checkpoints/step-4"):
        (tmp_path / "b" / lost).rename(tmp_path / lost.replace("/", "-"))
    recipe(["--out", "b", "--resume"])
    assert steady(tmp_path / "a") == steady(tmp_path / "b")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        recipe(["--out", "b", "--resume", "--matryoshka", "4"])
    assert "--matryoshka 8:0.5,4,12, not 4; leave --matryoshka out" in capsys.readouterr().err


def test_two_towers_are_cut_each(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    run = sentemb.train(DOCUMENTS, encoder=STATIC, towers=2, matryoshka="2,5", **LITTLE)
    assert list(run.scores.index) == ["random static", "trained", "trained @2"]
    f, g = towers_of(run.model)
    pairs = run.pairs
    x, y = f.encode(pairs.first)[:, :2], g.encode(pairs.second)[:, :2]
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    assert run.scores.loc["trained @2", "alignment"] == pytest.approx(np.square(x - y).sum(axis=1).mean(), abs=SINGLE)
    card = (run.folder / "model" / "README.md").read_text()
    assert "the first 2 dimensions of f and of g are an embedding" in card
    assert "model[0].f.encode(texts, truncate_dim=2)" in card
    assert CachedEncoder(run.model)(["a"]).shape == (1, 10)


def test_from_python_prefixes_are_a_setting_beside_any_objective(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    run = sentemb.train(DOCUMENTS, encoder=STATIC, objective=InfoNCE(0.1), matryoshka="2,3:0.5", **LITTLE)
    assert {"loss_2d", "loss_3d", "loss_5d"} <= set(run.log.columns)
    assert list(run.scores.index)[-2:] == ["trained @2", "trained @3"]
    with pytest.raises(sentemb.InputError, match="give the objective that it is of, and matryoshka='64,128'"):
        sentemb.train(DOCUMENTS, encoder=STATIC, objective=Matryoshka(InfoNCE(), [2]), **LITTLE)


def test_lengths_are_read_in_any_order_with_their_weights():
    assert parse_prefixes(" 256, 64:0.5 ,128: 2") == {64: 0.5, 128: 2.0, 256: 1.0}
    assert shorter_prefixes("64,128", 128) == [64] and shorter_prefixes(None, 128) == []
    assert prefixes_of({"prefixes": [4, "x", True, -1, 8]}) == [4, 8] and prefixes_of({"prefixes": 3}) == []
