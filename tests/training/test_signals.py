"""Signals end a run after its step, a second one at once; errors that are none of the code are explained."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from sentemb.training import explained
from sentemb.training import signals as signal_handling
from sentemb.training.signals import StopRequest


def asked(signals: StopRequest, number: int) -> None:
    """Another thread reads signals: it takes a moment."""
    until = time.monotonic() + 60
    while signals.signal != number:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_is_remembered_and_handlers_are_put_back(name, capfd):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with StopRequest() as signals:
        assert not signals.signal
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # passed on by a launcher, at once: the same request
        asked(signals, number)
    assert signal.getsignal(number) == before
    assert capfd.readouterr().err.count(f"{name}: this step is finished and saved") == 1


def test_a_second_one_exits_at_once():
    code = (
        "import sys, time\nfrom sentemb.training.signals import StopRequest\n"
        "with StopRequest():\n    print('ready', flush=True)\n    time.sleep(60)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    time.sleep(signal_handling.REPEAT_SECONDS + 0.3)
    assert process.poll() is None
    process.terminate()
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM and "once more to exit at once" in stderr


def test_in_a_library_the_first_one_asks_and_the_second_one_interrupts(monkeypatch):
    monkeypatch.setattr(signal_handling, "REPEAT_SECONDS", 0.05)
    with StopRequest(exits=False) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        asked(signals, signal.SIGINT)
        time.sleep(0.1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        assert signals.requested


def test_hanging_up_is_never_a_second_one_and_nohup_is_respected(monkeypatch):
    monkeypatch.setattr(signal_handling, "REPEAT_SECONDS", -1.0)
    with StopRequest() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        asked(signals, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.2)
        assert signals.signal == signal.SIGINT
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.2)
            assert not signals.signal
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_train_without_handlers():
    done = []
    thread = threading.Thread(target=lambda: done.append(StopRequest().__enter__()))
    thread.start()
    thread.join()
    assert done[0].signal == 0


def test_errors_that_are_none_of_the_code_are_explained():
    for error in (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
    ):
        assert "--micro-batch 64, which --resume takes too (now all 256 pairs" in explained(error, 0, 256)
        assert "--micro-batch 8, which --resume takes too (now 32 pairs" in explained(error, 32, 256)
        assert "--micro-batch 64, which --resume takes too (now all 256" in explained(error, 1000, 256)
        assert "a machine with more" in explained(error, 1, 256)
        assert "micro-batch" not in explained(error)
    assert "fewer --workers" in explained(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    assert "disk is full" in explained(OSError(errno.ENOSPC, "No space left on device"))
    assert explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 0, 256) is None
    assert explained(RuntimeError("Connection closed by peer [127.0.0.1]")) is None  # one process has no others


def test_a_second_one_exits_though_the_main_thread_is_deep_in_a_library():
    code = (
        "import ctypes\nfrom sentemb.training.signals import StopRequest\n"
        "with StopRequest():\n    print('ready', flush=True)\n    [ctypes.CDLL(None).sleep(60) for _ in range(9)]\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(signal_handling.REPEAT_SECONDS + 0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT


def test_streams_may_end(tmp_path):
    ends = os.pipe()
    stream = signal_handling.TolerantStream(os.fdopen(ends[1], "w", buffering=1))
    os.close(ends[0])
    stream.write("nobody reads this\n")
    stream.flush()
    assert stream.write("nor this\n") == 9 and not stream.isatty()
