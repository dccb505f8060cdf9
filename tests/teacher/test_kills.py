"""A teacher's pass that is killed again and again ends with the bytes of a pass in one go."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from sentemb.corpus import open_corpus
from sentemb.teacher import TeacherFolder, embed_corpus, parse_teacher
from sentemb.teacher import embeddings as embeddings_module
from sentemb.teacher.model import TeacherModel
from tests.kills import exit_code_of, kill_in
from tests.teacher.test_teacher import LENGTH, TEXTS

KILLS = 10


def embed(teacher: str, cache: Path, batches: int | None, before_sync: bool) -> None:
    """Embed the texts in chunks of two; killed in the batch after ``batches`` of them, or where rows are synced."""
    os.environ["SENTEMB_CACHE"] = str(cache)
    embeddings_module.CHUNK = 2
    kill_in(TeacherModel, "embed", batches, before_sync)
    corpus = open_corpus([TEXTS[:15], TEXTS[15:]])
    every = np.array([[0, len(corpus)]])
    embed_corpus(TeacherFolder(parse_teacher(f"{teacher}:layers=1-2")), corpus, every, LENGTH)


def files(cache: Path) -> dict[str, bytes]:
    """What a pass has left in the cache: embeddings, numbers and shape."""
    return {path.name: path.read_bytes() for path in cache.rglob("teacher-*/*")}


@pytest.mark.slow
def test_a_pass_killed_ten_times_is_equal_to_the_byte(bert, tmp_path):
    assert exit_code_of(embed, bert, tmp_path / "straight", None, False) == 0
    for kill in range(KILLS):
        # (a measurement's two batches come before the first chunk's)
        assert exit_code_of(embed, bert, tmp_path / "killed", 3, kill % 2 == 1) == -signal.SIGKILL
    (done,) = (tmp_path / "killed").rglob("done")
    assert int(done.read_text()) > 0
    assert exit_code_of(embed, bert, tmp_path / "killed", None, False) == 0
    straight = files(tmp_path / "straight")
    assert set(straight) >= {"embeddings.f16", "numbers.npy", "meta.json"}
    assert files(tmp_path / "killed") == straight
