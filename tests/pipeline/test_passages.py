"""Training on pairs of passages, from text to model: what is printed, what is refused, what preset dpr trains."""

import json

import numpy as np
import pytest

import sentemb
from sentemb.encoders import towers_of
from sentemb.errors import InputError
from tests.helpers import STATIC, steady
from tests.pairs.test_passages import DOCUMENTS, write_table

LITTLE = {"batch_size": 8, "max_steps": 4, "warmup": 1, "lr": 1e-2, "eval_every": 2, "log_every": 1, "save_every": 2}


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """A corpus of ten documents of four titled sections."""
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)
    return f"table:path={write_table(tmp_path)},title=title,document=document,split_sentences=true"


@pytest.mark.parametrize("kind", ["inverse_cloze", "crops", "title"])
def test_a_run_says_how_long_its_passages_are_and_resumes(kind, spec, capsys):
    pairs = f"passages:kind={kind}"
    run = sentemb.train(spec, encoder=STATIC, pairs=pairs, max_length=60, out="a", **LITTLE)
    printed = capsys.readouterr().out
    assert "note: passages of " in printed and "a text holds 60 tokens, which --max-length sets" in printed
    assert np.isfinite(run.model.encode(["the cat"])).all() and run.complete
    short = sentemb.train(spec, encoder=STATIC, pairs=pairs, max_length=60, out="b", **LITTLE | {"max_steps": 2})
    resumed = sentemb.train(out="b", resume=True, max_steps=4)
    assert short.step == 2 and resumed.step == 4
    losses = [[record.get("loss") for record in steady(each.folder)] for each in (run, resumed)]
    assert [len(each) for each in losses] == [5, 5] and losses[0][:1] == losses[1][:1]


def test_what_does_not_fit_is_one_sentence(spec, tmp_path, tiny, encoder):
    encoder(STATIC, 40).save(str(tmp_path / "start"), create_model_card=False)
    plain = [[text + "." for text in row["text"].split(". ")] for row in DOCUMENTS]
    for corpus, more, message in (
        (plain, {"pairs": "passages:kind=title"}, "pairs of titles need a corpus with titles, and this one has none"),
        (spec, {"objective": "distill", "teacher": tiny}, "a teacher works on single sentences, and --pairs passages"),
        (spec, {"guide": tiny}, "a guide works on single sentences"),
        (
            spec,
            {"objective": "anchor + infonce", "init": str(tmp_path / "start")},
            "a teacher works on single sentences",
        ),
        (spec, {"objective": "memory_bank"}, "objective memory_bank works on single sentences"),
    ):
        settings = {"pairs": "passages"} | ({} if "init" in more else {"encoder": STATIC}) | more
        with pytest.raises(InputError, match=message):
            sentemb.train(corpus, out="refused", **settings, **LITTLE)
        assert not (tmp_path / "refused").exists()


def test_preset_dpr_trains_two_towers_by_inner_products(spec, recipe, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    little = ["--max-length", "60", "--batch-size", "8", "--max-steps", "3", "--no-score", "--log-every", "1"]
    encoder = f"transformer:name={tiny},pooling=cls"
    recipe(["--corpus", spec, "--preset", "dpr", "--encoder", encoder, *little, "--out", "dpr"])
    model = sentemb.load(tmp_path / "dpr")
    assert len(towers_of(model)) == 2 and {tower.similarity_fn_name for tower in towers_of(model)} == {"dot"}
    settings = json.loads((tmp_path / "dpr" / "config.json").read_text())["settings"]
    assert settings["pairs"] == "passages:kind=title" and settings["objective"] == "infonce:score=dot,temperature=1"
