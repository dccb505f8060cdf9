"""The objective anchor: a finished model is trained and held near what it was; the start is its own teacher."""

import json
from pathlib import Path

import numpy as np
import pytest

import sentemb
from recipes import train_bookcorpus
from sentemb.encoders import two_towers
from sentemb.errors import InputError
from sentemb.objectives import Anchor, InfoNCE, WeightedSum
from tests.helpers import STATIC
from tests.pipeline.test_teacher import DOCUMENTS, LITTLE, config

ANCHORED = "infonce + anchor*50"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def start(encoder, tmp_path) -> str:
    """The folder of a finished model of two small layers."""
    encoder("transformer:name=TINY,dropout=0", max_length=40).save(str(tmp_path / "start"), create_model_card=False)
    return "start"


def train(start, objective=ANCHORED, **more):
    return sentemb.train(DOCUMENTS, init=start, objective=objective, **{**LITTLE, "lr": 2e-3, **more})


def test_an_anchor_keeps_the_model_nearer_to_its_start(start):
    free, held = train(start, "infonce", max_steps=20), train(start, max_steps=20, eval_every=10)
    log = held.log
    assert log["teacher_cosine"][0] == pytest.approx(1, abs=1e-3)  # (float16, and bfloat16 where the processor has it)
    assert log["loss_anchor"].dropna().iloc[0] == pytest.approx(0, abs=1e-3)
    texts = [sentence for document in DOCUMENTS for sentence in document]
    before = held.initial.encode(texts, normalize_embeddings=True)
    cosines = {
        name: float((before * run.model.encode(texts, normalize_embeddings=True)).sum(axis=1).mean())
        for name, run in (("free", free), ("held", held))
    }
    assert cosines["free"] < 0.98 < 0.99 < cosines["held"]
    assert log["teacher_cosine"][20] == pytest.approx(cosines["held"], abs=5e-3)
    about = config(held)
    assert about["teacher"]["is_start"] and about["teacher"]["sentences"] == 90
    assert about["settings"]["teacher"] is None and about["settings"]["init"] == str(Path("start").absolute())
    assert [name for name in held.scores.index if "teacher" in name] == []  # the start is there as the initial encoder
    assert "Nearness to the start" in held.report().read_text()


def test_the_start_is_embedded_with_the_prompt_of_training(start):
    prompted = train(start, prompts='anchor="a title: ",positive="a title: "', max_steps=1)
    assert prompted.log["loss_anchor"].dropna().iloc[0] == pytest.approx(0, abs=1e-3)
    with pytest.raises(InputError, match="with one prompt, and the two sides of a pair have different ones"):
        train(start, prompts='anchor="a title: "', out="run")
    assert not Path("run").exists()


def test_a_resumed_run_ends_as_one_in_one_go_and_another_start_is_refused(start):
    straight = train(start, out="straight", micro_batch=4)
    train(start, out="resumed", max_steps=2, micro_batch=4)
    run = train(start, out="resumed", resume=True, micro_batch=4)
    sentences = ["the cat", "a nurse sees"]
    assert np.array_equal(run.model.encode(sentences), straight.model.encode(sentences))
    file = Path("start", "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_act": "relu"}))
    with pytest.raises(InputError, match="started with another teacher of the name .*put the former model back"):
        train(start, out="resumed", resume=True, max_steps=6)


def test_a_sum_of_objects_has_an_anchor_too(start):
    run = train(start, WeightedSum([(InfoNCE(), 1), (Anchor("mse"), 3)]))
    assert config(run)["teacher"]["is_start"] and run.log["loss_Anchor"].notna().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "anchor"}, "alone it learns nothing; add another objective"),
        ({"teacher": "start"}, "a run has one teacher"),
        ({"objective": "infonce + anchor + distill"}, "a run has one teacher"),
        ({"head": "mlp"}, "leave the head out"),
        ({"init": None, "encoder": STATIC}, "name that as init"),
        ({"dev": "teacher"}, "--dev teacher is for runs with --teacher"),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_is_written(options, message, start):
    settings = {"init": start, "objective": ANCHORED, **LITTLE, **options}
    with pytest.raises(InputError, match=message):
        sentemb.train(DOCUMENTS, out="run", **{name: value for name, value in settings.items() if value is not None})
    assert not Path("run").exists()


def test_a_start_of_two_towers_is_refused(encoder, start):
    two = two_towers(*(encoder("transformer:name=TINY", max_length=40) for _ in "fg"))
    two.save("two", create_model_card=False)
    with pytest.raises(InputError, match="needs a start of one tower"):
        train("two", out="run")
    assert train(start, towers=2).complete  # each tower is held near it


def test_a_command_refuses_an_anchor_without_a_start_in_one_sentence(book_file, capsys):
    words = ["--corpus", str(book_file), "--encoder", STATIC, "--out", "run", "--objective", ANCHORED]
    with pytest.raises(SystemExit) as ended:
        train_bookcorpus.main(words)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and last.startswith("error: objective anchor keeps the model near")
    assert not Path("run").exists()
