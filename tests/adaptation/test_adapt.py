"""An adaptation from end to end, on made texts and small encoders: outcome, resume, refusals."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import sentemb
from recipes import adapt as recipe
from sentemb.adaptation import ARMS, AdaptationSettings, Similarity, arm_training, budget, driver, search
from sentemb.adaptation.folder import AdaptationFolder
from sentemb.adaptation.journal import Journal
from sentemb.errors import InputError
from tests.adaptation.texts import documents_of, shuffled

TEXT = (60, 60)  # documents, sentences
PLAIN_SPEED = arm_training.Trainer.speed
QUICK = {"budget": "6s", "lr": 5e-2, "threads": 1}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


class Clock:
    """A clock that stands, so that what is trained does not depend on how busy the machine is."""

    now = 1e12  # (behind any deadline of the clock that runs)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    """The clock of the budget; ten updates a second, and a tenth of a second around them."""
    made = Clock()
    for module in (budget, search, driver):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(arm_training.Trainer, "speed", lambda self, arm, folder: (10.0, 0.1))
    monkeypatch.setattr(arm_training, "measured_rate", lambda folder, batch_size: 10.0)
    return made


@pytest.fixture
def start(encoder) -> SentenceTransformer:
    return encoder("static:embeddings=random,dim=24,vocabulary=400", max_length=32)


@pytest.fixture
def general() -> Similarity:
    """Pairs of words, the closer the more letters they share."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefgh"), 6)) for _ in range(240)]
    first, second = words[:120], words[120:]
    return Similarity(
        "letters", first, second, np.array([len(set(a) & set(b)) for a, b in zip(first, second, strict=True)], float)
    )


def weights(model: SentenceTransformer) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def test_neighbours_of_documents_with_words_of_their_own_help(start, general, capsys):
    before = weights(start)
    run = sentemb.adapt(start, documents_of(*TEXT), general=general, max_general_loss=100, out="run", **QUICK)
    assert run.adapted and run.verdict.startswith("It paid: ")
    printed = capsys.readouterr().err
    for phase in ("60 documents", "is in order", "trying neighbours, passages, whiten until", "judging the choice"):
        assert phase in printed
    assert "warning" not in printed
    final = {row["measure"]: row for row in run.results["final"]}
    assert final["gain"]["low"] > 0 and final["letters"]["measure"] == "letters"
    assert set(run.table["arm"]) == {"neighbours", "passages", "whiten"}, "a static encoder has no dropout"
    assert "dropout" in run.results["refused"]["dropout"]
    assert {"weight 0.25", "weight 0.5", "weight 0.75", "power 1"} <= set(run.table["setting"])
    assert (run.table["status"] == "chosen").sum() == 1
    assert run.frontier["on_frontier"].any() and len(run.frontier) == len(run.table) + 1
    assert sorted(path.name for path in Path("run").iterdir()) == ["adapt.json", "model", "report.html", "results.json"]
    plain = SentenceTransformer("run/model", device="cpu")
    assert plain.encode(["The cat sees the dog."]).shape[0] == 1
    page = run.report.read_text(encoding="utf-8")
    assert run.verdict.split(":")[0] in page and "Nearest neighbours" in page and "Gain against loss" in page
    assert {name: value.tolist() for name, value in weights(start).items()} == {
        n: v.tolist() for n, v in before.items()
    }


def test_no_loss_allowed_keeps_the_model(start, general):
    run = sentemb.adapt(start, documents_of(*TEXT), general=general, max_general_loss=0, arms="neighbours", **QUICK)
    if run.adapted:  # (what gains without any loss may be written)
        assert all(row["difference"] >= 0 for row in run.results["final"] if row["measure"] == "letters")
    else:
        assert "keep your model" in run.verdict
        for name, value in weights(start).items():
            np.testing.assert_array_equal(weights(run.model)[name], value)


def test_a_text_of_200_sentences_is_too_small_to_tell(start, general):
    run = sentemb.adapt(start, documents_of(10, 20), general=general, **QUICK)
    assert not run.adapted and "too small to tell" in run.verdict and run.table.empty
    for name, value in weights(start).items():
        np.testing.assert_array_equal(weights(run.model)[name], value)
    assert "too small to tell" in run.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_shuffled_text_says_so_and_offers_dropout_only(encoder, general):
    start = encoder("static:embeddings=random,dim=24,vocabulary=400,dropout=0.1", max_length=32)
    run = sentemb.adapt(start, shuffled(*TEXT), general=general, **QUICK)
    assert set(run.table["arm"]) == {"dropout"} and set(run.results["refused"]) == {
        *("neighbours", "passages", "titles", "whiten")
    }
    assert "order of this text is absent" in run.results["notes"][0]
    final = {row["measure"]: row for row in run.results["final"]}
    assert run.adapted == (bool(final) and final["gain"]["low"] > 0)


def test_judged_queries_take_the_place_of_neighbours(start, general, tmp_path):
    documents = documents_of(*TEXT)
    rows = [{"query": document[0], "passage": " ".join(document[1:5])} for document in documents]
    table = tmp_path / "judged.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = sentemb.adapt(start, documents, search=table, general=general, max_general_loss=100, **QUICK)
    assert run.results["task"] == "judged.jsonl"
    assert {row["measure"] for row in run.results["final"]} <= {"your queries, nDCG@10", "gain", "letters"}


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_adaptation_goes_on_without_doing_anything_again(encoder, general, monkeypatch):
    """It is killed after each entry of its journal, and resumed until it is done."""
    start = encoder("static:embeddings=random,dim=24,vocabulary=400,dropout=0.1", max_length=32)
    written, plain_write = [], Journal.write

    def write(self, name, entry):
        plain_write(self, name, entry)
        assert name not in written, f"{name} was done twice"
        written.append(name)
        raise Killed

    monkeypatch.setattr(Journal, "write", write)
    text, kills = documents_of(*TEXT), 0
    options = {"general": general, "max_general_loss": 100, "out": "run", "arms": "neighbours,dropout,whiten"} | QUICK
    while True:
        try:
            run = sentemb.adapt(start, text, resume=kills > 0, **options)
            break
        except Killed:
            kills += 1
            assert kills < 60
    assert kills == len(written) > 15
    rungs = [name for name in written if "-rung-" in name and not name.startswith("plan")]
    assert len(rungs) == 3, "both arms, then one of them"
    updates = dict(zip(run.table["arm"], run.table["updates"], strict=True))
    assert updates["whiten"] == 0 < min(updates["neighbours"], updates["dropout"])
    assert updates["neighbours"] != updates["dropout"], "the better one was trained for longer"
    assert run.results["verdict"] and AdaptationFolder(Path("run")).done
    count = len(written)
    again = sentemb.adapt(start, text, resume=True, **options)
    assert len(written) == count and again.verdict == run.verdict


def test_a_spent_budget_ends_the_search_with_what_there_is(encoder, general, clock, monkeypatch):
    start = encoder("static:embeddings=random,dim=24,vocabulary=400,dropout=0.1", max_length=32)
    plain_train = arm_training.Trainer.train

    def slow_train(self, *arguments):
        clock.now += 100
        return plain_train(self, *arguments)

    monkeypatch.setattr(arm_training.Trainer, "train", slow_train)
    run = sentemb.adapt(start, documents_of(*TEXT), general=general, max_general_loss=100, **QUICK)
    trained = run.table[run.table["arm"] != "whiten"]
    assert list(trained["arm"]) == ["neighbours", "passages", "dropout"], "no weights are tried"
    assert trained["updates"].iloc[0] > trained["updates"].iloc[1] == trained["updates"].iloc[2] == 1
    assert run.results["spent"] == 300 and run.verdict


def test_a_budget_too_short_for_all_methods_tries_the_first_and_says_so(start, general, monkeypatch, capsys):
    """A training takes a second to begin and end, and there is an update a second."""
    monkeypatch.setattr(arm_training.Trainer, "speed", lambda self, arm, folder: (1.0, 1.0))
    run = sentemb.adapt(
        start, documents_of(*TEXT), general=general, max_general_loss=100, arms="passages,neighbours", **QUICK
    )
    assert set(run.table["arm"]) == {"passages"} == set(run.results["arms"])
    assert "too short" in run.results["refused"]["neighbours"]
    assert "neighbours was not tried: the budget is too short" in run.report.read_text(encoding="utf-8")
    printed = capsys.readouterr().err
    assert "neighbours: the budget is too short to try it" in printed
    assert "warning: the budget of 0 min 6 s is too short to tell" in printed and "need 0 min 42 s or more" in printed


def test_maps_for_which_no_time_is_left_are_not_tried(start, general, clock, monkeypatch, capsys):
    def slow_speed(self, arm, folder):
        clock.now += 100
        return 10.0, 0.1

    monkeypatch.setattr(arm_training.Trainer, "speed", slow_speed)
    run = sentemb.adapt(start, documents_of(*TEXT), general=general, arms="neighbours,whiten", **QUICK)
    assert set(run.table["arm"]) == {"neighbours"} == set(run.results["arms"])
    assert "too short" in run.results["refused"]["whiten"]
    assert "whiten, power 1: no time is left to score it" in capsys.readouterr().err


def test_a_signal_while_a_method_is_timed_ends_as_any_other(start, tmp_path, monkeypatch):
    stopped = arm_training.Trained(start, 1, 0.0, 1.0, stopped=True)
    monkeypatch.setattr(arm_training.Trainer, "train", lambda *arguments, **more: stopped)
    trainer = arm_training.Trainer(start, sentemb.open_corpus(documents_of(10, 20)), AdaptationSettings())
    with pytest.raises(KeyboardInterrupt):
        PLAIN_SPEED(trainer, ARMS["neighbours"], tmp_path / "timing")


def test_resuming_needs_no_pairs_again(start, general, monkeypatch):
    def killed(self, arms):
        raise Killed

    options = {"out": "run", "arms": "neighbours", "max_general_loss": 100} | QUICK
    with monkeypatch.context() as patch:
        patch.setattr(driver.Adaptation, "run", killed)
        with pytest.raises(Killed):
            sentemb.adapt(start, documents_of(*TEXT), general=general, **options)
    run = sentemb.adapt(start, documents_of(*TEXT), resume=True, **options)
    assert run.results["general"] == "letters"
    assert sentemb.adapt(start, documents_of(*TEXT), resume=True, **options).verdict == run.verdict, "done already"
    plain = sentemb.adapt(start, documents_of(*TEXT), general=general, **options | {"out": "plain"})
    assert [each["general"] for each in run.results["candidates"]] == pytest.approx(
        [each["general"] for each in plain.results["candidates"]]
    )


def test_the_help_names_all_methods():
    (arms,) = (each for each in fields(AdaptationSettings) if each.name == "arms")
    assert all(name in str(arms.metadata) for name in ARMS)


def test_the_speed_is_measured_and_leaves_nothing(start, tmp_path):
    trainer = arm_training.Trainer(start, sentemb.open_corpus(documents_of(10, 20)), AdaptationSettings(lr=1e-3))
    rate, overhead = PLAIN_SPEED(trainer, ARMS["neighbours"], tmp_path / "timing")
    assert rate > 0 and overhead >= 0 and not (tmp_path / "timing").exists()


@pytest.mark.slow
def test_a_real_kill_leaves_what_can_be_resumed(tmp_path):
    script = textwrap.dedent("""
        import sys
        import numpy as np, torch
        import sentemb
        from sentemb.adaptation import Similarity
        from sentemb.encoders import ENCODERS
        from sentemb.registry import build
        from tests.adaptation.texts import documents_of
        texts = documents_of(60, 60)
        torch.manual_seed(0)
        start = build(ENCODERS, "static:embeddings=random,dim=24,vocabulary=400", "encoder",
                      texts=lambda: [t for d in texts for t in d], max_length=32)
        general = Similarity("g", ["a", "b", "c", "d"] * 30, ["e", "f", "g", "a b"] * 30, np.arange(120.0))
        run = sentemb.adapt(start, texts, general=general, max_general_loss=100, out="run", budget="12s", lr=5e-2,
                            resume=len(sys.argv) > 1)
        print(run.verdict)
    """)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    log = tmp_path / "run" / "work" / "neighbours" / "log.jsonl"
    while not log.is_file() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "report.html").exists()
    done = subprocess.run(
        [*command, "again"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file() and done.stdout.strip()


def test_what_cannot_be_used_is_one_sentence_and_nothing_is_written(start, general, tmp_path):
    text = documents_of(10, 20)
    for settings, message in (
        ({"budget": "soon"}, "budget 'soon' is not a time"),
        ({"arms": "neighbors"}, "unknown method 'neighbors' .did you mean 'neighbours'"),
        ({"arms": ","}, "arms names none"),
        ({"max_general_loss": -1.0}, "max-general-loss must be at least 0"),
        ({"steps": 3}, "unknown setting of adapt 'steps'"),
        ({"resume": True}, "give it as out="),
        ({"search": "nowhere"}, "there is no file or folder nowhere"),
    ):
        with pytest.raises(InputError, match=message):
            sentemb.adapt(start, text, general=general, **settings)
    with pytest.raises(InputError, match="is labelled data"):
        sentemb.adapt(start, [("a cat.", "a dog."), ("a ship.", "a boat.")] * 20, general=general)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        sentemb.adapt(start, text, general=general, out="full")
    assert not list(tmp_path.glob("run*"))


def test_another_text_or_setting_does_not_resume(start, general):
    sentemb.adapt(start, documents_of(10, 20), general=general, out="run", **QUICK)
    with pytest.raises(InputError, match="is already an adaptation"):
        sentemb.adapt(start, documents_of(10, 20), general=general, out="run", **QUICK)
    with pytest.raises(InputError, match="was started with corpus"):
        sentemb.adapt(start, documents_of(11, 20), general=general, out="run", resume=True, **QUICK)
    with pytest.raises(InputError, match="was started with seed 0, not 1"):
        sentemb.adapt(start, documents_of(10, 20), general=general, out="run", resume=True, seed=1, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--init is missing"),
        (["--init", "minilm"], "--corpus is missing"),
        (["--init", "./nowhere", "--corpus", "text.txt"], "there is no"),
        (["--init", "model", "--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--init", "model", "--corpus", "text.txt", "--search", "nowhere"], "--search .*nowhere is not there"),
        (["--init", "model", "--corpus", "text.txt", "--data", "nowhere"], "has no folder downstream"),
        (["--init", "model", "--corpus", "text.txt", "--budget", "1d"], "budget '1d' is not a time"),
        (["--init", "model", "--corpus", "text.txt", "--arms", "lora"], "unknown method 'lora'"),
        (["--resume"], "finds no adaptation"),
        (["--resume", "--out", "nothing"], "nothing is not an adaptation"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, message, start, tmp_path, capsys):
    start.save("model", create_model_card=False)
    Path("text.txt").write_text("\n".join(documents_of(1, 30)[0]), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        recipe.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert not Path("runs").exists() and not Path("nothing").exists()


def test_the_command_prints_the_verdict_and_resumes(start, general, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "general_quality", lambda data: general)
    start.save("model", create_model_card=False)
    Path("text.txt").write_text("\n\n".join("\n".join(lines) for lines in documents_of(10, 20)), encoding="utf-8")
    recipe.main(["--init", "model", "--corpus", "text.txt", "--budget", "6s"])
    out = capsys.readouterr().out
    assert "too small to tell" in out and str(Path("runs/adapt/report.html")) in out
    assert "time: 0 min 0 s of the budget of 0 min 6 s; " in out
    recipe.main(["--resume"])
    assert "too small to tell" in capsys.readouterr().out
    recipe.main(["--init", "model", "--corpus", "text.txt", "--budget", "6s"])
    assert Path("runs/adapt-2/report.html").is_file()


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "recipes/adapt.py", "--help"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--max-general-loss" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "sentence_transformers", "datasets", "pandas", "matplotlib"}
