"""The machine that a benchmark ran on: printed with every figure of speed."""

import os
import platform
import time
from contextlib import suppress
from pathlib import Path

import torch

LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")  # hold libraries to a kind of processor


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
    return f"{name}, {kind}, {torch.get_num_threads()} thread(s)" + (f"; held: {held}" if held else "")


def product_speed(size: int = 2048, rounds: int = 5) -> float:
    """Float32 operations a second of a square matrix product, the fastest of some rounds; one has 2 size^3."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
