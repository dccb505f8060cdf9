"""Several hosts, as namespaces of this machine: they are apart, leave nothing behind, and a run on them ends well."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.hosts import attempt
from benchmarks.namespaces import Network, refusal

ROOT = Path(__file__).parents[2]
WHY = refusal()
pytestmark = pytest.mark.skipif(WHY is not None, reason=WHY or "")
SERVE = "import socket; s = socket.create_server(('0.0.0.0', 7000)); print(flush=True); c, _ = s.accept(); c.recv(9)"
ASK = "import socket; print(socket.gethostname()); socket.create_connection(('host-a', 7000), 1).send(b'x')"


def test_hosts_have_names_and_a_cable_that_can_be_cut():
    devices = subprocess.check_output(["ip", "-brief", "link"])
    with Network(("host-a", "host-b"), relayed=("host-b",)) as network:
        server = subprocess.Popen(
            [*network["host-a"].enter, sys.executable, "-S", "-c", SERVE], stdout=subprocess.PIPE, text=True
        )
        server.stdout.readline()
        ask = [*network["host-b"].enter, sys.executable, "-S", "-c", ASK]
        network["host-b"].cut()
        assert subprocess.run(ask, capture_output=True).returncode == 1
        network["host-b"].mend()
        network["host-b"].disturb(loss=1.0)
        time.sleep(0.3)
        assert subprocess.run(ask, capture_output=True).returncode == 1
        network["host-b"].disturb()
        until = time.monotonic() + 30  # (for some seconds the address counts as one that nobody has)
        while (answer := subprocess.run(ask, capture_output=True, text=True)).returncode and time.monotonic() < until:
            time.sleep(0.3)
        assert answer.stdout == "host-b\n"
        assert server.wait(10) == 0
        server.stdout.close()
    assert subprocess.check_output(["ip", "-brief", "link"]) == devices


def test_nothing_is_left_where_the_process_that_made_the_hosts_is_killed():
    script = (
        "import subprocess, time; from benchmarks.namespaces import Network\n"
        "with Network(('host-a', 'host-b'), ('host-b',)) as network:\n"
        "    subprocess.Popen([*network['host-a'].enter, 'sleep', '1000'])\n"
        "    print(flush=True); time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as maker:
        maker.stdout.readline()
        made = psutil.Process(maker.pid).children(recursive=True)
        assert len(made) > 6
        os.kill(maker.pid, signal.SIGKILL)
    _, left = psutil.wait_procs(made, timeout=10)
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "disk-full"])
def test_a_run_that_loses_a_host_names_it_keeps_what_is_saved_and_goes_on(kind):
    row = attempt(kind, timeout=20)
    assert not row.problems, row
