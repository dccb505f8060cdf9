"""A script written for SentEval runs after changing its import; its trainer's evaluator selects and logs."""

import csv
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from eval import SE, TASKS, Logistic, SentEvalEvaluator
from eval.probes import Mlp
from eval.senteval_api import UPSTREAM, Parameters
from sentemb.errors import InputError
from tests.senteval_tasks import TINY_PAIRS, TINY_SPLIT, TINY_STS, TINY_TASK

STAND_INS = {"MR": TINY_TASK, "SST5": TINY_SPLIT, "MRPC": TINY_PAIRS, "STS12": TINY_STS}


@pytest.fixture
def data(folder, monkeypatch):
    """The data folder, its small tasks under the names of SentEval's of the same kind."""
    for name, task in STAND_INS.items():
        monkeypatch.setitem(TASKS, name, replace(task, name=name))
    return str(folder)


# As bags of word vectors are scored with SentEval: a vocabulary is made in prepare, and kept in params.
def prepare(params, samples):
    words = sorted({word for sentence in samples for word in sentence} | {"."})
    rng = np.random.default_rng(0)
    params.word_vec = {word: rng.normal(size=16) for word in words}
    params.wvec_dim = 16


def batcher(params, batch):
    batch = [sentence if sentence != [] else ["."] for sentence in batch]
    rows = []
    for sentence in batch:
        vectors = [params.word_vec[word] for word in sentence if word in params.word_vec]
        rows.append(np.mean(vectors or [np.zeros(params.wvec_dim)], axis=0))
    return np.vstack(rows)


CLASSIFIER = {"nhid": 0, "optim": "rmsprop", "batch_size": 128, "tenacity": 3, "epoch_size": 2}


@pytest.mark.parametrize("usepytorch", [True, False])
def test_a_bag_of_words_script_runs(data, usepytorch):
    params_senteval = {"task_path": data, "usepytorch": usepytorch, "kfold": 5}
    params_senteval["classifier"] = CLASSIFIER
    logging.basicConfig(format="%(asctime)s : %(message)s", level=logging.DEBUG)
    se = SE(params_senteval, batcher, prepare)
    results = se.eval(["MR", "SST5", "MRPC", "STS12", "STSBenchmark"])
    assert set(results["MR"]) == {"devacc", "acc", "ndev", "ntest"} and results["MR"]["acc"] > 75
    assert (results["MR"]["ndev"], results["MR"]["ntest"]) == (43, 43)
    assert (results["SST5"]["ndev"], results["SST5"]["ntest"]) == (30, 40)
    assert set(results["MRPC"]) == {"devacc", "acc", "f1", "ndev", "ntest"} and results["MRPC"]["ndev"] == 60
    assert set(results["STS12"]) == {"a", "b", "all"} and results["STS12"]["a"]["nsamples"] == 30
    assert len(results["STS12"]["a"]["pearson"]) == 2
    assert set(results["STS12"]["all"]["spearman"]) == {"all", "mean", "wmean"}
    regressed = results["STSBenchmark"]
    assert set(regressed) == {"devpearson", "pearson", "spearman", "mse", "yhat", "ndev", "ntest"}
    assert len(regressed["yhat"]) == regressed["ntest"] == 40 and -1 <= regressed["pearson"] <= 1
    assert se.results == results and se.params.word_vec and "word_vec" not in params_senteval
    assert se.eval("MR") == results["MR"]


def test_the_parameters_are_the_documented_ones(data):
    seen = []

    def spy(params, batch):
        seen.append(len(batch))
        assert params.current_task == "STS12" and params.no_such_key is None
        return torch.ones(len(batch), 2)

    se = SE({"task_path": data, "batch_size": 7, "similarity": lambda u, v: u[0] - v[1]}, spy)
    assert se.eval("STS12")["all"]["spearman"]["all"] == 0 and max(seen) == 7
    assert isinstance(se.settings.probe, Mlp) and (se.settings.folds, se.settings.seed) == (5, 1111)
    assert isinstance(SE({"task_path": data, "usepytorch": False}, spy).settings.probe, Logistic)
    probe = SE({"task_path": data, "seed": 3, "classifier": {"nhid": 50, "optim": "adam,lr=0.01"}}, spy).settings.probe
    assert (probe.settings.nhid, probe.settings.optim, probe.settings.seed) == (50, "adam,lr=0.01", 3)
    assert {"SICKRelatedness", "SICKEntailment", "STSBenchmark", "TREC"} <= set(se.list_tasks) == set(UPSTREAM)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda batch: np.ones((len(batch) + 1, 2)), r"returned an array of shape \(44, 2\) for a batch of 43"),
        (lambda batch: np.ones(len(batch)), r"shape \(43,\)"),
        (lambda batch: np.array([[np.nan if "6" in s else 1.0] for s in batch]), "embedding of '.*6.*' is not finite"),
        (lambda batch: [[1.0], [1.0, 2.0]], "the batcher's rows are not an array"),
        (lambda batch: [["a"]] * len(batch), "returned an array of <U1"),
    ],
)
def test_a_wrong_batcher_is_told_before_any_fit(data, answer, message, monkeypatch):
    se = SE({"task_path": data}, lambda params, batch: answer(batch))
    monkeypatch.setattr("eval.probes.protocols.train_many", lambda *_, **__: pytest.fail("a fit was begun"))
    with pytest.raises(InputError, match=message):
        se.eval("MR")


def test_tensors_of_any_precision_are_rows(data):
    def encode(params, batch):
        return torch.tensor([[len(s), s.count("good")] for s in batch], dtype=params.kind)

    for kind in (torch.bfloat16, torch.float16, torch.int64, torch.float64):
        assert SE({"task_path": data, "usepytorch": False, "kind": kind}, encode).eval("MR")["acc"] > 90


def test_similarities_must_be_numbers(data):
    se = SE({"task_path": data, "similarity": lambda u, v: float("nan")}, batcher, prepare)
    with pytest.raises(InputError, match="the similarity of '.*' and '.*' is nan"):
        se.eval("STS12")


def test_upstreams_other_tasks_do_not_stop_a_list(data):
    results = SE({"task_path": data, "usepytorch": False}, batcher, prepare).eval(["MR"])
    assert results["MR"]["acc"] > 75


def test_params_changed_later_count(data):
    se = SE({"task_path": data, "usepytorch": False}, batcher, prepare)
    se.params.kfold = 20
    with pytest.raises(InputError, match="20 folds are too many"):
        se.eval("MR")


def test_a_list_goes_on_after_a_task_that_cannot_be_scored(data):
    def broken(params, batch):
        return batcher(params, batch)[: None if params.current_task == "MR" else -1]

    results = SE({"task_path": data, "usepytorch": False}, broken, prepare).eval(["SST5", "MR"])
    assert "the batcher returned" in results["SST5"]["error"] and results["MR"]["acc"] > 75


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "no 'task_path'"),
        ({"task_path": "x", "classifier": {"optim": "adam"}}, "no 'nhid'"),
        ({"task_path": "x", "classifier": {"nhid": 0, "optim": "adm"}}, "unknown optim 'adm'"),
        ({"task_path": "x", "classifier": {"nhid": 0, "optim": ["adam"]}}, "cannot be used"),
        ({"task_path": "x", "kfold": 1}, "'kfold'. must be a whole number of at least 2"),
        ({"task_path": "x", "batch_size": 0}, "'batch_size'. must be"),
        ({"task_path": "x", "device": "cuda:77"}, "device 'cuda:77' cannot be used"),
    ],
)
def test_wrong_parameters_are_told(params, message):
    with pytest.raises(InputError, match=message):
        SE(params, batcher)


def test_unknown_tasks_and_keys_are_told(data):
    with pytest.raises(InputError, match="unknown task 'MRR'.*valid: CR"):
        SE({"task_path": data}, batcher).eval(["MR", "MRR"])
    with pytest.raises(InputError, match="'SNLI' is not available"):
        SE({"task_path": data}, batcher).eval("SNLI")

    def refuse(*_):
        raise AssertionError("nothing is encoded before the names are checked")

    with pytest.raises(InputError, match="'Length' is not available"):
        SE({"task_path": data}, refuse).eval(["MR", "Length"])
    with pytest.warns(UserWarning, match="nhids, which means nothing"):
        SE({"task_path": data, "classifier": {"nhid": 0, "nhids": 3}}, batcher)


def test_parameters_are_a_dict_with_attributes():
    params = Parameters(a=1)
    params.b = 2
    assert params["b"] == params.b == 2 and params.c is None and "c" not in params
    del params.b
    assert dict(params) == {"a": 1}


def test_a_trainer_takes_the_evaluator(data, encoder, tmp_path):
    model = encoder("static:embeddings=random,vocabulary=300,dim=8")
    evaluator = SentEvalEvaluator("STS-B,MR", data, name="dev")
    assert evaluator.primary_metric == "dev_STS-B_dev_spearman"
    assert SentEvalEvaluator("STS-B", data, name="STS-B").primary_metric == "STS-B_STS-B_dev_spearman"
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_dev_STS-B_dev_spearman",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    pairs = Dataset.from_dict({"anchor": ["a good day", "it rains"], "positive": ["a fine day", "it pours"]})
    trainer = SentenceTransformerTrainer(
        model, arguments, pairs, loss=MultipleNegativesRankingLoss(model), evaluator=evaluator
    )
    trainer.train()
    logged = [record for record in trainer.state.log_history if "eval_dev_STS-B_dev_spearman" in record]
    assert len(logged) == 2 and trainer.state.best_metric is not None
    assert {"eval_dev_MR_acc", "eval_dev_MR_devacc", "eval_dev_STS-B_spearman"} <= set(logged[0])


def test_the_evaluator_writes_a_line_a_call_and_leaves_the_mode_alone(data, encoder, tmp_path):
    model = encoder("static:embeddings=random,vocabulary=300,dim=8").train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    evaluator = SentEvalEvaluator("MRPC,SST5", data, primary="SST5_acc")
    scores = [evaluator(model, str(tmp_path / "out"), epoch, 5) for epoch in (0, 1)]
    assert scores[0] == scores[1] and model.training and torch.equal(before, torch.get_rng_state())
    assert set(scores[0]) == {"MRPC_devacc", "MRPC_acc", "MRPC_f1", "SST5_devacc", "SST5_acc"}
    assert evaluator.primary_metric == "SST5_acc"
    with (tmp_path / "out" / "senteval_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"] and float(rows[0]["SST5_acc"]) == scores[0]["SST5_acc"]
    for wrong in ({"tasks": "MRR"}, {"primary": "MR_f1"}, {"probe": "svm"}, {"data": tmp_path}):
        with pytest.raises(InputError):
            SentEvalEvaluator(**{"tasks": "MR", "data": data, **wrong})
