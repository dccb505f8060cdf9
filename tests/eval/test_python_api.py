"""``eval.evaluate``: the command's scores as a table, from a model or a path, and what is refused."""

import json

import numpy as np
import pytest

import eval as evaluation
from eval import senteval
from sentemb.errors import InputError
from tests.helpers import STATIC
from tests.senteval_tasks import TINY_TASKS

NAMES = [task.name for task in TINY_TASKS]


@pytest.fixture
def saved(encoder, tmp_path):
    model = encoder(STATIC)
    model.save(str(tmp_path / "model"), create_model_card=False)
    return model, tmp_path / "model"


def test_scores_are_those_of_the_command(folder, saved, tmp_path, capsys):
    model, path = saved
    scores = evaluation.evaluate(model, NAMES, folder, folds=3, progress=False)
    assert scores.equals(evaluation.evaluate(str(path), ",".join(NAMES), str(folder), folds=3, progress=False))
    assert list(scores.index) == NAMES and list(scores.columns) == ["metric", "score", "dev", "n", "protocol"]
    command = [str(path), "--data", str(folder), "--tasks", ",".join(NAMES), "--folds", "3"]
    with pytest.raises(SystemExit) as ended:
        senteval.main([*command, "--output", str(tmp_path / "scores.json")])
    assert ended.value.code == 0
    rows = json.loads((tmp_path / "scores.json").read_text())["tasks"]
    for name, row in rows.items():
        key = {"accuracy": "acc"}.get(scores.loc[name, "metric"], scores.loc[name, "metric"])
        assert scores.loc[name, "score"] == pytest.approx(row[key], abs=1e-9)
        assert scores.loc[name, "n"] == row["n"] and np.isfinite(scores.loc[name, "score"])
    assert scores.loc["TINY", "metric"] == "accuracy" and scores.loc["TINY-STS", "metric"] == "spearman"
    assert np.isfinite(scores.loc["TINY", "dev"])


def test_a_layer_is_scored_from_python_and_by_the_command(folder, encoder, tmp_path, capsys):
    model = encoder("transformer:name=TINY")
    model.save(str(tmp_path / "model"), create_model_card=False)
    scores = {
        layer: evaluation.evaluate(model, "TINY,TINY-STS", folder, folds=3, progress=False, layer=layer)
        for layer in (None, 0, 1, "first_last")
    }
    command = [tmp_path / "model", "--data", folder, "--tasks", "TINY,TINY-STS", "--folds", "3"]
    for layer, expected in scores.items():
        of_layer = [] if layer is None else ["--layer", layer]
        arguments = [*command, "--cache", tmp_path / "embeddings", "--format", "json", *of_layer]
        for encodes in (True, False):  # each layer has embeddings of its own in the cache
            with pytest.raises(SystemExit) as ended:
                senteval.main([str(argument) for argument in arguments])
            content = json.loads(capsys.readouterr().out)
            assert ended.value.code == 0 and (content["encoded"] > 0) == encodes
            assert content.get("layer") == (None if layer is None else str(layer))
            for task, metric in (("TINY", "acc"), ("TINY-STS", "spearman")):
                assert content["tasks"][task][metric] == pytest.approx(expected.loc[task, "score"], abs=1e-9)
    similarity = [frame.loc["TINY-STS", "score"] for frame in scores.values()]
    assert len(set(similarity)) == len(similarity)
    with pytest.raises(SystemExit):
        senteval.main([*map(str, command), "--layer", "1"])
    assert capsys.readouterr().out.startswith("layer 1: the mean of its token states")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nowhere/model", "task": "TINY"}, r"unknown option of eval.evaluate 'task' \(did you mean 'tasks'"),
        ({"model": "nowhere/model", "layers": 1}, "did you mean 'layer'.*valid: batch_size, data, folds, layer, model"),
        ({"model": "nowhere/model", "embedding": 1}, "unknown option of eval.evaluate 'embedding'"),
        ({"tasks": "TINYY"}, "did you mean 'TINY'"),
        ({"tasks": []}, "names no task"),
        ({"data": "nowhere"}, "no folder downstream/"),
        ({"model": "nowhere/model"}, "nowhere/model"),
        ({"model": 3}, "the model is a int"),
        ({"probe": "logistc"}, "did you mean 'logistic'"),
        ({"folds": 1}, "folds"),
        ({"folds": 40}, "40 folds are too many"),
        ({"batch_size": 0}, "batch_size"),
        ({"layer": 1}, "is not a transformer and has no layers"),
        ({"truncate": 6}, "cannot be cut to 6 dimensions"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(folder, saved, arguments, message):
    complete = {"model": saved[0], "tasks": ["TINY"], "data": folder, "progress": False} | arguments
    with pytest.raises(InputError, match=message) as refused:
        evaluation.evaluate(**complete)
    assert "\n" not in str(refused.value)
