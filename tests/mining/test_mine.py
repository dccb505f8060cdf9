"""Hard negatives of a corpus: found once, the same after kills, and never a copy of the anchor or a positive."""

import os
import pickle
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from sentemb.corpus import open_corpus
from sentemb.encoders import read_model, tokenizer_of
from sentemb.errors import InputError
from sentemb.mining import MinedSpec, MiningTask, candidate_pool, finished_miner, mine_negatives, search_by_model
from sentemb.mining import mine as mine_module
from sentemb.pairs import neighbours
from tests.kills import exit_code_of, kill_in

NOUNS = ("cat", "dog", "king", "queen", "ship", "poet", "child", "judge")
DOCUMENTS = [[f"the {a} sees the {b}", "it rains"][: 1 + i % 2] for i, a in enumerate(NOUNS) for b in NOUNS]
DOCUMENTS = [[sentence for document in DOCUMENTS[i : i + 8] for sentence in document] for i in range(0, 64, 8)]
LENGTH = 12


def task_of(model: str, spec: MinedSpec, progress: bool = False) -> MiningTask:
    corpus = open_corpus(DOCUMENTS, progress=progress)
    tokens = corpus.tokens(tokenizer_of(read_model(Path(model), "cpu")), LENGTH)
    pairs = neighbours(np.stack([corpus.documents[:-1], corpus.documents[1:]], axis=1))
    return MiningTask(corpus, tokens, pairs, candidate_pool(pairs, tokens.distinct(), spec.pool, 0), spec)


def mined(task: MiningTask):
    miner = finished_miner(task.spec.by)
    return mine_negatives(task, miner.fingerprint, lambda: search_by_model(miner, task, LENGTH, "cpu", False))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("margin", ["none", 0.05])
def test_negatives_are_the_nearest_that_may_be_one(margin, tiny):
    """A loop over the embeddings that ``encode`` gives."""
    spec = MinedSpec(tiny, per_anchor=3, pool=30, skip=2, margin=margin)
    task = task_of(tiny, spec)
    texts = task.corpus.sentences(slice(0, len(task.corpus)))
    model = read_model(Path(tiny), "cpu")
    model.max_seq_length = LENGTH
    rows = model.encode(texts).astype(np.float16).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores, pairs = (rows @ rows.T).astype(np.float32), np.asarray(task.pairs.rows)
    rows_of_pairs = mined(task).of(np.arange(len(pairs)))
    assert rows_of_pairs.shape == (len(pairs), 3) and (rows_of_pairs >= 0).any()
    for (anchor, positive), chosen in zip(pairs, rows_of_pairs, strict=True):
        copies = {texts[anchor]} | {texts[p] for a, p in pairs if texts[a] == texts[anchor]}
        assert not copies & {texts[row] for row in chosen if row >= 0}
        ranked = np.sort(np.array([scores[anchor, row] for row in task.pool if texts[row] not in copies]))[::-1][2:]
        if margin != "none":
            ranked = ranked[ranked <= scores[anchor, positive] - margin * abs(scores[anchor, positive])]
        # (float16 embeddings of encode's batches differ in the last bit: scores, and not sentences, are compared)
        chosen = chosen[chosen >= 0]
        assert len(chosen) == pytest.approx(min(3, len(ranked)), abs=1)
        shared = min(len(chosen), len(ranked))
        assert scores[anchor, chosen][:shared] == pytest.approx(ranked[:shared], abs=2e-3)


def test_they_are_in_the_cache_and_open_in_another_process(tiny, monkeypatch):
    task = task_of(tiny, MinedSpec(tiny, per_anchor=2, pool=0, skip=1))
    first = mined(task)
    monkeypatch.setattr(mine_module, "_write", lambda *_: pytest.fail("found again"))
    again = mined(task)
    assert again.folder == first.folder and first.per_pair == 2
    numbers = np.array([5, 0])
    assert (pickle.loads(pickle.dumps(again)).of(numbers) == first.of(numbers)).all()
    rows = np.fromfile(first.folder / "negatives.i32", dtype="<i4")
    assert first.missing == (rows < 0).sum() and len(rows) == 2 * len(task.pairs)


def test_what_decides_them_has_files_of_its_own(tiny):
    keys = {
        task_of(tiny, MinedSpec(tiny, **options)).key("miner")
        for options in (
            {"per_anchor": 2, "pool": 0, "skip": 1},
            {"per_anchor": 3, "pool": 0, "skip": 1},
            {"per_anchor": 2, "pool": 20, "skip": 1},
            {"per_anchor": 2, "pool": 0, "skip": 2},
            {"per_anchor": 2, "pool": 0, "skip": 1, "margin": 0.1},
            {"per_anchor": 2, "pool": 0, "skip": 1, "margin": "none"},
        )
    }
    assert len(keys) == 6
    plain = {"per_anchor": 2, "pool": 0, "skip": 1}
    assert task_of(tiny, MinedSpec(tiny, **plain, refresh=5)).key("miner") in keys  # the first ones are the same
    assert task_of(tiny, MinedSpec(tiny, **plain)).key("another") not in keys


def test_a_pool_that_is_too_small_is_refused(tiny):
    with pytest.raises(InputError, match=r"pool for hard negatives has 57 distinct sentences of .* skip=10 needs 62"):
        task_of(tiny, MinedSpec("x", per_anchor=50, pool=0))


class Killed(BaseException):
    """As a signal that ends the process: nothing tidies up."""


@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_process_goes_on_and_its_bytes_are_those_of_one_in_one_go(after, tiny, monkeypatch):
    monkeypatch.setattr(mine_module, "CHUNK", 10)
    task = task_of(tiny, MinedSpec(tiny, per_anchor=2, pool=40, skip=1))
    straight = mined(task)
    expected = {path.name: path.read_bytes() for path in straight.folder.iterdir()}
    shutil.rmtree(straight.folder)
    plain, searched = mine_module.ExcludedCandidates.of, []

    def of(self, rows):
        if len(searched) == after:
            raise Killed
        searched.append(len(rows))
        return plain(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(mine_module.ExcludedCandidates, "of", of)
        with pytest.raises(Killed):
            mined(task)
    (work,) = task.corpus.folder.glob(".negatives-*")
    with (work / "negatives.i32").open("ab") as file:
        file.write(b"half of a row that was being written")
    monkeypatch.setattr(
        mine_module.ExcludedCandidates, "of", lambda self, rows: searched.append(len(rows)) or plain(self, rows)
    )
    made = mined(task)
    assert made.folder == straight.folder
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == expected
    assert sum(searched) == len(task.pairs)


def test_what_it_will_take_is_told_before_it_begins(tiny, capsys):
    mined(task_of(tiny, MinedSpec(tiny, per_anchor=2, pool=40, skip=1), progress=True))
    printed = capsys.readouterr().err
    assert "miner: 65 sentences x 32 in float16: 4 kB, about 1 second (" in printed
    assert "negatives: 2 of each of 88 pairs, out of 40 sentences: 1 kB, about 1 second (" in printed
    assert printed.index("miner: ") < printed.index("negatives: ")


KILLS = 6


def mine(model: str, cache: Path, chunks: int | None, before_sync: bool) -> None:
    """Find negatives, ten pairs a chunk; killed in the chunk after ``chunks`` of them, or where it is synced."""
    os.environ["SENTEMB_CACHE"] = str(cache)
    mine_module.CHUNK = 10
    task = task_of(model, MinedSpec(model, per_anchor=2, pool=40, skip=1))
    miner = finished_miner(model)
    search = search_by_model(miner, task, LENGTH, "cpu", False)
    kill_in(mine_module.ExcludedCandidates, "of", chunks, before_sync)
    mine_negatives(task, miner.fingerprint, lambda: search)


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_with_the_same_bytes(tiny, tmp_path):
    assert exit_code_of(mine, tiny, tmp_path / "straight", None, False) == 0
    for kill in range(KILLS):
        assert exit_code_of(mine, tiny, tmp_path / "killed", 1, kill % 2 == 1) == -signal.SIGKILL
    (done,) = (tmp_path / "killed").rglob("done")
    assert int(done.read_text()) > 0
    assert exit_code_of(mine, tiny, tmp_path / "killed", None, False) == 0
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("negatives-*/*")}
        for name in ("straight", "killed")
    ]
    assert files[0] == files[1] and files[0].keys() == {"negatives.i32", "meta.json"}
