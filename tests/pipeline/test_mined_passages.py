"""Training on pairs of passages with mined hard negatives: resumed, by two processes, and refused in a sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sentemb
from recipes import train_bookcorpus
from sentemb.errors import InputError
from tests.helpers import LITTLE, STATIC, torchrun
from tests.pairs.test_passages import write_table

BY_MODEL = "mined:by=MODEL,per_anchor=2,pool=20,skip=1,margin=none"
SPECS = [BY_MODEL, BY_MODEL + ",refresh=3", "mined:by=self,per_anchor=2,pool=0,skip=1,refresh=2"]
TEXTS = ["the cat", "a nurse sees", "number 4"]


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def corpus(tmp_path) -> str:
    """Ten documents of four titled sections."""
    return f"table:path={write_table(tmp_path)},title=title,document=document,split_sentences=true"


def train(corpus: str, negatives: str, **more):
    options = {"encoder": STATIC, "pairs": "passages", "max_length": 60, "negatives": negatives, **LITTLE, **more}
    return sentemb.train(corpus, **options)


@pytest.mark.parametrize("kind", ["inverse_cloze", "title"])
def test_hard_negatives_are_columns_that_raise_the_loss(kind, corpus, tiny):
    spec, pairs = BY_MODEL.replace("MODEL", tiny), f"passages:kind={kind}"
    run, plain = train(corpus, spec, pairs=pairs, out="run"), train(corpus, "none", pairs=pairs)
    assert (run.log["loss"].to_numpy() > plain.log["loss"].to_numpy()).all()
    stored = json.loads((run.folder / "config.json").read_text())
    assert stored["negatives"].items() >= {"by": tiny, "pool": 20}.items()
    assert "23 in-batch negatives" in stored["description"]  # 7 others, and 2 of each of 8
    assert train(corpus, spec, pairs=pairs, workers=2).log["loss"].tolist() == run.log["loss"].tolist()


def test_two_towers_with_prompts_search_each_side_by_its_own(corpus):
    spec = "mined:by=self,per_anchor=1,pool=0,skip=0,refresh=2"
    options = {"pairs": "passages:kind=title", "objective": "dpr", "prompts": 'anchor="a: ",positive="b: "'}
    assert train(corpus, spec, towers=2, **options).complete


@pytest.mark.parametrize("spec", SPECS)
def test_a_resumed_run_ends_as_one_in_one_go(spec, corpus, tiny, tmp_path):
    """Over two epochs: 33 pairs are four updates of 8."""
    spec = spec.replace("MODEL", tiny)
    straight = train(corpus, spec, out="straight", max_steps=7)
    train(corpus, spec, out="resumed", max_steps=7)
    for folder in ("model", "last", "best", "report.html", "scores.json"):
        path = tmp_path / "resumed" / folder
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for step in range(3, 8):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / f"step-{step}", ignore_errors=True)
    shutil.rmtree(tmp_path / "cache")  # what a checkpoint needs is in it
    run = train(corpus, spec, out="resumed", max_steps=7, resume=True, keep=0)
    assert (run.model.encode(TEXTS) == straight.model.encode(TEXTS)).all()
    assert run.log["loss"].tolist() == straight.log["loss"].tolist()


TWO = """
import sys
import numpy as np
from tests.pipeline.test_mined_passages import TEXTS, train
run = train(sys.argv[2], sys.argv[3], out=sys.argv[1], batch_size=4)
if run.is_main_process:
    np.save(sys.argv[1] + ".npy", run.model.encode(TEXTS))
"""


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS[1:])
def test_two_processes_train_as_one(spec, corpus, tiny, tmp_path):
    script, root = tmp_path / "two.py", Path(__file__).parents[2]
    script.write_text(TWO)
    spec = spec.replace("MODEL", tiny)
    environment = {"SENTEMB_TEST_DEVICE": "cpu", "PYTHONPATH": str(root), "SENTEMB_CACHE": str(tmp_path / "two-cache")}
    done = torchrun(str(script), str(tmp_path / "two"), corpus, spec, cwd=root, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one = train(corpus, spec, out="one").model.encode(TEXTS)
    assert np.load(tmp_path / "two.npy") == pytest.approx(one, abs=1e-5)


def test_negatives_by_words_train(corpus, capsys):
    pytest.importorskip("bm25s", reason="bm25s is not installed (the extra bm25)")
    assert train(corpus, "mined:by=bm25,per_anchor=12,pool=0,skip=10", pairs="passages:kind=title").complete
    assert "are missing: too few passages of the pool have a word in common" in capsys.readouterr().out


def test_missing_negatives_are_counted(corpus, tiny, capsys):
    run = train(corpus, f"mined:by={tiny},per_anchor=20,pool=0,skip=0,margin=0.01", out="run")
    missing = json.loads((run.folder / "config.json").read_text())["negatives"]["missing"]
    assert missing > 0 and "too few passages of the pool are far enough below" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pairs": "passages:kind=crops"},
            "kind=crops, which draws both .*choose kind=inverse_cloze or kind=title",
        ),
        ({"negatives": "mined:by=self,per_anchor=99"}, "has .* distinct passages of .* needs 111; give more text"),
        ({"negatives": "mined:by=no/such,skip=0"}, "no model 'no/such' here or on the hub"),
        ({"objective": "ntxent"}, "objectives that take hard negatives, and this one does not"),
        ({"guide": "MODEL"}, "a guide works on single sentences"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(options, message, corpus, tiny, tmp_path):
    options = {name: value.replace("MODEL", tiny) for name, value in options.items()}
    with pytest.raises(InputError, match=message):
        train(corpus, **{"negatives": "mined:by=self,per_anchor=1,skip=0", "out": "run"} | options)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*negatives-*"))


def test_a_command_refuses_in_one_sentence(book_file, tmp_path, capsys):
    negatives = "mined:by=self,per_anchor=99"
    start = ["--corpus", str(book_file), "--encoder", STATIC, "--out", "run", "--negatives", negatives]
    for pairs, error in (("passages:kind=crops", "kind=crops, which draws"), ("passages", "distinct passages of")):
        with pytest.raises(SystemExit) as ended:
            train_bookcorpus.main([*start, "--pairs", pairs])
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert ended.value.code == 2 and last.startswith("error: ") and error in last
    assert not (tmp_path / "run").exists()
