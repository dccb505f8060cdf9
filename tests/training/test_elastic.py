"""Runs that go on with other processes: the same ones to the bit, more or fewer with the same pairs in each update."""

import json

import pytest

from tests.helpers import records
from tests.robustness import faults


def arguments(folder, name: str, encoder: str, pairs: int) -> list[str]:
    corpus = faults.write_corpus(folder / "text.txt")
    return [
        *("--corpus", str(corpus), "--encoder", encoder, "--batch-size", str(pairs), "--max-steps", "12"),
        *("--save-every", "4", "--log-every", "1", "--no-score", "--warmup", "2", "--precision", "no"),
        *("--eval-every", "0", "--out", str(folder / name)),
    ]


@pytest.mark.slow
def test_elastic_on_as_many_processes_changes_nothing(tmp_path):
    encoder = faults.KINDS["rnn"]
    faults.finish(faults.start(arguments(tmp_path, "straight", encoder, 8), tmp_path, world=2), tmp_path)
    stopped = faults.start(arguments(tmp_path, "stopped", encoder, 8), tmp_path, world=2, stop=6)
    faults.finish(stopped, tmp_path, killed=True)
    resumed = ["--resume", "--elastic", "--out", str(tmp_path / "stopped")]
    faults.finish(faults.start(resumed, tmp_path, world=2), tmp_path)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert faults.steady(stopped) == faults.steady(straight)
    assert faults.weights(stopped / "model") == faults.weights(straight / "model")


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_shared_unevenly_and_stays_what_it_is(tmp_path):
    encoder = faults.KINDS["static"].replace("dropout=0.3", "dropout=0")
    faults.finish(faults.start(arguments(tmp_path, "straight", encoder, 16), tmp_path), tmp_path)
    faults.finish(faults.start(arguments(tmp_path, "run", encoder, 16), tmp_path, stop=4), tmp_path, killed=True)
    resumed = ["--resume", "--out", str(tmp_path / "run"), "--elastic"]
    faults.finish(faults.start(resumed, tmp_path, world=3, stop=8), tmp_path, killed=True)
    printed = (tmp_path / "printed-0").read_text()
    assert "begun on 1 process, now 3 with 5 or 6 pairs each" in printed and "16 in all" in printed
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["world_size"], config["settings"]["batch_size"], config["global_batch"]) == (3, 6, 16)
    faults.finish(faults.start([*resumed, "--batch-size", "16"], tmp_path, world=2), tmp_path)  # as it was begun
    straight, run = records(tmp_path / "straight"), records(tmp_path / "run")
    seen = [[(record["step"], record["batch"], record["pairs_seen"]) for record in log] for log in (straight, run)]
    assert seen[0] == seen[1]
    assert [record["loss"] for record in run] == pytest.approx([record["loss"] for record in straight], rel=1e-4)
