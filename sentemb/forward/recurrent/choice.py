"""Which form of a recurrence is the faster one here: over real tokens, or over padded rows by the library's own kernel.

In float32 and float64 the packed form is the faster one on every processor that was tried, so CPUs always take it. In
bf16 and fp16 it depends on the processor: the packed form computes in float32, and the library's kernel in what the
processor has for these (AMX, AVX512-BF16, or nothing). So it is measured there, once for each machine and shape. The
answer stays in the cache folder, since a second run must give the numbers of the first.
"""

import time
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sentemb.forward.measured import remembered_choice
from sentemb.forward.recurrent.packed import packed_recurrence
from sentemb.forward.recurrent.padded import padded_recurrence

FORMS = ("packed", "padded")
ROWS, LENGTH, DISTINCT = 128, 24, 1000  # of the batch that is measured


def recurrence_form(encoder: nn.LSTM | nn.GRU, device: torch.device) -> str:
    """``packed``, ``padded`` or ``library``: how a forward and backward of ``encoder`` computes now.

    On a CPU it depends on the autocast. For CUDA there is cuDNN, which has a kernel for all steps.
    """
    if device.type == "cuda" and not torch.compiler.is_compiling():
        return "library"
    if device.type != "cpu" or torch.compiler.is_compiling():
        return "padded"
    if not torch.is_autocast_enabled("cpu"):
        return "packed"
    sizes = (encoder.input_size, encoder.hidden_size, encoder.num_layers, int(encoder.bidirectional))
    return _remembered(type(encoder).__name__, sizes, str(torch.get_autocast_dtype("cpu")), torch.get_num_threads())


@cache
def _remembered(cell: str, sizes: tuple[int, ...], precision: str, threads: int) -> str:
    return remembered_choice("recurrence", (cell, str(sizes), precision, str(threads)), lambda: measured(cell, sizes))


def measured(cell: str, sizes: tuple[int, ...], rounds: int = 3) -> dict[str, float]:
    """Seconds of a forward and backward in each form, the least of some rounds, of words drawn with a fixed seed."""
    words, hidden, layers, directions = sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind: Any = getattr(nn, cell)
        encoder = kind(words, hidden, layers, batch_first=True, bidirectional=directions == 1)
        table = torch.randn(DISTINCT, words)
        rows = torch.randint(DISTINCT, (ROWS, LENGTH))
        lengths = torch.randint(LENGTH // 2, LENGTH + 1, (ROWS,))

    def seconds(form: str) -> float:
        start = time.perf_counter()
        recurrence(form, encoder, table, rows, lengths).sum().backward()
        return time.perf_counter() - start

    with torch.enable_grad():
        for form in FORMS:  # the first of each chooses its kernels
            seconds(form)
        return {form: min(seconds(form) for _ in range(rounds)) for form in FORMS}


def recurrence(form: str, encoder: nn.LSTM | nn.GRU, table: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
    """A recurrent stack in the named form; arguments and value as :func:`packed_recurrence`'s."""
    if form == "packed":
        return packed_recurrence(encoder, table, words, lengths)
    return padded_recurrence(encoder, table[words], lengths)
