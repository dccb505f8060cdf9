"""``--import FILE.py``: what a user's script adds to the tables, in a recipe, its resumption and a study."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sentemb.objectives import OBJECTIVES
from tests.helpers import STATIC, steady

ROOT = Path(__file__).parents[2]
SCRIPT = """
from sentemb import OBJECTIVES
from sentemb.objectives import Objective


class Pulled(Objective):
    '''The mean squared distance of positive pairs, times a factor.'''

    formula, source = "factor * mean_i |x_i - y_i|^2", "a test"

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def loss(self, x, y, extras):
        return self.factor * (x - y).square().sum(dim=1).mean()


OBJECTIVES["pulled"] = Pulled
"""


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "mine_pulled.py"
    path.write_text(SCRIPT)
    yield path
    OBJECTIVES.pop("pulled", None)
    sys.modules.pop("mine_pulled", None)


def test_a_recipe_trains_by_an_imported_objective_and_its_card_names_the_file(recipe, book_file, script, capsys):
    flags = ["--corpus", str(book_file), "--encoder", STATIC, "--batch-size", "16", "--no-score", "--warmup", "1"]
    objective = ["--import", str(script), "--objective", "pulled:factor=0.5"]
    recipe([*flags, *objective, "--max-steps", "4", "--out", "straight"])
    recipe([*flags, *objective, "--max-steps", "2", "--out", "run"])
    assert f"- imports: `['{script}']`" in Path("run/model/README.md").read_text()
    assert json.loads(Path("run/config.json").read_text())["settings"]["objective"] == "pulled:factor=0.5"

    with pytest.raises(SystemExit) as stopped:
        recipe(["--out", "run", "--resume", "--max-steps", "4"])
    assert stopped.value.code == 2 and f"was started with --import {script}" in capsys.readouterr().err
    recipe(["--import", str(script), "--out", "run", "--resume", "--max-steps", "4"])
    assert [record["step"] for record in steady(Path("run"))] == [0, 2, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a Python file; give the path of a .py file"),
        ("import nothing_of_this_name\n", "failed, line 1 (ModuleNotFoundError"),
        ("x = 1\nx.y\n", "failed, line 2 (AttributeError"),
        ("def broken(:\n", "failed (SyntaxError"),
    ],
)
def test_a_script_that_cannot_be_imported_is_one_sentence(recipe, tmp_path, content, message, capsys):
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        recipe(["--import", str(path), "--out", "run"])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and message in printed and printed.count("\n") == 1 and not Path("run").exists()


@pytest.fixture
def sweep(book_file, tmp_path):
    """Runs a study of two encoders whose objective is imported."""
    study = {
        "corpus": str(book_file),
        "base": {"encoder": STATIC, "max_steps": 2, "warmup": 0, "batch_size": 16, "eval_every": 0, "dev": "heldout"},
        "encoders": [{"family": "pulled", "objective": "pulled:factor={f}", "vary": {"f": [0.5, 2.0]}}],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "SENTEMB_CACHE": "cache"}
    environment.pop("SENTEMB_DATA", None)

    def run(*more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "recipes" / "sweep.py"), "--study", "study.yaml", "--out", "out"]
        arguments = [*command, "--folds", "2", "--jobs", "1", *more]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)

    return run


def test_a_study_knows_an_imported_objective(sweep, script):
    without = sweep("--dry-run")
    assert without.returncode == 2 and "pulled" in without.stderr
    listed = sweep("--dry-run", "--import", str(script))
    assert listed.returncode == 0 and "2 encoders" in listed.stdout, listed.stderr


@pytest.mark.slow
def test_a_study_of_an_imported_objective(sweep, script, data, tmp_path):
    done = sweep("--import", str(script), "--data", str(data))
    assert done.returncode == 0, done.stderr
    results = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert list(results["status"]) == ["ok", "ok"], list(results["reason"])
    card = (tmp_path / "out" / "encoders" / results["name"][0] / "model" / "README.md").read_text()
    assert f"- imports: `['{script}']`" in card
    again = sweep("--data", str(data))
    assert again.returncode == 2 and "unknown objective 'pulled'" in again.stderr
