"""Evaluation: tasks read exactly, each sentence encoded once, wrong input told before encoding, nothing disturbed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eval import senteval
from eval.neighbours import HeldOut, held_out, neighbour_geometry, similarities
from eval.senteval import Encoder, corpus_of, evaluate, format_table
from eval.tasks import SAMPLE, TASKS, Task, choose_tasks, data_folder, read
from sentemb.corpus import open_corpus
from sentemb.registry import InputError

TINY = Task("TINY", ("downstream/T/t.pos", "downstream/T/t.neg"), (22, 21), "a tiny task")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with a task of 43 sentences, known as TINY."""
    monkeypatch.setitem(TASKS, "TINY", TINY)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    for file, word, lines in zip(TINY.files, ("good", "bad"), TINY.counts, strict=True):
        path = tmp_path / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"a {word} caf\xe9 {'very ' * (i % 3)}{i}\n" for i in range(lines)), encoding="latin-1")
    return tmp_path / "data"


def test_rows_are_in_sentevals_order(folder):
    data = read(TINY, folder)
    keys = [(len(s.split()), y) for s, y in zip(data.sentences, data.labels, strict=True)]
    assert keys == sorted(keys) and len(keys) == 43 and data.labels.sum() == 22
    assert data.sentences[:2] == ["a bad caf\xe9 0", "a bad caf\xe9 3"]  # file order breaks ties


def test_default_tasks_follow_the_data(folder, monkeypatch):
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    assert [t.name for t in choose_tasks(None, data_folder(None))] == list(SAMPLE)
    assert [t.name for t in choose_tasks(None, data_folder(folder))] == ["MR", "CR"]
    monkeypatch.setenv("SENTEMB_DATA", str(folder.parent))
    (folder.parent / "senteval" / "downstream").mkdir(parents=True)
    assert data_folder(None) == folder.parent / "senteval"


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: (f / TINY.files[0]).unlink(), "t.pos is missing; TINY needs it: 22 lines"),
        (lambda f: (f / TINY.files[1]).write_text("one\n"), "t.neg has 1 sentences where TINY has 21"),
        (lambda f: (f / TINY.files[1]).write_text(""), "t.neg has 0 sentences"),
    ],
)
def test_a_missing_or_wrong_file_is_named(folder, break_it, said):
    break_it(folder)
    with pytest.raises(InputError, match=said):
        read(TINY, folder)


def test_wrong_names_and_folders_are_told(tmp_path):
    with pytest.raises(InputError, match="unknown task 'MRR'.*did you mean 'MR'"):
        choose_tasks("CR,MRR", None)
    with pytest.raises(InputError, match="no folder downstream/"):
        data_folder(tmp_path)
    with pytest.raises(InputError, match="MR needs SentEval's data"):
        read(TASKS["MR"], None)


class Counting:
    """An encoder whose embedding of a text is its length and its vowels; it counts what it meets."""

    def __init__(self):
        self.met = []

    def encode(self, texts, **_):
        self.met += texts
        return np.array([[len(t), sum(c in "aeiou" for c in t), t.count("good")] for t in texts], dtype=np.float32)

    def get_embedding_dimension(self):
        return 3


PAIRS = HeldOut(["a good day", "so be it", "a bad caf\xe9 0"], ["indeed it was", "he said", "so be it"], "three pairs")


def test_each_sentence_is_encoded_once_and_random_states_stay(folder):
    model = Counting()
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    result = evaluate(model, [read(TINY, folder), read(TINY, folder)], PAIRS)
    assert len(model.met) == len(set(model.met)) == 43 + 4  # one of the pairs' five texts is the task's
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    row = result["tasks"]["TINY"]
    assert row["acc"] == 100.0 and row["n"] == 43 and len(row["chosen"]) == 10 and "nested" in row["protocol"]
    assert result["geometry"]["pairs"] == 3 and result["geometry"]["sentences"] == 5
    assert "TINY" in format_table({"a": result}) and "100.00" in format_table({"a": result})


def test_an_embedding_that_is_not_finite_is_named():
    model = Counting()
    model.encode = lambda texts, **_: np.array([[np.nan if "bad" in t else 1.0] for t in texts])
    with pytest.raises(InputError, match="'a bad one' is not finite"):
        Encoder(model)(["fine", "a bad one"])


def test_geometry_by_hand():
    vectors = {"n": [0, 2.0], "e": [3.0, 0], "ne": [1.0, 1.0]}
    found = neighbour_geometry(
        lambda texts: np.array([vectors[t] for t in texts]), HeldOut(["n", "e"], ["ne", "n"], "-")
    )
    assert found["alignment"] == pytest.approx((2 - 2**0.5 + 2) / 2)
    near, far = np.exp(-2 * (2 - 2**0.5)), np.exp(-2 * 2)
    assert found["uniformity"] == pytest.approx(np.log((2 * near + far) / 3))
    assert found["uniformity_optimum"] == pytest.approx(-1.5750, abs=5e-5)
    assert found["retrieval_mrr"] == pytest.approx((1 / 2 + 1 / 2) / 2)  # n is nearer to n, e nearer to ne
    shape = similarities(lambda texts: np.array([vectors[t] for t in texts]), HeldOut(["n", "e"], ["ne", "n"], "-"))
    assert sum(shape["partners"]) == pytest.approx(1) and sum(shape["strangers"]) == pytest.approx(1)


def test_held_out_pairs_are_neighbours_of_the_last_documents(book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    pairs = held_out(open_corpus(str(book_file), progress=False), count=5)
    documents = book_file.read_text().strip().split("\n\n")
    lines = documents[-1].splitlines()
    assert len(pairs.first) == 5 and "5 neighbouring pairs" in pairs.source
    assert all(lines.index(b) == lines.index(a) + 1 for a, b in zip(pairs.first, pairs.second, strict=True))


def test_command_line_end_to_end(folder, encoder, book_file, tmp_path, capsys, monkeypatch):
    encoder("static:embeddings=random,vocabulary=300,dim=8").save(str(tmp_path / "run" / "model"))
    config = {"settings": {"corpus": str(book_file)}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert corpus_of(tmp_path / "run") == corpus_of(tmp_path / "run" / "model") == str(book_file)
    assert corpus_of(tmp_path / "elsewhere") == "sample"
    output = tmp_path / "scores.json"
    arguments = [str(tmp_path / "run"), "--data", str(folder), "--tasks", "TINY", "--output", str(output)]
    senteval.main(arguments)
    shown = capsys.readouterr().out
    scores = json.loads(output.read_text())
    assert set(scores) == {"checkpoint", "dimension", "tasks", "geometry", "versions"}
    assert set(scores["tasks"]["TINY"]) == {"acc", "devacc", "n", "protocol", "chosen", "seconds"}
    assert {"alignment", "uniformity", "uniformity_optimum", "pairs", "sentences", "source"} <= set(scores["geometry"])
    assert f"{scores['tasks']['TINY']['acc']:.2f}" in shown and "alignment" in shown
    first = output.read_text()
    senteval.main(arguments)
    assert [v for k, v in json.loads(output.read_text())["tasks"]["TINY"].items() if k != "seconds"] == [
        v for k, v in json.loads(first)["tasks"]["TINY"].items() if k != "seconds"
    ]
    assert list(output.parent.glob("*.partial")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/such/model"], "no model 'no/such/model' here or on the hub"),
        (["."], "no modules.json"),
        ([".", "--tasks", "XX"], "unknown task 'XX'"),
        ([".", "--data", "."], "no folder downstream/"),
        ([".", "--batch-size", "0"], "--batch-size must be at least 1"),
        ([".", "--output", "no/such/folder/x.json"], "its folder does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(arguments, said, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_DATA", "")
    if "--data" not in arguments and "--tasks" not in arguments:
        arguments = [*arguments, "--data", str(folder), "--tasks", "TINY"]
    with pytest.raises(SystemExit) as stopped:
        senteval.main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1 and "Traceback" not in error


def test_it_runs_from_any_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "eval.senteval", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "--tasks" in done.stdout


def test_the_real_tasks_have_their_counts(real_data: Path):
    for name, positive in (("MR", 5331), ("CR", 2407)):
        data = read(TASKS[name], real_data / "senteval")
        assert data.labels.sum() == positive and len(data.sentences) == sum(TASKS[name].counts)
    assert sum(not s for s in data.sentences) == 4  # empty lines of CR


def test_the_samples_tasks_have_their_counts():
    """Counted from the wheels: exact duplicates dropped (56 and 10), the 98 ratings of zero left out."""
    try:
        read_both = [read(TASKS[name], None) for name in SAMPLE]
    except InputError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(str(error))
    assert [(len(d.sentences), int(d.labels.sum())) for d in read_both] == [(12_752, 7368), (3600, 2120)]
