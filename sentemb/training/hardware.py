"""What this machine's processor can do, and settings of it that make training faster."""

import ctypes
import os
import sys

import torch

from sentemb.errors import InputError


def use_threads(wanted: int | None) -> None:
    """Set torch's CPU threads: all cores by default, as ``accelerate launch`` leaves each process with one."""
    threads = wanted if wanted is not None else max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bf16_units() -> bool:
    """Whether bf16 matrix products are fast here: a CPU with AMX or AVX512-BF16, or a GPU that has them."""
    if torch.accelerator.is_available():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu
    return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


def tune_malloc() -> None:
    """Let glibc keep the memory of freed tensors for the next ones; elsewhere nothing.

    By default it gives each large block back to the system, which clears its pages anew at the next step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest: larger blocks still come and go by themselves
    mallopt(-1, 512 * 2**20)  # M_TRIM_THRESHOLD: less than that is kept
