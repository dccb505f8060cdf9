"""Which process is missing: what is heard of the others, what is said of them, and who ends without them."""

import os
import signal
import socket

import pytest

from sentemb.training.heartbeat import ENDED, LEFT, Member, Signs, lost_process
from tests.robustness import faults

CAUSES = "(host down or cut off, or process stopped or killed)"


def signs_of(*hosts: str, rank: int = 0, store: str = "a") -> Signs:
    return Signs([Member(number, host, host == store) for number, host in enumerate(hosts)], rank, now=100.0)


def test_a_process_is_silent_since_its_value_changed_last():
    signs = signs_of("a", "b")
    signs.note(["1", "1"], 101.0)
    signs.note(["2", "1"], 110.0)
    assert signs.silent(9.5, 110.0) is None
    assert signs.silent(9.0, 110.0) == f"rank 1 on b not heard of for 9 s {CAUSES}"
    signs.note(["3", "2"], 110.0)
    assert signs.silent(9.0, 110.0) is None


def test_ranks_of_a_host_stand_together():
    signs = signs_of("a", "b", "b", "c")
    signs.note(["1"] * 4, 101.0)
    signs.note(["2", "1", "1", "1"], 131.0)
    assert signs.silent(30.0, 131.0) == f"ranks 1, 2 on b and rank 3 on c not heard of for 30 s {CAUSES}"


def test_where_the_store_is_silent_its_host_is_named():
    signs = signs_of("a", "b", "c", rank=1)
    signs.note(["1", "1", "1"], 101.0)
    assert signs.silent(20.0, 121.0) == f"rank 0 on a, where the run's store is, not heard of for 20 s {CAUSES}"
    alone = signs_of("a", "b", rank=0)
    assert "the launcher of this host, has not answered for 20 s" in alone.silent(20.0, 120.0)


def test_one_that_failed_is_named_with_its_reason_and_one_that_follows_is_not():
    signs = signs_of("a", "b", "c")
    signs.note(["1", "1", "1"], 101.0)
    assert signs.ended() is None
    signs.note(["2", LEFT, ENDED + "the disk is full; make room"], 102.0)
    assert signs.ended() == "rank 2 on c ended by itself (the disk is full; make room)"
    signs.note(["9", LEFT, "7"], 130.0)
    assert signs.silent(20.0, 130.0) is None and "rank 1 on b" in signs.silent(20.0, 130.0, left=True)


def test_a_time_in_which_the_reader_stood_still_is_not_silence():
    signs = signs_of("a", "b")
    signs.note(["1", "1"], 101.0)
    signs.skip(60.0)
    assert signs.silent(5.0, 162.0) is None and signs.silent(5.0, 167.0) is not None


def test_one_of_those_that_are_left_speaks():
    for rank, speaks in ((1, True), (2, False)):
        signs = signs_of("a", "b", "c", rank=rank, store="b")
        signs.note(["1", "1", "1"], 101.0)
        signs.note(["1", "2", "2"], 121.0)
        assert signs.speaks(20.0, 121.0) is speaks


@pytest.mark.parametrize("late", [True, False])
def test_who_is_missing_stands_in_the_sentence_in_place_of_the_collectives_text(late):
    text = lost_process("rank 1 on b not heard of for 20 s", late, "Timed out waiting")
    assert "rank 1 on b" in text and "Timed out" not in text
    assert "(Timed out waiting)" in lost_process(None, late, "Timed out waiting")


def member(rank: int, port: int, folder: str, case: str) -> None:
    """One of two processes: the second one stops itself or fails, and the first waits for it without a time-out."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    os.dup2(os.open(f"{folder}/printed-{rank}", os.O_WRONLY | os.O_CREAT), 2)
    from accelerate import Accelerator

    from sentemb.training import Heartbeat, Patience

    with Heartbeat(Accelerator(cpu=True), timeout=3.0) as heartbeat:
        heartbeat.advice = lambda: "and this is saved"
        patience = Patience()
        if rank == 1 and case == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if rank == 1:
            heartbeat.report("its disk is full")
            os._exit(3)
        if case == "failed":
            os.write(2, f"{heartbeat.missing()}\n".encode())
            os._exit(4)
        patience.wait()


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        ("stopped", 1, f"stopped: {lost_process('rank 1 on HOST not heard of for', late=True)}"),
        ("failed", 4, "rank 1 on HOST ended by itself (its disk is full)"),
    ],
)
def test_a_process_that_waits_without_a_timeout_hears_of_the_other(tmp_path, case, code, text):
    faults.SPAWN.set_forkserver_preload(["recipes.runner.evaluation", "sentemb.pipeline.experiment"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = [faults.SPAWN.Process(target=member, args=(rank, port, str(tmp_path), case)) for rank in range(2)]
    for process in made:
        process.start()
    try:
        made[0].join(90)
        printed = (tmp_path / "printed-0").read_text()
        assert made[0].exitcode == code, printed
        assert text.replace("HOST", socket.gethostname()) in printed
        assert ("and this is saved" in printed) is (case == "stopped")
    finally:
        for process in made:
            process.kill()
