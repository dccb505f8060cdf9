"""Detect what the processor can do, and choose settings that make training faster."""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import torch

from sentemb.errors import InputError
from sentemb.wording import counted

KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")  # these hold libraries to a kind of processor
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # set by accelerate launch, by torchrun


def use_threads(wanted: int | None) -> None:
    """Set torch's CPU threads: ``wanted``, else OMP_NUM_THREADS, else this process's share of the cores.

    Raises:
        InputError: ``wanted`` is below 1.
    """
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    threads = wanted if wanted is not None else threads_of_environment() or max(1, usable_cores() // local_processes)
    if threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)


def threads_of_environment() -> int | None:
    """OMP_NUM_THREADS, if the user has set it; None for what is not a positive whole number.

    ``accelerate launch``, and ``torchrun`` with several processes, set it to 1 where it is not set (with ``--cpu``,
    Accelerate takes the physical cores). So below them 1 is taken to be theirs, and any other number is used.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # (a list has one for each nested level)
    if not text.isdecimal() or int(text) < 1 or (text == "1" and any(name in os.environ for name in LAUNCHED)):
        return None
    return int(text)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bf16_units() -> bool:
    """Whether bf16 matrix products are fast here: a CPU with AMX or AVX512-BF16, or a GPU that has them."""
    if torch.accelerator.is_available():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu
    return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


def processor() -> str:
    """Name, kind (AMX, AVX-512, AVX2, ...), threads, and what the environment holds the libraries to."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cpu = torch.cpu
    kinds = [
        (cpu._is_amx_tile_supported(), "AMX"),
        (cpu._is_avx512_bf16_supported(), "AVX-512 with bf16"),
        (cpu._is_avx512_supported(), "AVX-512"),
        (cpu._is_avx2_supported(), "AVX2"),
    ]
    kind = next((kind for has, kind in kinds if has), "no AVX2")
    held = ", ".join(f"{limit}={os.environ[limit]}" for limit in LIMITS if limit in os.environ)
    return f"{name}, {kind}, {counted(torch.get_num_threads(), 'thread')}" + (f"; held: {held}" if held else "")


def tune_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones, and oneDNN few compiled kernels.

    By default glibc gives each large block back to the system, which clears its pages again at the next step. oneDNN
    keeps 1,024 kernels, each for one shape, and hardly two batches have one number of tokens: in a long run that is
    gigabytes. A step needs some tens. oneDNN reads the limit at its first product, so call this before.
    """
    os.environ.setdefault(KERNELS, "64")
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest: larger blocks still come and go by themselves
    mallopt(-1, 512 * 2**20)  # M_TRIM_THRESHOLD: less than that is kept
