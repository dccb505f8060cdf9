"""Commands and Python of the README, and those that pages mark to run, run at a tiny size; pages are what code says."""

import json
import math
import re
import shlex
from pathlib import Path

import pytest

from eval import senteval
from recipes import sweep, train_bookcorpus, train_distill, train_simcse, train_supervised
from recipes.command import COMMANDS
from recipes.study import read_study, shipped
from sentemb.objectives import OBJECTIVES, reference_page
from tests.documentation.commands import commands_of, spelled_out

README_FOLDER = Path(__file__).parents[1]
README = (README_FOLDER / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((README_FOLDER / "docs").glob("*.md"))}
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
MARKED = re.findall(r"^<!-- run -->\n```bash\n(.*?)^```", "\n".join(PAGES.values()), re.MULTILINE | re.DOTALL)
MODULES = (train_bookcorpus, train_distill, train_simcse, train_supervised)
RECIPES = {f"recipes/{m.__name__.rpartition('.')[2]}.py": m for m in MODULES}
TINY = ["--max-steps", "2", "--batch-size", "8", "--no-score", "--threads", "1"]
SMALL = "rnn:hidden=4,embeddings=random,dim=5,vocabulary=270"  # (MiniLM's embeddings are 47 MB a file)


def commands() -> list[str]:
    """Those of the README, and of the pages' blocks that are marked to run, each once."""
    texts = [*(text for kind, text in BLOCKS if not kind), *MARKED]
    return list(dict.fromkeys(command for text in texts for command in commands_of(text)))


def trained() -> list[str]:
    return [command for command in commands() if "recipes/train" in command]


def test_the_inspecting_commands_run(place):
    from sentemb.inspection.cli import main

    argument_lines = [
        command.partition("sentemb.corpus ")[2]
        for page in PAGES.values()
        for command in commands_of(page)
        if "sentemb.corpus" in command
    ]
    assert len(set(argument_lines)) == 4
    for arguments in argument_lines:
        if not arguments.startswith("BUECHER"):  # (German text)
            main([*shlex.split(arguments), "--no-time"])
    assert (place / "runs" / "look" / "corpus.html").is_file()


def test_the_readme_and_the_pages_have_their_commands():
    recipes = {word for command in trained() for word in command.split() if word.startswith("recipes/")}
    assert recipes == set(RECIPES) and sum("eval.senteval" in command for command in commands()) >= 5
    assert len(trained()) >= 28
    made = {command.split()[1] for command in commands() if command.startswith("make")}
    makefile = (README_FOLDER / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test", "docs"} <= made <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


@pytest.fixture
def place(tmp_path, book_file, nli, monkeypatch):
    """An empty folder with what the README's placeholders stand for: BOOKS, FILE, nli.csv, qa.jsonl."""
    from datasets import Dataset

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    (tmp_path / "BOOKS").mkdir()
    documents = book_file.read_text().split("\n\n")
    for i, document in enumerate(documents):
        (tmp_path / "BOOKS" / f"{i:02}.txt").write_text(document.replace(".\n", ". ") + "\n")
    (tmp_path / "FILE").write_text(book_file.read_text())
    rows = [json.loads(line) for line in nli.read_text().splitlines()]
    Dataset.from_list([dict(zip(("sent0", "sent1", "hard_neg"), row.values(), strict=True)) for row in rows]).to_csv(
        tmp_path / "nli.csv"
    )
    answers = [{"question": row["anchor"], "answer": row["positive"], "topic": i % 3} for i, row in enumerate(rows)]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return tmp_path


def test_commands_of_the_console_script_are_spelled_out():
    text = "sentemb train --lr 1 \\\n    --out a  # a comment\nsentemb evaluate A\nsentemb is one\nsentemb inspect B\n"
    assert commands_of(text) == [
        "python recipes/train_bookcorpus.py --lr 1      --out a",
        "python -m eval.senteval A",
        "python -m sentemb.corpus B",
    ]
    assert {spelled_out(f"sentemb {name}").split()[-1] for name in COMMANDS} > set(RECIPES)


@pytest.mark.parametrize("command", trained())
def test_a_training_command_runs(command, place, tiny):
    words = shlex.split(command)
    at = next(i for i, word in enumerate(words) if word in RECIPES)
    arguments = [*words[at + 1 :], *TINY]
    if "--corpus" not in arguments:  # the built-in sample, which needs a package index
        arguments += ["--corpus", "FILE"]
    if "--preset" in arguments:  # models that only the hub has
        heavy = "mlp=true" if "sup" in command else "mlp=false"
        arguments += ["--encoder", f"transformer:name={tiny},pooling=cls,{heavy}"]
    if "--encoder" in arguments and "hidden=512" in command:
        arguments += ["--encoder", "rnn:hidden=8,gain=15"]
    if not {"--encoder", "--init", "--preset"} & set(arguments) and "bookcorpus" in command:
        arguments += ["--encoder", SMALL]
    if "distill" in command:
        small = f"{SMALL},out=32" if "map=none" in command else SMALL  # (the dimension of the teacher)
        arguments += ["--teacher", tiny, "--encoder", small, "--corpus", "FILE"]  # which has few sentences
    RECIPES[words[at]].main([*arguments, "--out", "run"])
    assert (place / "run" / "model" / "modules.json").is_file() and (place / "run" / "report.html").is_file()


def test_the_studies_of_the_readme_and_of_sweep_are_there():
    listed = commands() + commands_of(PAGES["sweep.md"])
    sweep_commands = [shlex.split(command) for command in listed if "recipes/sweep.py" in command]
    for words in sweep_commands:
        options = sweep.parser().parse_args(words[2:])
        assert read_study(options.study).name == options.study
    assert any("recipes/sweep.py" in command for command in commands())
    assert {words[3] for words in sweep_commands} == set(shipped())


def test_the_page_of_objectives_is_that_of_the_code():
    assert PAGES["objectives.md"] == reference_page.page(), "run: python -m sentemb.objectives > docs/objectives.md"
    for name, kind in OBJECTIVES.items():
        assert kind.formula and kind.source and kind.interchangeable_views.split()[0] in ("yes", "no", "option"), name


def test_the_readme_lists_the_objectives():
    section = README.partition("\n## Objectives\n")[2].partition("\n## ")[0]
    assert {name for name in re.findall(r"`(\w+)`", section)} == set(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_page_counts_negatives_as_the_code_does(name):
    made = OBJECTIVES[name]()
    variables = {"n": 9, "h": 2 if "negatives" in made.needs | made.takes else 0, "same": 0, "math": math}
    variables |= {
        "ceil": math.ceil,
        "queue": 4096,
        "in_batch": 0,
        "negatives": 4096,
        "diagonal": "out",
        "quantile": 0.0819,
    }
    counted = eval(made.negatives_per_anchor, variables)
    if made.contrastive and name not in ("moco", "memory_bank"):  # (which begin empty)
        targets = 1 + (name == "joint_infonce") - (name == "dcl")
        assert made.num_candidates(9, variables["h"]) - targets == counted
    else:
        assert counted in (0, 8, 1, 4096)


@pytest.mark.slow
def test_the_scoring_commands_run(place, folder, capsys):
    for name in ("A", "B", "C", "runs/bookcorpus", "runs/first"):
        train_bookcorpus.main(["--corpus", "FILE", "--encoder", SMALL, *TINY, "--out", name])
    tasks = ["--data", str(folder), "--tasks", "TINY,TINY-STS"]
    scored = [command for command in commands() if "eval.senteval" in command]
    for command in scored:
        arguments = [word for word in shlex.split(command)[3:] if word != "..."]
        with pytest.raises(SystemExit) as stopped:
            senteval.main([*arguments, *tasks])
        assert stopped.value.code == 0, command
        assert "TINY" in capsys.readouterr().out, command
    assert json.loads((place / "scores.json").read_text())


def test_the_python_runs(place, folder, monkeypatch):
    train_bookcorpus.main(["--corpus", "FILE", "--encoder", SMALL, *TINY, "--out", "runs/bookcorpus"])
    python = [text for kind, text in BLOCKS if kind == "python"]
    assert len(python) == 2
    python += [text for text in re.findall(r"^```python\n(.*?)^```", PAGES["evaluation.md"], re.MULTILINE | re.DOTALL)]
    assert sum("SentEvalEvaluator" in text for text in python) == 1
    for text in python:
        if "SentEvalEvaluator" in text:  # its data and trainer stand for the user's
            namespace = {
                "batcher": lambda params, batch: [[1.0, 2.0, 3.0]] * len(batch),
                "prepare": lambda *arguments: None,
            }
            namespace["SentenceTransformerTrainer"] = lambda *arguments, evaluator: evaluator
            text = text.replace('"DIR"', repr(str(folder))).replace('["MR", "STS12", "SICKRelatedness"]', "[]")
            text = text.replace("STS-B,MR", "TINY").replace("...,", "")
            exec(text, namespace)
            assert namespace["results"] == {} and type(namespace["trainer"]).__name__ == "SentEvalEvaluator"
        else:
            exec(text.replace("max_steps=500", "max_steps=3"), {})
