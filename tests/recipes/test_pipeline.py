"""The recipe as a user runs it: files it leaves, two processes, resume, and clear errors with exit code 2."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from eval.score_checkpoints import corpus_of
from recipes import train_simcse, train_supervised
from recipes.runner import RecipeSettings
from recipes.runner.presets import presets, with_preset
from sentemb.corpus import sources
from sentemb.encoders import ENCODERS, load
from sentemb.errors import InputError
from sentemb.objectives import OBJECTIVES
from sentemb.pipeline import RunSettings, check_specs, default_settings
from sentemb.registry import check
from tests.helpers import TINY, records, steady, torchrun

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "train_bookcorpus.py"
SMALL = "rnn:hidden=6,embeddings=random,dim=8,vocabulary=300"  # (MiniLM's embeddings are 47 MB a file)


def test_a_run_leaves_what_it_promises(recipe, book_file, tmp_path, capsys):
    recipe(["--corpus", str(book_file), *TINY, "--eval-every", "2", "--save-every", "3"])
    out = capsys.readouterr().out.splitlines()
    run = tmp_path / "runs" / "bookcorpus"
    assert out[0] == out[-1] == "run folder: runs/bookcorpus" and "in-batch negatives per anchor" in out[1]
    assert sorted(p.name for p in run.iterdir()) == sorted(
        ["best", "checkpoints", "config.json", "last", "log.jsonl", "model", "report.html", "scores.json"]
    )
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-3", "step-5"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log if "retrieval_mrr" in r] == [0, 2, 4, 5]
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["corpus"] == str(book_file) and config["corpus"]["documents"] == 12
    rows = json.loads((run / "scores.json").read_text())["rows"]
    assert [row["encoder"] for row in rows] == ["random rnn", "trained", "averaged random embeddings"]
    assert rows[1]["retrieval_mrr"] == pytest.approx(log[-1]["retrieval_mrr"], abs=1e-6)
    assert SentenceTransformer(str(run / "model")).encode("hello").shape == (12,)
    assert "SentenceTransformer(PATH)" in (run / "model" / "README.md").read_text()

    recipe(["--corpus", str(book_file), *TINY])  # never overwritten: the next free name
    assert (tmp_path / "runs" / "bookcorpus-2" / "model").is_dir()


def test_the_same_command_twice_gives_the_same_log(recipe, book_file, tmp_path):
    for name in ("a", "b"):
        recipe(["--corpus", str(book_file), *TINY, "--out", name])
    assert steady(tmp_path / "a") == steady(tmp_path / "b")


def test_resume_continues_or_says_it_is_finished(recipe, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), *TINY, "--save-every", "2"]
    recipe([*start, "--out", "a"])
    recipe([*start, "--out", "b", "--resume"])  # nothing there yet: from step 0
    assert steady(tmp_path / "a") == steady(tmp_path / "b")
    for lost in ("model", "report.html", "checkpoints/step-5", "checkpoints/step-4"):
        (tmp_path / "b" / lost).rename(tmp_path / lost.replace("/", "-"))
    recipe(["--out", "b", "--resume"])  # settings come from the run
    assert steady(tmp_path / "a") == steady(tmp_path / "b")
    a, b = (SentenceTransformer(str(tmp_path / name / "model")).encode("the cat sees") for name in "ab")
    assert np.array_equal(a, b)
    capsys.readouterr()
    recipe(["--out", "b", "--resume"])
    assert "finished" in capsys.readouterr().out


def test_a_folder_called_sample_is_not_what_sample_means(recipe, book_file, tmp_path, monkeypatch, capsys):
    built_in = partial(sources.lines_of, str(book_file))
    monkeypatch.setitem(sources.CORPORA, "sample", lambda progress=True: built_in())  # (without the package index)
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "a.txt").write_text("Another book. " * 9)
    recipe(["--corpus", "sample", *TINY, "--out", "a"])
    assert "note: sample is the built-in corpus, not the sample in this folder; write ./s" in capsys.readouterr().out
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["settings"]["corpus"] == "sample" and config["corpus"]["name"] == "file books.txt"
    assert corpus_of(tmp_path / "a") == "sample"


def test_a_run_with_paths_inside_of_specs_resumes_from_another_folder(recipe, book_file, tmp_path, monkeypatch):
    rows = [line for line in book_file.read_text().splitlines() if line]
    (tmp_path / "a, b.csv").write_text("text,book\n" + "".join(f"{row},{n // 12}\n" for n, row in enumerate(rows)))
    words = sorted({word for row in rows for word in row.replace(".", " .").split()})
    (tmp_path / "words.txt").write_text("".join(f"{w} {n / 9:.3f} {n % 7} 1\n" for n, w in enumerate(words)))
    start = ["--corpus", 'table:path="a, b.csv",document=book', "--encoder", "rnn:hidden=4,embeddings=words.txt"]
    start += [*TINY[2:], "--save-every", "2"]
    recipe([*start, "--out", "straight"])
    recipe([*start, "--out", "cut"])
    for lost in ("model", "report.html", "checkpoints/step-5"):
        (tmp_path / "cut" / lost).rename(tmp_path / lost.replace("/", "-"))
    settings = json.loads((tmp_path / "cut" / "config.json").read_text())["settings"]
    assert settings["corpus"] == f'table:path="{tmp_path}/a, b.csv",document=book'
    assert settings["encoder"] == f"rnn:hidden=4,embeddings={tmp_path}/words.txt"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe(["--out", "../cut", "--resume"])
    assert steady(tmp_path / "cut") == steady(tmp_path / "straight")
    config = tmp_path / "cut" / "config.json"  # as versions before wrote it, and from the folder of the first command
    config.write_text(config.read_text().replace(f"{tmp_path}/", ""))
    (tmp_path / "cut" / "report.html").unlink()
    monkeypatch.chdir(tmp_path)
    recipe(["--out", "cut", "--resume", *start])


def test_weight_decay_has_a_flag(recipe, book_file, tmp_path):
    lengths = []
    for decay in ("0", "5"):
        recipe(["--corpus", str(book_file), *TINY, "--lr", "0.01", "--weight-decay", decay, "--out", decay])
        assert json.loads((tmp_path / decay / "config.json").read_text())["settings"]["weight_decay"] == float(decay)
        weights = SentenceTransformer(str(tmp_path / decay / "model")).state_dict()
        lengths.append(sum(float(value.norm()) for value in weights.values() if value.is_floating_point()))
    assert lengths[1] < 0.95 * lengths[0]
    recipe(["--out", "0", "--resume", "--weight-decay", "0"])
    with pytest.raises(SystemExit):
        recipe(["--out", "0", "--resume", "--weight-decay", "1"])


def test_a_gru_loads_with_sentemb(recipe, book_file, tmp_path):
    import sentemb

    recipe(["--corpus", str(book_file), *TINY, "--encoder", "rnn:cell=gru,hidden=6", "--out", "g"])
    assert sentemb.load(tmp_path / "g").encode("hello").shape == (12,)
    assert "sentemb.load(PATH)" in (tmp_path / "g" / "model" / "README.md").read_text()


def test_a_tracker_gets_the_numbers(recipe, book_file, tmp_path):
    recipe(["--corpus", str(book_file), *TINY, "--track", "tensorboard"])
    assert list((tmp_path / "runs" / "bookcorpus").rglob("events.out.tfevents*"))
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["bookcorpus"]


def test_two_processes_train_together(book_file, tmp_path):
    arguments = ["--corpus", str(book_file), *TINY, "--out", str(tmp_path / "two"), "--save-every", "5"]
    done = torchrun(str(RECIPE), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes on cpu" in done.stdout and "32 in all, 31 in-batch negatives" in done.stdout
    assert done.stdout.count("run folder:") == 2 and (tmp_path / "two" / "report.html").is_file()


WRONG = {
    "unknown objective": (["--objective", "infonec"], "did you mean 'infonce'"),
    "unknown option": (["--objective", "infonce:temp=1"], "did you mean 'temperature'"),
    "unknown encoder": (["--encoder", "lstm"], "valid: rnn, static, transformer"),
    "unknown pairs": (["--pairs", "neighbors"], "did you mean 'neighbours'"),
    "value out of range": (["--objective", "infonce:temperature=0"], "temperature must be a positive number"),
    "missing corpus": (["--corpus", "nowhere"], "nowhere"),
    "empty corpus": (["--corpus", "empty.txt"], "holds no sentence"),
    "binary corpus": (["--corpus", "binary.txt"], "not plain text"),
    "lonely sentences": (["--corpus", "lonely.txt"], "no neighbour pair"),
    "a used folder": (["--out", "used"], "used is already a run"),
    "a full folder": (["--out", "full"], "exists and is not empty"),
    "hub without network": (["--encoder", "transformer:name=no-such/model"], "without a network choose"),
    "batch size": (["--batch-size", "1"], "batch-size must be at least 2"),
    "tracker": (["--track", "tensorbord"], "did you mean 'tensorboard'"),
    "data": (["--data", "nowhere"], "no folder downstream/"),
    "resume without a run": (["--resume"], "finds no run in runs/bookcorpus"),
    "init and encoder": (["--init", "minilm", "--encoder", "rnn"], "give one of them"),
    "init that is nowhere": (["--init", "no/such"], "no model 'no/such' here or on the hub"),
    "towers": (["--towers", "3"], "towers must be 1 or 2"),
    "head": (["--head", "mpl"], "did you mean 'mlp'"),
    "runs for joint": (["--objective", "joint_infonce"], "choose --pairs contiguous"),
    "attention of an LSTM": (["--attention", "packed"], "option of transformer encoders"),
    "attention": (["--attention", "flash"], "unknown attention"),
    "precision": (["--precision", "bf32"], "did you mean 'bf16'"),
    "dropout pairs": (["--pairs", "dropout"], "this one has none"),
    "mlm of an LSTM": (["--mlm", "0.1"], "mlm needs one transformer"),
    "micro-batch": (["--micro-batch", "-1"], "micro-batch must be at least 0"),
    "max-pairs": (["--max-pairs", "1"], "max-pairs must be at least 2"),
    "dev without data": (["--dev", "stsb"], "STS-B needs SentEval's data"),
    "labelled pairs of books": (["--pairs", "labelled"], "labelled pairs need a labelled corpus"),
    "preset": (["--preset", "simcse"], "unknown preset"),
    "preset of another recipe": (["--preset", "simcse-bert-base"], "is for recipes/train_simcse.py"),
    "resume with other settings": (["--resume", "--out", "used", "--lr", "7"], "was started with --lr 0.1, not 7.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(case, recipe, book_file, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "lonely.txt").write_text("One sentence.\n\nAnother one.\n")
    for name in ("used", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "used" / "config.json").write_text(json.dumps({"settings": {"lr": 0.1, "corpus": str(book_file)}}))
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    arguments, message = WRONG[case]
    with pytest.raises(SystemExit) as stopped:
        recipe(["--corpus", str(book_file), "--no-score", *arguments])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and message in error and error.startswith("error: ")
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before


def test_help_teaches_and_the_exit_code_reaches_the_shell(tmp_path):
    shown = subprocess.run([sys.executable, RECIPE, "--help"], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0 and "python recipes/train_bookcorpus.py" in shown.stdout
    wrong = subprocess.run(
        [sys.executable, RECIPE, "--objective", "none"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr and not list(tmp_path.iterdir())


FEW = ["--batch-size", "8", "--max-steps", "3", "--no-score"]


def test_simcse_of_a_finished_model(recipe, book_file, tmp_path, capsys):
    train_simcse.main(["--corpus", str(book_file), "--init", "minilm", "--max-pairs", "40", *FEW, "--select", "best"])
    printed = capsys.readouterr().out
    assert "run folder: runs/simcse" in printed and "attention packed" in printed
    run = tmp_path / "runs" / "simcse"
    log = records(run)
    assert log[0]["attention"] == "packed" and log[0]["alignment"] > 0 and log[0]["step"] == 0
    selected = json.loads((run / "best" / "selected.json").read_text())
    values = {r["step"]: r["retrieval_mrr"] for r in log if "retrieval_mrr" in r}
    assert selected["retrieval_mrr"] == max(values.values()) == values[selected["step"]] and 0 in values
    a, b = (SentenceTransformer(str(run / name)).encode("hello") for name in ("best", "model"))
    assert np.array_equal(a, b)
    model = SentenceTransformer(str(run / "last"))
    assert model.max_seq_length == 256 and len(model) == 3  # the finished model's own, not the training's 32 tokens


def test_simcse_with_head_and_masked_words_keeps_neither(recipe, book_file, tmp_path):
    start = ["--corpus", str(book_file), *FEW, "--mlm", "0.1", "--head", "mlp", "--out", "s", "--micro-batch", "4"]
    train_simcse.main(start)
    assert [r["type"].rsplit(".")[-1] for r in json.loads((tmp_path / "s/model/modules.json").read_text())] == [
        "Transformer",
        "Pooling",
    ]
    assert SentenceTransformer(str(tmp_path / "s" / "model")).encode("hello").shape == (384,)


def test_dropout_0_is_refused_and_forced_it_is_told(recipe, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), *FEW, "--encoder", "transformer:dropout=0", "--out", "s"]
    with pytest.raises(SystemExit):
        train_simcse.main(start)
    assert "--force" in capsys.readouterr().err and not (tmp_path / "s").exists()
    train_simcse.main([*start, "--force"])
    assert "both views of each sentence are identical" in capsys.readouterr().err
    assert "warnings" in records(tmp_path / "s")[0]


def test_supervised_with_hard_negatives(recipe, nli, tmp_path, capsys):
    train_supervised.main(["--corpus", str(nli), *FEW, "--objective", "infonce:hard_weight=1", "--out", "s"])
    printed = capsys.readouterr().out
    assert "15 in-batch negatives per anchor" in printed  # 7 positives and 8 hard negatives
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    assert config["corpus"]["pairs"] == 19 and config["settings"]["corpus"] == f"labelled:path={nli}"
    log = records(tmp_path / "s")
    assert log[0]["loss_reference"] == pytest.approx(np.log(15 + np.e)) and log[-1]["loss"] < log[0]["loss"] + 1


def test_classes_of_labelled_rows_are_what_supcon_learns_from(recipe, nli, tmp_path, capsys):
    rows = [json.loads(line) | {"topic": number % 3} for number, line in enumerate(nli.read_text().splitlines())]
    path = tmp_path / "topics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = [*FEW, "--encoder", "rnn:hidden=4", "--objective", "supcon"]
    corpus = f"labelled:path={path},negatives=none,label=topic"
    train_supervised.main(["--corpus", corpus, *small, "--out", "s"])
    assert "those of its own class are its targets" in capsys.readouterr().out
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    assert config["corpus"]["sentences"] == 24 * 3 and "classes" in config["corpus"]["name"]
    wrong = {
        f"labelled:path={path},negatives=none": "label=COLUMN",
        f"labelled:path={path},label=subject": "no column 'subject'",
        f"labelled:path={path},label=topic": "takes no hard negatives",
    }
    for spec, message in wrong.items():
        with pytest.raises(SystemExit) as stopped:
            train_supervised.main(["--corpus", spec, *small, "--out", "w"])
        assert stopped.value.code == 2 and message in capsys.readouterr().err and not (tmp_path / "w").exists()


def test_hard_negatives_must_be_there_for_those_who_need_them(recipe, nli, tmp_path, capsys):
    small = [*FEW, "--encoder", "rnn:hidden=4", "--objective", "hard_negatives:weight=1"]
    train_supervised.main(["--corpus", str(nli), *small, "--out", "s"])
    assert "15 in-batch negatives per anchor" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train_supervised.main(["--corpus", f"labelled:path={nli},negatives=none", *small, "--out", "w"])
    assert "needs hard negatives" in capsys.readouterr().err


PLAIN = [name for name, kind in OBJECTIVES.items() if not kind().needs - {"targets"}]
SOME = ("align_uniform", "memory_bank", "byol")  # some kinds; SENTEMB_SLOW=1 runs all, which takes minutes


@pytest.fixture(scope="session")
def novels(real_data, tmp_path_factory) -> Path:
    """Two of the real books, and next to them the cache of their text."""
    place = tmp_path_factory.mktemp("novels")
    (place / "books").mkdir()
    for book in sorted((real_data / "books").rglob("*.txt"), key=lambda path: path.stat().st_size)[:2]:
        shutil.copy(book, place / "books")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(PLAIN if os.environ.get("SENTEMB_SLOW") else SOME), "joint_infonce", "cpc:offsets=3"]
)
def test_every_objective_trains_on_real_books(name, recipe, novels, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(novels / "cache"))
    runs = ["--pairs", "contiguous"] if name not in PLAIN else []
    small = ["--encoder", SMALL, "--batch-size", "32", "--max-steps", "8", "--warmup", "1", "--no-score"]
    recipe(["--corpus", str(novels / "books"), *small, *runs, "--objective", name, "--out", "r", "--eval-every", "0"])
    log = records(tmp_path / "r")
    assert [record["step"] for record in log] == [0, 8]
    assert log[-1]["gradient_norm"] > 0 and all(np.isfinite(record["loss"]) for record in log)
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["corpus"]["documents"] == 2 and config["settings"]["objective"] == name
    # neither what an objective learns nor its momentum encoder is part of the model
    assert SentenceTransformer(str(tmp_path / "r" / "model")).encode("hello").shape == (12,)


def test_supervised_with_two_towers_and_dot_product(recipe, nli, tmp_path):
    train_supervised.main(["--corpus", str(nli), *FEW, "--preset", "dpr-bert-base", "--encoder", "rnn:hidden=4",
                           "--out", "d", "--warmup", "1"])  # fmt: skip
    model = load(tmp_path / "d")
    assert (
        model.encode("hello").shape == (16,)
        and "sentemb.load(PATH)" in (tmp_path / "d" / "model" / "README.md").read_text()
    )
    f, g = (SentenceTransformer(str(tmp_path / "d" / "model" / name)).encode("The cat sees.") for name in "fg")
    assert not np.allclose(f, g)  # an encoder for each side
    assert (
        np.abs(np.concatenate([f / np.linalg.norm(f), g / np.linalg.norm(g)]) - model.encode("The cat sees.")).max()
        < 1e-6
    )


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("a.csv", "x\n1\n", "needs two columns of text"),
        ("a.csv", "anchor,positive\nhello,there\nhi,\n", "row 2 of .* has nothing in 'positive'"),
        ("a.txt", "hello", "is none of .jsonl"),
        ("a.tsv", "sent0\tsent1\nA b.\tC d.\n", "takes no hard|too few|no pair"),
    ],
)
def test_labelled_files_that_cannot_be_used(name, text, pattern, recipe, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit) as stopped:
        train_supervised.main(["--corpus", name, *FEW])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and re.search(pattern, error), error
    assert not (tmp_path / "runs").exists()


def test_supervised_needs_its_rows(recipe, capsys):
    with pytest.raises(SystemExit):
        train_supervised.main(FEW)
    assert "--corpus is needed" in capsys.readouterr().err


def test_csv_tsv_parquet_and_jsonl_are_the_same_rows(recipe, tmp_path):
    from datasets import Dataset

    from sentemb.corpus import open_corpus

    rows = {"sent0": ["A b.", "C d."], "sent1": ["E f.", "G, h."], "hard_neg": ["I j.", "K l."]}
    data = Dataset.from_dict(rows)
    data.to_csv(tmp_path / "a.csv")
    data.to_csv(tmp_path / "a.tsv", sep="\t")
    data.to_json(tmp_path / "a.jsonl")
    data.to_parquet(tmp_path / "a.parquet")
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        corpus = open_corpus(f"labelled:path={tmp_path / 'a'}.{suffix}", progress=False)
        assert corpus.sentences(slice(0, 6)) == ["A b.", "E f.", "I j.", "C d.", "G, h.", "K l."]
    corpus = open_corpus(f"labelled:path={tmp_path / 'a.csv'},anchor=sent1,positive=hard_neg", progress=False)
    assert corpus.sentences(slice(0, 2)) == ["E f.", "I j."]
    without = open_corpus(f"labelled:path={tmp_path / 'a.csv'},negatives=none", progress=False)
    assert len(without) == 4


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_set_of_usable_settings(name):
    preset = presets()[name]
    assert set(preset) - {"recipe"} <= set(default_settings()), name
    options = with_preset({"preset": name, "lr": 7.0}, preset["recipe"])
    assert options["lr"] == 7.0  # what is given next to it holds
    recipe = {"train_simcse": train_simcse, "train_supervised": train_supervised}.get(preset["recipe"])
    settings = RecipeSettings.of(default_settings() | (recipe.DEFAULTS if recipe else {}) | options, RunSettings())
    check_specs(settings.data, settings.encoder, settings.pairs, settings.objective)
    with pytest.raises(InputError, match="recipes/"):
        with_preset({"preset": name}, "train_other")


FINAL_STATES = {  # what papers and code say, in the terms of the recipe
    "quick-thoughts": ("joint_infonce:score=dot,temperature=1,diagonal=zero", 5.0, 0.1),
    "wang-isola-2020": ("joint_infonce:temperature=0.075,diagonal=in", 0.5, 0.0),
}


@pytest.mark.parametrize("name", FINAL_STATES)
def test_presets_of_final_states_are_the_papers_and_train(name, recipe, book_file, tmp_path):
    objective, clip, init_range = FINAL_STATES[name]
    preset = presets()[name]
    _, options = check(ENCODERS, preset["encoder"], "encoder", ("texts", "max_length"))
    sizes = {"hidden": 600, "dim": 620, "vocabulary": 50_000, "cell": "gru", "pooling": "final"}
    assert options == sizes | {"embeddings": "random"} | ({"init_range": init_range} if init_range else {})
    papers = {
        **{"recipe": "train_bookcorpus", "towers": 2, "pairs": "contiguous", "objective": objective, "clip": clip},
        **{"lr": 5e-4, "optimizer": "adam:beta1=0.9,beta2=0.999,eps=1e-8", "schedule": "constant", "warmup": 0},
        **{"batch_size": 400, "max_length": 30, "epochs": 1, "precision": "no", "encoder": preset["encoder"]},
    }
    assert preset == papers
    small = preset["encoder"].replace("600", "4").replace("620", "6").replace("50000", "270")
    few = ["--batch-size", "8", "--max-steps", "3", "--log-every", "1", "--no-score", "--corpus", str(book_file)]
    recipe([*few, "--preset", name, "--encoder", small, "--out", "q"])
    model = load(tmp_path / "q")
    assert model.encode("hello").shape == (16,)
    f, g = model[0].f, model[0].g
    for tower in (f, g):  # which has learned from embeddings of its own
        assert [type(module).__name__ for module in tower] == ["WordEmbeddings", "GRU", "FinalStates"]
        assert tower[1].encoder.bidirectional and tower[0].emb_layer.weight.requires_grad
        spread = tower[0].emb_layer.weight.std().item()
        assert spread == pytest.approx(init_range / 3**0.5 if init_range else 6**-0.5, rel=0.1)
    assert not torch.equal(f[0].emb_layer.weight, g[0].emb_layer.weight)
    assert [record["lr"] for record in records(tmp_path / "q")[1:]] == [5e-4] * 3
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert "consecutive sentences" in config["description"] and config["settings"]["clip"] == clip


@pytest.mark.slow
def test_compiled_training_equals_plain(recipe, book_file, tmp_path):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    start = ["--corpus", str(book_file), *TINY, "--encoder", "static:embeddings=random,dim=5,vocabulary=270"]
    recipe([*start, "--out", "a"])
    recipe([*start, "--out", "b", "--compile"])
    for a, b in zip(records(tmp_path / "a"), records(tmp_path / "b"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)
