"""benchmarks/regret.py: what regret is, and that the methods of an adaptation are trained alike and judged."""

import math
from pathlib import Path

import numpy as np
import pytest

import sentemb
from benchmarks import regret
from sentemb.adaptation import ARMS, Similarity, search
from sentemb.adaptation.candidates import Candidate
from sentemb.validation import ItemScores
from tests.adaptation.texts import documents_of


@pytest.mark.parametrize(
    ("gains", "chosen", "share"),
    [
        ({"a": 4.0, "b": 3.0}, "a", 0),
        ({"a": 4.0, "b": 3.0}, "b", 0.25),
        ({"a": 4.0, "b": -1.0}, "b", 1.25),
        ({"a": 4.0, "b": 3.0}, "keep", 1),
        ({"a": -4.0, "b": -3.0}, "keep", 0),
        ({"a": -4.0, "b": -3.0}, "b", math.inf),
    ],
)
def test_regret_is_the_share_of_the_best_gain_that_the_choice_misses(gains, chosen, share):
    assert regret.regret_of(gains, chosen) == pytest.approx(share)


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_without_a_gain_beyond_chance_the_regret_says_nothing(gain):
    """Items gain the same each, or nothing."""
    values = np.linspace(0, 1, 50)
    start = {"gain": ItemScores(values, scale=100), "letters": ItemScores(values, scale=100)}
    after = {**start, "gain": ItemScores(values + gain, scale=100)}
    candidates = [Candidate("neighbours", "", after, start, 30), Candidate("dropout", "", start, start, 30)]
    lines = regret.conclusion(candidates, "neighbours", "letters", 0.5)
    assert lines[0] == "regret by gain: 0.0% of the best, neighbours"
    assert any("says nothing" in line for line in lines) == (gain == 0)


@pytest.mark.slow
def test_each_method_gets_the_same_updates_and_nothing_is_done_twice(tmp_path, monkeypatch, encoder, capsys):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)
    model = encoder("static:embeddings=random,dim=24,vocabulary=400,dropout=0.1", max_length=32)
    model.save("model", create_model_card=False)
    text = "\n\n".join("\n".join(lines) for lines in documents_of(60, 60))
    Path("text.txt").write_text(text, encoding="utf-8")
    words = ["".join(np.random.default_rng(i).choice(list("abcdefgh"), 6)) for i in range(240)]
    gold = np.arange(120.0)
    general = Similarity("letters", words[:120], words[120:], gold)
    monkeypatch.setattr(regret, "general_quality", lambda data: general)
    monkeypatch.setattr(search, "affordable_arms", lambda arms, *_: arms)  # (however busy the machine is)
    options = {"general": general, "max_general_loss": 100, "budget": "6s", "lr": 5e-2, "threads": 1}
    sentemb.adapt("model", str(Path("text.txt").resolve()), out="run", **options)
    command = ["run", "--updates", "30", "--batch-size", "16", "--threads", "1", "--out", "again"]
    regret.main(command)
    printed = capsys.readouterr().out
    for name in ("neighbours", "passages", "dropout"):
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert "  30  " in line
    rows = [line for line in printed.splitlines() if line.startswith(tuple(ARMS)) and " less " not in line]
    assert len(rows) == 4
    assert "regret by gain: " in printed and "(chosen)" in printed
    monkeypatch.setattr(regret.Rerun, "_trained", None)
    monkeypatch.setattr(regret.Rerun, "_mapped", None)
    regret.main(command)
    assert capsys.readouterr().out == printed
    command[2] = "31"
    with pytest.raises(SystemExit):
        regret.main(command)
    assert "was begun with" in capsys.readouterr().err


def test_what_is_no_adaptation_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        regret.main([str(tmp_path), "--out", str(tmp_path / "again")])
    assert ended.value.code == 2
    assert "is not a finished adaptation" in capsys.readouterr().err
