"""Training from Python: the scripts a person writes, what they get back, and what is refused."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

import sentemb
from eval.score_checkpoints import pairs_for
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.objectives import WeightedSum, build_objective
from sentemb.pairs import Pairs
from sentemb.pipeline.notes import long_warmup
from sentemb.registry import quoted
from sentemb.training import TrainingSettings
from sentemb.validation import DevScore
from tests.helpers import STATIC, steady, torchrun

NOUNS = ("cat", "dog", "king", "queen", "ship", "poet", "child", "judge", "miller", "nurse")
VERBS = ("sees", "finds", "likes", "leaves", "paints", "calls", "hears", "feeds", "meets", "hides")
TEXTS = [
    f"the {NOUNS[i % 10]} {VERBS[i // 10 % 10]} the {NOUNS[(3 * i + i // 10) % 10]} number {i}" for i in range(200)
]
PAIRS = [(TEXTS[i], TEXTS[i + 1]) for i in range(0, 200, 2)]
LITTLE = {"batch_size": 16, "max_steps": 6, "warmup": 1, "lr": 1e-2, "eval_every": 3, "log_every": 1, "save_every": 2}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


class Squared(nn.Module):
    """Squared distance of unit vectors, with a weight that is trained."""

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, y):
        x, y = nn.functional.normalize(x, dim=1), nn.functional.normalize(y, dim=1)
        spread = torch.pdist(x).square().mul(-2).exp().mean().log()
        return (x - y).norm(dim=1).pow(self.power).mean() + self.scale.square() * spread


def weights_of(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}


def same_weights(a: SentenceTransformer, b: SentenceTransformer) -> bool:
    first, second = weights_of(a), weights_of(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_read_a_book_as_lines_goes_on_with_them(tmp_path):
    path = tmp_path / "book, wrapped.txt"
    path.write_text(textwrap.fill(" ".join(f"{text.capitalize()}, as it always did." for text in TEXTS), 60))
    short = LITTLE | {"max_steps": 3}
    sentemb.train(f"lines:path={quoted(str(path))}", encoder=STATIC, out="runs/old", **short)
    config = json.loads(Path("runs/old/config.json").read_text())
    config["settings"]["corpus"] = str(path)  # as an older version wrote it
    Path("runs/old/config.json").write_text(json.dumps(config))
    run = sentemb.train(out="runs/old", resume=True, max_steps=6)
    assert run.step == 6
    sentemb.train(str(path), encoder=STATIC, out="runs/new", **short)
    fingerprints = [
        json.loads(Path(f"runs/{name}/config.json").read_text())["corpus"]["fingerprint"] for name in ("old", "new")
    ]
    assert fingerprints[0] != fingerprints[1]


def test_a_vocabulary_that_splits_most_words_is_noted_at_the_start(capsys):
    for size, noted in ((270, 1), (2000, 0)):
        sentemb.train(TEXTS, encoder=f"static:embeddings=random,dim=5,vocabulary={size}", **LITTLE)
        assert capsys.readouterr().out.count("note: the tokenizer splits") == noted


def test_five_lines_on_200_sentences():
    run = sentemb.train(TEXTS, encoder=STATIC, **LITTLE)
    assert isinstance(run.model, SentenceTransformer) and run.model.encode(TEXTS[:3]).shape == (3, 5)
    assert run.complete and not run.interrupted and run.step == run.steps == 6
    assert list(run.log.index) == [0, 1, 2, 3, 4, 5, 6] and run.log["loss"].dropna().map(math.isfinite).all()
    assert list(run.scores.index) == ["random static", "trained"]
    assert run.scores["retrieval_mrr"].between(0, 1).all() and (run.scores["uniformity"] < 0).all()
    assert run.report().is_file() and run.report().parent == run.folder
    assert not any(Path().iterdir()) or [path.name for path in Path().iterdir()] == ["cache"], "nothing is written here"
    again = load(run.folder / "model")
    np.testing.assert_allclose(again.encode(TEXTS[:3]), run.model.encode(TEXTS[:3]), atol=1e-6)


def test_pairs_of_a_data_set_and_an_own_objective_in_another_thread():
    data = datasets.Dataset.from_dict({"anchor": [a for a, _ in PAIRS], "positive": [b for _, b in PAIRS]})
    outcome = {}

    def work():
        outcome["run"] = sentemb.train(data, encoder=STATIC, objective=Squared(), out="run", **LITTLE)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    run = outcome["run"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert run.complete and run.folder == Path("run")
    settings = json.loads((run.folder / "config.json").read_text())["settings"]
    assert settings["pairs"] == "labelled" and "Squared: power=2.0" in settings["objective"]
    assert "100 rows of anchor, positive" in settings["corpus"]


class StopsAt:
    """InfoNCE as a function, which presses Ctrl-C in the update ``step``, as a notebook's stop button does."""

    def __init__(self, step: int | None) -> None:
        self._step, self._calls = step, 0  # private: where it stops is not a setting of the objective

    def __call__(self, x, y):
        self._calls += 1
        if self._calls == self._step:
            signal.raise_signal(signal.SIGINT)
        scores = nn.functional.normalize(x, dim=1) @ nn.functional.normalize(y, dim=1).T / 0.05
        return nn.functional.cross_entropy(scores, torch.arange(len(x)))


def test_an_interrupted_run_of_a_notebook_goes_on_and_equals_a_straight_one(capsys):
    straight = sentemb.train(TEXTS, encoder=STATIC, objective=StopsAt(None), out="straight", **LITTLE)
    run = sentemb.train(TEXTS, encoder=STATIC, objective=StopsAt(4), out="run", **LITTLE)
    assert run.interrupted and not run.complete and 3 <= run.step < 6
    assert run.model.encode("so far").shape == (5,) and len(run.scores) == 2
    assert "resume=True" in capsys.readouterr().out
    run = sentemb.train(TEXTS, encoder=STATIC, objective=StopsAt(None), out="run", resume=True)
    assert run.complete and run.step == 6
    assert steady(Path("run")) == steady(Path("straight")) and same_weights(run.model, straight.model)
    again = sentemb.train(TEXTS, encoder=STATIC, objective=StopsAt(None), out="run", resume=True)
    assert not again.complete and not again.interrupted and same_weights(again.model, run.model)


def test_random_states_signals_and_bars_of_the_caller_are_as_before():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), signal.getsignal(signal.SIGINT)
    sentemb.train(TEXTS, encoder=STATIC, **LITTLE)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    assert signal.getsignal(signal.SIGINT) is before[2]


def test_the_same_call_twice_gives_the_same_model():
    a, b = (sentemb.train(TEXTS, encoder=STATIC, **LITTLE) for _ in range(2))
    assert a.folder != b.folder and steady(a.folder) == steady(b.folder) and same_weights(a.model, b.model)


@pytest.mark.parametrize(
    ("corpus", "pairs"),
    [
        (TEXTS, "neighbours"),
        ([TEXTS[i : i + 10] for i in range(0, 200, 10)], "neighbours"),
        (PAIRS, "labelled"),
        ([(a, b, TEXTS[(7 * i) % 200]) for i, (a, b) in enumerate(PAIRS)], "labelled"),
        (datasets.Dataset.from_dict({"text": TEXTS}), "neighbours"),
    ],
    ids=["texts", "documents", "pairs", "triples", "data set"],
)
def test_what_a_program_holds_is_a_corpus(corpus, pairs):
    run = sentemb.train(corpus, encoder=STATIC, **LITTLE | {"max_steps": 2})
    settings = json.loads((run.folder / "config.json").read_text())["settings"]
    assert settings["pairs"] == pairs and run.complete


def test_hard_negatives_of_triples_are_contrasted():
    triples = [(a, b, TEXTS[(7 * i) % 200]) for i, (a, b) in enumerate(PAIRS)]
    run = sentemb.train(triples, encoder=STATIC, objective="hard_negatives", **LITTLE | {"max_steps": 2})
    assert run.complete and len(run.log) == 3


def test_an_own_encoder_is_trained_in_place(encoder):
    model = encoder(STATIC)
    before = weights_of(model)
    run = sentemb.train(TEXTS, encoder=model, **LITTLE)
    assert run.model is model and any(not torch.equal(before[k], v) for k, v in weights_of(model).items())


def test_the_best_model_by_an_own_score_is_returned():
    seen = []

    def score(model: SentenceTransformer) -> float:
        seen.append(weights_of(model))
        return float(len(seen) == 2)  # the second look, after step 3

    run = sentemb.train(TEXTS, encoder=STATIC, dev=score, select="best", out="run", **LITTLE)
    assert len(seen) == 3  # before, after 3, after 6
    assert all(torch.equal(seen[1][name], weight) for name, weight in weights_of(run.model).items())
    assert "score" in run.log.columns
    named = sentemb.train(TEXTS, encoder=STATIC, dev=DevScore("mine", lambda m: {"mine": 1.0, "more": 2.0}), **LITTLE)
    assert {"mine", "more"} <= set(named.log.columns)


def first_with_others(ranges: np.ndarray) -> Pairs:
    return Pairs(np.array([(first, other) for first, stop in ranges for other in range(first + 1, stop)]))


def test_own_pairs_and_an_own_head():
    torch.manual_seed(0)
    objects = {"pairs": first_with_others, "head": nn.Linear(5, 3)}
    run = sentemb.train(TEXTS, encoder=STATIC, out="run", **objects, **LITTLE | {"max_steps": 4})
    settings = json.loads((run.folder / "config.json").read_text())["settings"]
    assert run.complete and run.model.encode("of the model, not of the head").shape == (5,)
    assert "first_with_others" in settings["pairs"] and "Linear" in settings["head"]
    for name in objects:
        with pytest.raises(InputError, match=f"was started with {name} <.*give the same as {name}= to resume it"):
            sentemb.train(
                TEXTS, encoder=STATIC, out="run", resume=True, **{k: v for k, v in objects.items() if k != name}
            )
    again = sentemb.train(TEXTS, encoder=STATIC, out="run", resume=True, max_steps=6, **objects)
    assert again.complete and again.step == 6
    with pytest.raises(InputError, match="the function of pairs returned a list; return sentemb.pairs.Pairs"):
        sentemb.train(TEXTS, encoder=STATIC, pairs=lambda ranges: [], **LITTLE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 10**6]], "returned sentence 1000000, which is in none of the documents"),
        ([[-1, 0]], "returned sentence -1, which is in none"),
        ([[0, 199]], "returned sentence 199, which is in none"),  # held out
        ([[0.0, 1.0]], "type float64; return int64"),
        ([0, 1], r"rows of shape (2,)"),
    ],
)
def test_own_pairs_of_other_sentences_are_refused(rows, message):
    with pytest.raises(InputError, match=re.escape(message)):
        sentemb.train(TEXTS, encoder=STATIC, pairs=lambda ranges: Pairs(np.array(rows)), out="out", **LITTLE)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"corpus": []}, "the corpus is empty"),
        ({"corpus": 3}, "the corpus is a int"),
        ({"corpus": [1, 2]}, "the corpus is a list of int"),
        ({"corpus": ["one", ("two", "three")]}, "the corpus is a list of str, tuple"),
        ({"corpus": [("a", "b"), ("c",)]}, "row 1 of the pairs has 1 text"),
        ({"corpus": [("a", "b"), ("c", " ")]}, "row 1 of the pairs has an empty text"),
        ({"corpus": "nowhere.txt"}, "nowhere.txt"),
        ({"encoder": "rn"}, "did you mean 'rnn'"),
        ({"encoder": 3}, "the encoder is a int"),
        ({"objective": "infonse"}, "did you mean 'infonce'"),
        ({"objective": Squared}, "objective Squared is a class"),
        ({"objective": 1.0}, "the objective is a float"),
        ({"pairs": "labelled"}, "labelled"),
        ({"pairs": PAIRS}, "a list of pairs is a corpus"),
        ({"head": 3}, "head is a int"),
        ({"head": "mpl"}, "did you mean 'mlp'"),
        ({"max_step": 3}, "did you mean 'max_steps'"),
        ({"lr": -1.0}, "lr"),
        ({"batch_size": "many"}, "batch-size must be a whole number, got 'many'"),
        ({"tasks": "MR"}, "eval.evaluate"),
        ({"resume": True}, "give it as out="),
        ({"dev": 3}, "dev is a int; give a function of the model"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_writes_nothing(wrong, message):
    arguments = {"corpus": TEXTS, "encoder": STATIC, "out": None if wrong.get("resume") else "out"} | LITTLE | wrong
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        sentemb.train(**arguments)
    assert "\n" not in str(refused.value) and not Path("out").exists()


@pytest.mark.parametrize("function", [lambda x, y: x, lambda x, y: 0.5], ids=["a matrix", "a number"])
def test_an_own_objective_that_is_no_scalar_is_named(function):
    with pytest.raises(InputError, match=r"<lambda> returned a .*; return a tensor of one number"):
        sentemb.train(TEXTS, encoder=STATIC, objective=function, **LITTLE)


def test_a_folder_in_use_is_refused():
    Path("out").mkdir()
    Path("out", "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="out"):
        sentemb.train(TEXTS, encoder=STATIC, out="out", **LITTLE)
    assert [path.name for path in Path("out").iterdir()] == ["mine.txt"]


def test_a_resumed_run_wants_the_same_objects():
    def resumed(**changed):
        same = {"corpus": TEXTS, "encoder": STATIC, "objective": Squared(3.0)}
        return sentemb.train(out="run", resume=True, **same | changed)

    sentemb.train(TEXTS, encoder=STATIC, objective=Squared(3.0), out="run", **LITTLE)
    for changed, message in [
        ({"objective": Squared(2.0)}, "power=3.0"),
        ({"objective": "infonce"}, "Squared"),
        ({"objective": None}, "was started with objective"),
        ({"corpus": TEXTS[:150]}, "corpus"),
        ({"corpus": None}, "was started with corpus"),
        ({"encoder": STATIC.replace("dim=5", "dim=6")}, "encoder"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            resumed(**changed)
    assert resumed().step == 6
    longer = sentemb.train(TEXTS, encoder=STATIC, objective=Squared(3.0), out="run", resume=True, max_steps=8)
    assert longer.complete and longer.step == 8


def test_a_run_by_a_sum_of_objects_goes_on_with_the_same_sum_only():
    def total(power: float = 3.0, weight: float = 0.5) -> WeightedSum:
        return WeightedSum([(Squared(power), 1), (build_objective("infonce:temperature=0.1"), weight)])

    made = total()
    sentemb.train(TEXTS, encoder=STATIC, objective=made, out="run", **LITTLE)
    for changed, message in (({"power": 2.0}, "power=3.0"), ({"weight": 0.25}, "temperature=0.1>*0.5")):
        with pytest.raises(InputError, match=re.escape(message)):
            sentemb.train(TEXTS, encoder=STATIC, objective=total(**changed), out="run", resume=True)
    longer = sentemb.train(TEXTS, encoder=STATIC, objective=made, out="run", resume=True, max_steps=8)
    assert longer.complete and longer.step == 8 and {"loss_Squared", "loss_InfoNCE"} <= set(longer.log)


def test_evaluations_show_themselves_and_the_bar_leaves_their_time_out(capsys):
    def slow(model: SentenceTransformer) -> float:
        time.sleep(1.2)
        return 0.25

    start = time.perf_counter()
    run = sentemb.train(TEXTS, encoder=STATIC, dev=slow, **LITTLE | {"max_steps": 4, "eval_every": 2, "save_every": 0})
    spent, shown = time.perf_counter() - start, capsys.readouterr().err
    scored = r"slow 0\.2500, MRR 0\.\d{4}, alignment \d\.\d{4}, uniformity -\d\.\d{4} \(\d+\.\d s\)"
    lines = re.findall(r"^\r?(step \d+: .*|each evaluation .*)$", shown.replace("\r", "\n"), re.MULTILINE)
    assert lines[0] == "step 0: scoring the model for the first time"
    assert re.fullmatch(r"each evaluation takes about \d+\.\d s, 2 more: \d+\.\d s; .*", lines.pop(2))
    for step, line in zip((0, 2, 4), lines[1:], strict=True):
        assert re.fullmatch(f"step {step}: {scored}", line)
        assert f"MRR {run.log.loc[step, 'retrieval_mrr']:.4f}" in line
    minutes, seconds = re.findall(r"4/4 \[(\d+):(\d+)<", shown)[-1]
    assert 60 * int(minutes) + int(seconds) < spent - 3 * 1.2 + 1  # (shown in seconds)


def test_a_run_of_version_01_goes_on_and_is_scored_with_the_documents_it_was_not_trained_on(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("\n\n".join("\n".join(TEXTS[i : i + 8]) for i in range(0, 192, 8)))  # 24 documents
    corpus = open_corpus("t.txt")
    assert [len(replace(corpus, least_held_out=least).split()[1]) for least in (1, 5)] == [2, 5]
    chosen = {"encoder": STATIC, **LITTLE}
    run = sentemb.train("t.txt", out="new", **chosen)
    assert run.pairs.num_documents == 5 and "held out: 35 neighbouring pairs from 5 held-out" in capsys.readouterr().out
    old = sentemb.train(replace(corpus, least_held_out=1), out="old", **chosen)
    assert old.pairs.num_documents == 2 and steady(Path("old")) != steady(Path("new"))
    for name in ("old", "new"):
        config = json.loads(Path(name, "config.json").read_text())
        assert config["corpus"].pop("least_held_out") == {"old": 1, "new": 5}[name]
        if name == "old":  # as version 0.1 wrote it
            config["settings"]["corpus"] = str(tmp_path / "t.txt")
            Path(name, "config.json").write_text(json.dumps(config))
    before = steady(Path("old"))
    shutil.rmtree("old/model")
    shutil.rmtree("old/checkpoints/step-6")
    resumed = sentemb.train(out="old", resume=True)
    assert resumed.pairs == old.pairs and steady(Path("old")) == before
    for name, trained in (("old", old), ("new", run)):
        assert pairs_for(None, name, []) == pairs_for("t.txt", f"{name}/model", []) == trained.pairs
    assert pairs_for(None, "minilm", [], ["minilm", "old"]) == old.pairs  # what is scored with a run, on its pairs
    Path("other.txt").write_text(Path("t.txt").read_text() + "\n\na\nb")
    assert pairs_for("other.txt", "old", []).num_documents == 5  # of a corpus that it was not trained on


@pytest.mark.parametrize(
    "warmup, note",
    [
        (50, "all 6 updates are warm-up (--warmup 50), and the learning rate ends at 0.0012, below --lr 0.01; give"),
        (4, "4 of 6 updates are warm-up (--warmup 4), more than half; give"),
        (0.7, "4 of 6 updates are warm-up (--warmup 0.7), more than half; give"),
        (0.5, ""),
        (3, ""),
        (0.1, ""),
        (0, ""),
    ],
)
def test_a_long_warmup_is_noted(warmup, note):
    notes = long_warmup(TrainingSettings(lr=0.01, warmup=warmup), 6)
    assert len(notes) == bool(note) and all(text.startswith(note) for text in notes)


def test_the_note_on_a_long_warmup_is_printed(capsys):
    sentemb.train(TEXTS, encoder=STATIC, **LITTLE | {"warmup": 50})
    assert "note: all 6 updates are warm-up" in capsys.readouterr().out


def test_two_processes_train_one_model_and_can_train_again(tmp_path):
    (tmp_path / "script.py").write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import sentemb\n"
        "from tests.pipeline.test_train import LITTLE, STATIC, TEXTS, Squared\n"
        "for name in ('a', 'b'):\n"
        "    run = sentemb.train(TEXTS, encoder=STATIC, objective=Squared(), out=name, **LITTLE | {'batch_size': 10})\n"
        "    print(run.is_main_process, run.step, len(run.scores) if run.is_main_process else 0, flush=True)\n"
    )
    root = str(Path(__file__).parents[2])
    done = torchrun(str(tmp_path / "script.py"), root, cwd=tmp_path, environment={"ACCELERATE_USE_CPU": "true"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(line for line in done.stdout.splitlines() if "6" in line and line.startswith(("T", "F"))) == [
        *["False 6 0"] * 2,
        *["True 6 2"] * 2,
    ]
    assert steady(tmp_path / "a") == steady(tmp_path / "b")
    one = sentemb.train(TEXTS, encoder=STATIC, objective=Squared(), out="one", **LITTLE | {"batch_size": 20})
    losses = [record["loss"] for record in steady(tmp_path / "a") if record.get("loss") is not None]
    assert losses == pytest.approx(list(one.log["loss"].dropna()), abs=1e-5)


def test_a_script_that_ends_leaves_no_process(tmp_path):
    (tmp_path / "script.py").write_text(
        "import sentemb\n"
        "run = sentemb.train([f'text number {i} of the list' for i in range(60)], max_steps=2, batch_size=8,\n"
        "                    encoder='static:embeddings=random,dim=4,vocabulary=260')\n"
        "print(run.scores.columns.size > 5)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "True", done.stderr
