"""What is measured once on a machine and stays in its cache folder: a second run must give the first's numbers."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from sentemb.storage import cache_dir, key_of, write_text

HELD = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


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
    if (stored := _answer(path)) is not None:
        return stored
    with torch.enable_grad():
        seconds = measure()
    first = next(iter(seconds))
    best = min(seconds, key=seconds.__getitem__)
    choice = best if seconds[best] * margin < seconds[first] else first
    with suppress(OSError):  # (a cache that cannot be written: it is measured again next time)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # processes that begin together take the answer of the first
            if (stored := _answer(path)) is not None:
                return stored
            write_text(path, json.dumps({"choice": choice, "seconds": dict(seconds), "of": parts}) + "\n")
    return choice


def _answer(path: Path) -> str | None:
    """What is stored there; None for nothing, or for a damaged file."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text())["choice"])
    return None


@cache
def processor_name() -> str:
    """Its name, family, model and instructions, as the system has them, and what libraries are held to."""
    held = ",".join(f"{name}={os.environ[name]}" for name in HELD if name in os.environ)
    parts = [platform.processor() or platform.machine(), torch.backends.cpu.get_cpu_capability(), held]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        wanted = ("model name", "cpu family", "model", "stepping", "flags")
        parts += [line for line in lines if line.partition(":")[0].strip() in wanted]
    return " ".join(parts)
