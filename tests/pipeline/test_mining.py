"""Training with mined hard negatives: from Python and on the command line, refreshed, resumed, and refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import sentemb
from recipes import train_bookcorpus
from sentemb.errors import InputError
from sentemb.mining import RefreshedNegatives
from sentemb.training.step import batch_encoder
from tests.helpers import DOCUMENTS, LITTLE, STATIC, torchrun

SPEC = "mined:by=MODEL,per_anchor=3,pool=40,skip=2,margin=none"
SENTENCES = ["the cat", "a nurse sees", "number 4"]


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def miner(tiny, tmp_path) -> str:
    """The folder of a model that a test may change."""
    shutil.copytree(tiny, tmp_path / "miner")
    return str(tmp_path / "miner")


def train(negatives: str, **more):
    return sentemb.train(DOCUMENTS, **{"encoder": STATIC, "negatives": negatives, **LITTLE, **more})


def config(run):
    return json.loads((run.folder / "config.json").read_text())


@pytest.fixture
def batches(monkeypatch):
    """The batches that are encoded."""
    seen = []
    plain = batch_encoder.BatchEncoder.columns

    def columns(self, batch, *arguments, **options):
        seen.append(batch)
        return plain(self, batch, *arguments, **options)

    monkeypatch.setattr(batch_encoder.BatchEncoder, "columns", columns)
    return seen


def test_mined_negatives_are_columns_of_each_batch(miner, batches):
    run = train(SPEC.replace("MODEL", "./miner"), out="run")
    assert [len(batch.columns) for batch in batches] == [5] * 4 and batches[0].ids.shape == (8, 5)
    for batch in batches:
        ids = batch.ids.numpy()
        assert not (ids[:, 2:, None] == ids[:, None, :2]).any()
    stored = config(run)
    assert stored["settings"]["negatives"] == SPEC.replace("MODEL", miner)  # from any folder
    assert stored["negatives"].items() >= {"by": miner, "pool": 40, "missing": 0}.items()
    assert "31 in-batch negatives" in stored["description"]  # 7 others, and 3 of each of 8


def test_they_go_to_every_objective_that_takes_them(miner, batches):
    losses = {}
    for objective in ("infonce", "hard_negatives", "dpr", "infonce + vicreg*0.1"):
        run = train(SPEC.replace("MODEL", miner), objective=objective)
        losses[objective] = run.log["loss"].to_numpy()
    plain = train("none").log["loss"].to_numpy()
    assert (losses["infonce"] > plain).all() and losses["infonce"] == pytest.approx(losses["hard_negatives"])


@pytest.mark.parametrize("pairs", ["dropout", "augment", "neighbours:window=2,both=true"])
def test_other_pairs(pairs, miner):
    assert train(SPEC.replace("MODEL", miner), pairs=pairs, force=True).complete


def test_a_guide_sees_mined_negatives(miner, batches):
    run = train(SPEC.replace("MODEL", miner), guide=miner)
    assert run.complete and batches[0].guide.shape == (8, 5, 32)


def test_labelled_negatives_come_first(miner, nli, batches):
    spec = "mined:by=MODEL,per_anchor=2,pool=0,skip=1"
    run = sentemb.train(
        f"labelled:path={nli}", encoder=STATIC, pairs="labelled", negatives=spec.replace("MODEL", miner), **LITTLE
    )
    assert len(batches[0].columns) == 5 and run.complete


def test_a_run_in_parts_and_with_workers_is_that_in_one_go(miner):
    spec = SPEC.replace("MODEL", miner) + ",refresh=2"
    plain = train(spec).model.encode(SENTENCES)
    assert train(spec, micro_batch=3).model.encode(SENTENCES) == pytest.approx(plain, abs=1e-5)
    assert (train(spec, workers=2).model.encode(SENTENCES) == plain).all()


@pytest.mark.parametrize("spec", [SPEC, SPEC + ",refresh=3", "mined:by=self,per_anchor=2,pool=0,skip=1,refresh=2"])
@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_ends_as_one_in_one_go(spec, stop, miner, tmp_path):
    spec = spec.replace("MODEL", miner)
    straight = train(spec, out="straight", max_steps=7)
    train(spec, out="resumed", max_steps=7, schedule="linear", epochs=None)
    for folder in ("model", "last", "best", "report.html", "scores.json"):
        path = tmp_path / "resumed" / folder
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for step in range(stop + 1, 8):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / f"step-{step}", ignore_errors=True)
    shutil.rmtree(tmp_path / "cache")  # what a checkpoint needs is in it
    run = train(spec, out="resumed", max_steps=7, resume=True, keep=0)
    assert (run.model.encode(SENTENCES) == straight.model.encode(SENTENCES)).all()
    assert run.log["loss"].tolist() == straight.log["loss"].tolist()


def test_the_model_in_training_finds_them_when_it_is_due(monkeypatch, tmp_path):
    refreshed, plain = [], RefreshedNegatives.refresh

    def refresh(self, model, step, everyone):
        before = self.rows.clone()
        plain(self, model, step, everyone)
        refreshed.append((step, bool((self.rows != before).any())))

    monkeypatch.setattr(RefreshedNegatives, "refresh", refresh)
    spec = "mined:by=self,per_anchor=2,pool=0,skip=1,refresh=3"
    train(spec, max_steps=7, lr=0.3)
    assert [step for step, _ in refreshed] == [0, 3, 6] and all(changed for _, changed in refreshed)
    corpora = tmp_path / "cache"
    assert not [path for path in corpora.rglob("*") if path.name.startswith(("negatives-", "teacher-"))]
    refreshed.clear()
    train("mined:by=self,per_anchor=2,pool=0,skip=1", max_steps=7)
    assert [step for step, _ in refreshed] == [0]


def test_two_towers_search_each_side_by_its_own(batches):
    spec = "mined:by=self,per_anchor=2,pool=0,skip=1,refresh=2"
    run = train(spec, towers=2, objective="dpr", out="run")
    assert run.complete and len(batches[0].columns) == 4
    by = f"mined:by={run.folder / 'model'},per_anchor=2,pool=0,skip=1"
    assert train(by, objective="infonce").complete


def test_prompts_of_both_sides(batches):
    prompts = 'anchor="query: ",positive="passage: "'
    run = train("mined:by=self,per_anchor=2,pool=0,skip=1", prompts=prompts, out="run")
    assert train(f"mined:by={run.folder / 'model'},per_anchor=2,pool=0,skip=1").complete


def test_another_model_of_the_name_is_refused(miner):
    spec = SPEC.replace("MODEL", miner)
    train(spec, out="run", max_steps=2)
    path = Path(miner, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    with pytest.raises(InputError, match="hard negatives by another model of the name .*put the former model back"):
        train(spec, out="run", resume=True, max_steps=6)
    with pytest.raises(InputError, match="started with --negatives"):
        train("none", out="run", resume=True)


TWO = """
import sys
import numpy as np
import sentemb
from tests.pipeline.test_mining import DOCUMENTS, LITTLE, SENTENCES
options = LITTLE | {"batch_size": int(sys.argv[3]), "encoder": sys.argv[4]}
run = sentemb.train(DOCUMENTS, negatives=sys.argv[2], out=sys.argv[1], **options)
if run.is_main_process:
    np.save(sys.argv[1] + ".npy", run.model.encode(SENTENCES))
"""


@pytest.mark.slow
@pytest.mark.parametrize("spec", [SPEC + ",refresh=2", "mined:by=self,per_anchor=2,pool=0,skip=1,refresh=3"])
def test_two_processes_train_as_one(spec, miner, tmp_path, monkeypatch):
    script, root = tmp_path / "two.py", Path(__file__).parents[2]
    script.write_text(TWO)
    spec = spec.replace("MODEL", miner)
    environment = {"SENTEMB_TEST_DEVICE": "cpu", "PYTHONPATH": str(root), "SENTEMB_CACHE": str(tmp_path / "cache")}
    done = torchrun(str(script), str(tmp_path / "two"), spec, "4", STATIC, cwd=root, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one = train(spec, out="one").model.encode(SENTENCES)
    assert np.load(tmp_path / "two.npy") == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "mined"}, "negatives 'mined' needs by; write mined:by="),
        ({"negatives": "mind:by=minilm"}, "did you mean 'mined'"),
        ({"negatives": "mined:by=self,per_anchr=3"}, "did you mean 'per_anchor'"),
        ({"negatives": "mined:by=self,per_anchor=0"}, "per_anchor must be at least 1, got 0"),
        ({"negatives": "mined:by=self,margin=-1"}, r"margin must lie in \[0, 1\], or be none, got -1"),
        ({"negatives": "mined:by=self,margin=nan"}, r"margin must lie in \[0, 1\], or be none, got nan"),
        ({"negatives": "mined:by=self,margin=wide"}, "wide"),
        ({"negatives": "mined:by=bm25,margin=0.1"}, "by=bm25 has none; leave it out"),
        (
            {"negatives": "mined:by=self,pool=10"},
            "a pool of 10 is too small for per_anchor=4 and skip=10; give at least",
        ),
        ({"negatives": "mined:by=self,per_anchor=99"}, "pool for hard negatives has .* distinct sentences"),
        ({"negatives": "mined:by=no/such"}, "no model 'no/such' here or on the hub"),
        (
            {"negatives": "mined:by=self", "objective": "ntxent"},
            "objectives that take hard negatives, and this one does",
        ),
        ({"negatives": "mined:by=self", "pairs": "contiguous"}, "contiguous are runs of sentences; choose neighbours"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        train(**({"out": "run"} | options))
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*negatives-*"))


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    from sentemb.mining import by_words

    monkeypatch.setattr(by_words.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the library bm25s; pip install 'sentemb\[bm25\]'"):
        train("mined:by=bm25")


def test_negatives_by_words_train(batches):
    pytest.importorskip("bm25s", reason="bm25s is not installed (the extra bm25)")
    run = train("mined:by=bm25,per_anchor=2,pool=0,skip=1,refresh=2", out="run")
    assert run.complete and len(batches[0].columns) == 4


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("mined:by=./nowhere", "no model './nowhere' here or on the hub"),
        ("mined:by=MODEL,per_anchor=500", "distinct sentences of"),
        ("mined:by=MODEL,skip=x", "skip"),
    ],
)
def test_a_command_refuses_in_one_sentence(spec, error, miner, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), "--encoder", STATIC, "--out", "run"]
    with pytest.raises(SystemExit) as ended:
        train_bookcorpus.main([*start, "--negatives", spec.replace("MODEL", miner)])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and last.startswith("error: ") and error in last
    assert not (tmp_path / "run").exists()


def test_missing_negatives_are_told(miner, capsys):
    run = train("mined:by=MODEL,per_anchor=40,pool=0,skip=0,margin=0.001".replace("MODEL", miner), out="run")
    missing = config(run)["negatives"]["missing"]
    assert missing > 0 and "of the hard negatives are missing" in capsys.readouterr().out
    assert torch.isfinite(torch.tensor(run.log["loss"].to_numpy())).all()
