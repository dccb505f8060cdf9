"""What is measured once on a machine and stays in its cache folder: a second run must give the first's numbers."""

import json
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from sentemb.storage import cache_dir, key_of, write_text


def remembered_choice(
    question: str, of: tuple[str, ...], measure: Callable[[], Mapping[str, float]], margin: float = 1.0
) -> str:
    """The fastest of several ways, as it was measured first on this machine.

    Args:
        question: names the folder of answers in the cache.
        of: what the answer depends on, besides the processor and torch's version.
        measure: seconds of each way; the first one is taken unless another is ``margin`` times as fast.
    """
    parts = (question, *of, torch.__version__, processor_name())
    path = cache_dir() / question / f"{key_of(*parts)}.json"
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(path.read_text())["choice"])
    seconds = measure()
    first = next(iter(seconds))
    best = min(seconds, key=seconds.__getitem__)
    choice = best if seconds[best] * margin < seconds[first] else first
    with suppress(OSError):  # (a cache that cannot be written: it is measured again next time)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"choice": choice, "seconds": dict(seconds), "of": parts}) + "\n")
    return choice


@cache
def processor_name() -> str:
    """As the system has it, with the instructions that torch uses."""
    capability = torch.backends.cpu.get_cpu_capability()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} {capability}"
    return f"{platform.processor() or platform.machine()} {capability}"
