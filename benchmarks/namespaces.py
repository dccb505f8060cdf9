"""Hosts that are namespaces of this machine: each has a name, an address, disks and processes of its own, and a cable.

    with Network(("host-a", "host-b")) as network:
        process = subprocess.Popen([*network["host-a"].enter, "hostname"])
        network["host-b"].cut()

Linux, as root (:func:`refusal` says why not). Every host is a process that waits for the end of its input, which is a
pipe from this one. Once this process ends, however that happens, the kernel ends all processes of the hosts, and with
them go their networks and mounts. The machine's network is not touched: a switch, too, is a namespace.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

HOLD = ("unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# A file of a disk that nobody else has stands in place of /etc/hosts.
NAME_HOSTS = (
    'mount -t tmpfs tmpfs /mnt && printf %s "$1" > /mnt/hosts && mount --bind /mnt/hosts /etc/hosts && umount -l /mnt'
)
DEVICE = "eth0"  # of each host
CLONE_NEWNET, TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x40000000, 0x400454CA, 0x0002, 0x1000  # of Linux' headers
FRAME = 65536  # bytes, more than any frame has


def refusal() -> str | None:
    """Why there can be no namespaces, in a sentence; None: there can."""
    missing = [name for name in ("unshare", "nsenter", "ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"namespaces need {', '.join(missing)} (util-linux, iproute2)"
    if os.geteuid():
        return "namespaces need root"
    attempt = "ip link add one type veth peer name two && ip link add three type bridge"
    done = subprocess.run([*HOLD, "sh", "-c", attempt], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return f"this machine refuses namespaces ({done.stderr.strip()[:200]})" if done.returncode else None


class Host:
    """A host: what ``enter`` precedes runs there, with the same files as here.

    Args:
        name: its host name.
        number: of its address, 10.77.0.NUMBER; 0: it has none, and no device.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self._switch: Host | None = None
        self._relay: subprocess.Popen[str] | None = None
        self._holder = subprocess.Popen([*HOLD, "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        while not (text := children.read_text().split()):
            time.sleep(0.01)
        self.pid = int(text[0])  # of its first process, as this machine counts
        while Path(f"/proc/{self.pid}/comm").read_text().strip() != "cat":  # (until then it is not set up)
            time.sleep(0.01)
        self.enter = ("nsenter", f"--target={self.pid}", "--net", "--uts", "--ipc", "--mount", "--pid")
        self.run("hostname", name)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def root(self) -> Path:
        """Its file system as it is seen from here, its own mounts included."""
        return Path(f"/proc/{self.pid}/root")

    def run(self, *command: str) -> None:
        """Run a command there; CalledProcessError if it fails."""
        subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True)

    def connect(self, switch: "Host", relayed: bool) -> None:
        """Lay the cable to a switch; ``relayed``: through a process that can lose and delay frames."""
        self._switch, port = switch, self._port
        if relayed:
            command = [sys.executable, __file__, str(self.pid), DEVICE, str(switch.pid), port]
            self._relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._relay.stdout is not None
            self._relay.stdout.readline()  # (both ends are there)
        else:
            subprocess.run(
                ["nsenter", f"--target={self.pid}", "--net", "ip", "link", "add", DEVICE, "type", "veth"]
                + ["peer", "name", port, "netns", str(switch.pid)],
                check=True,
            )
        switch.run("ip", "link", "set", port, "master", "switch")
        switch.run("ip", "link", "set", port, "up")
        self.run("ip", "addr", "add", f"10.77.0.{self.number}/24", "dev", DEVICE)
        self.run("ip", "link", "set", DEVICE, "up")

    @property
    def _port(self) -> str:
        return f"port{self.number}"

    def cut(self) -> None:
        """Pull the cable: both sides keep their connections, and nothing comes through."""
        assert self._switch is not None
        self._switch.run("ip", "link", "set", self._port, "down")

    def mend(self) -> None:
        """Put the cable back."""
        assert self._switch is not None
        self._switch.run("ip", "link", "set", self._port, "up")

    def slow(self, rate: str) -> None:
        """Let no more than ``rate`` (1mbit) through, in each direction."""
        assert self._switch is not None
        for host, device in ((self, DEVICE), (self._switch, self._port)):
            host.run("tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", "16kb", "latency", "1s")

    def disturb(self, loss: float = 0.0, delay: float = 0.0) -> None:
        """Lose a share ``loss`` of the frames and delay the others by ``delay`` seconds, in each direction."""
        assert self._relay is not None and self._relay.stdin is not None
        self._relay.stdin.write(json.dumps({"loss": loss, "delay": delay}) + "\n")
        self._relay.stdin.flush()

    def mount_disk(self, folder: Path, mebibytes: int) -> None:
        """Put a small disk at ``folder``, which only this host has."""
        self.run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))

    def kill(self) -> None:
        """End the host with all of its processes, at once. Their connections are closed, as a crash of them does."""
        for process in (self._relay, self._holder):
            if process is not None:
                process.kill()
                process.wait()


class Network:
    """Some hosts and the switch between them, as a context; nothing is left of it.

    Args:
        names: of the hosts, which know each other by them.
        relayed: names of those whose cable can lose and delay frames.
    """

    def __init__(self, names: Sequence[str], relayed: Sequence[str] = ()) -> None:
        self._names, self._relayed = tuple(names), frozenset(relayed)
        self._hosts: dict[str, Host] = {}
        self._context = ExitStack()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> "Network":
        with ExitStack() as stack:
            lines = [f"10.77.0.{number} {name}" for number, name in enumerate(self._names, 1)]
            text = "\n".join(["127.0.0.1 localhost", *lines, ""])
            switch = self._made("switch", 0, stack)
            switch.run("ip", "link", "add", "switch", "type", "bridge")
            switch.run("ip", "link", "set", "switch", "up")
            for number, name in enumerate(self._names, 1):
                host = self._hosts[name] = self._made(name, number, stack)
                host.connect(switch, name in self._relayed)
                host.run("sh", "-c", NAME_HOSTS, "sh", text)
            self._context = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.close()

    @staticmethod
    def _made(name: str, number: int, stack: ExitStack) -> Host:
        host = Host(name, number)
        stack.callback(host.kill)
        return host


# ---- the process that is a cable


def relay(ends: Sequence[int]) -> None:
    """Carry frames between two TAP devices until the input ends; a line of it says how many are lost and how late."""
    loss = delay = 0.0
    draw, waiting, number = random.Random(0), list[tuple[float, int, int, bytes]](), 0
    print("connected", flush=True)
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([*ends, 0], [], [], pause)
        for descriptor in ready:
            data = os.read(descriptor, FRAME)
            if descriptor == 0:
                if not data:
                    return
                settings: dict[str, Any] = json.loads(data.splitlines()[-1])
                loss, delay = settings["loss"], settings["delay"]
            elif draw.random() >= loss:
                number += 1
                other = ends[1 - ends.index(descriptor)]
                heapq.heappush(waiting, (time.monotonic() + delay, number, other, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, other, data = heapq.heappop(waiting)
            with suppress(OSError):  # (a device that is down)
                os.write(other, data)


def tap(pid: int, name: str) -> int:
    """A descriptor of a new TAP device in the network namespace of process ``pid``."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"no network namespace of process {pid}")
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


if __name__ == "__main__":
    relay([tap(int(sys.argv[1]), sys.argv[2]), tap(int(sys.argv[3]), sys.argv[4])])
