"""Threads: what the user sets is used, what a launcher sets by itself is not."""

import pytest
import torch

from recipes.sweep import _threads
from sentemb.errors import InputError
from sentemb.training import usable_cores, use_threads
from sentemb.training.hardware import LAUNCHED


@pytest.fixture
def threads(monkeypatch):
    """Torch's threads after ``use_threads(wanted)`` under these variables; put back at the end."""
    before = torch.get_num_threads()

    def used(wanted: int | None = None, **variables: str) -> int:
        for name in (*LAUNCHED, "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        use_threads(wanted)
        return torch.get_num_threads()

    yield used
    torch.set_num_threads(before)


def test_threads_are_the_flags_then_the_environments_then_all_cores(threads):
    assert threads() == usable_cores()
    assert threads(OMP_NUM_THREADS="1") == 1 and threads(OMP_NUM_THREADS="3,2") == 3
    assert threads(2, OMP_NUM_THREADS="3") == 2 and threads(1) == 1
    for unusable in ("", "0", "-1", "many"):
        assert threads(OMP_NUM_THREADS=unusable) == usable_cores()
    with pytest.raises(InputError, match="--threads must be at least 1, got 0"):
        threads(0)


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_the_one_thread_that_a_launcher_sets_is_not_the_users(threads, launcher):
    below = {launcher: "x", "LOCAL_WORLD_SIZE": "2"}
    assert threads(**below, OMP_NUM_THREADS="1") == max(1, usable_cores() // 2)
    assert threads(**below, OMP_NUM_THREADS="3") == 3 and threads(1, **below) == 1


def test_an_encoder_of_a_study_has_one_thread_where_the_jobs_are_given(monkeypatch):
    for name in (*LAUNCHED, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert _threads(1, True) == 1 and _threads(1, False) == usable_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _threads(1, True) == 2 == _threads(4, False)
