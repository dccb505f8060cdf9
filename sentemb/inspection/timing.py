"""How long an epoch takes on this machine."""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.optim.optimizer import register_optimizer_step_post_hook
from tqdm import tqdm

from sentemb.corpus import CHECKED, Tokens, WordwiseTokenizer
from sentemb.inspection.text import Section, Text, texts_of
from sentemb.pairs import Pairs, draw, sample
from sentemb.registry import build
from sentemb.runs import duration
from sentemb.training import TrainingSettings, bf16_units, tune_memory, use_threads

BATCH = TrainingSettings.batch_size  # pairs an update, as training takes them by default
WARM, BATCHES, SECONDS = 2, 64, 4.0  # of the timing: updates not counted, most, aim


def timing(text: Text, specs: Sequence[str], seed: int) -> Section:
    """Train a few updates with each encoder, and what an epoch of them would take."""
    from sentemb.pairs import drop_unusable_pairs

    mask, train = text.cleaned.mask if text.cleaned else None, text.corpus.split()[0]
    sources = [train] if set(text.corpus.weights) == {1.0} else text.corpus.by_source(train)
    parts = [drop_unusable_pairs(text.pairs(ranges), text.tokens, mask) for ranges in sources]
    epoch = sum(round(weight * len(part)) for weight, part in zip(text.corpus.weights, parts, strict=False))
    rows = draw(parts[0].rows, BATCH * BATCHES, seed)[:, :2]
    rows = rows[: len(rows) // BATCH * BATCH or None]  # full batches, where there is one
    sentences = text.corpus.sentences(rows.flatten())
    rates = [(_rate(spec, sentences, text, seed), spec) for spec in (specs if len(rows) > 1 else ())]
    timings = [(f"{rate:,.0f}", duration(epoch / rate), spec) for rate, spec in rates]
    facts = [("pairs an epoch", f"{epoch:,}, as a tenth is held out"), ("pairs an update", f"{BATCH}, by infonce")]
    return Section("An epoch on this machine", facts, ("pairs/s", "an epoch", "encoder"), timings)


def _rate(spec: str, sentences: list[str], text: Text, seed: int) -> float:
    """Pairs a second that are trained: two and two of these sentences, first updates not counted."""
    from sentemb.encoders import ENCODERS, tokenizer_of
    from sentemb.forward import TrainingEncoder
    from sentemb.objectives import InfoNCE
    from sentemb.training import RunTarget, TrainingData, fit

    tqdm.write(f"timing {spec}", file=sys.stderr)
    use_threads(None)
    tune_memory()
    torch.manual_seed(seed)
    AcceleratorState._reset_state()  # (it keeps the precision of the encoder before)
    accelerator = Accelerator(mixed_precision="bf16" if spec.startswith("transformer") and bf16_units() else None)
    ends, steps = list[float](), 2 * WARM
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    quiet = contextlib.redirect_stderr(io.StringIO())  # (what so short a training warns of says nothing)
    with tempfile.TemporaryDirectory() as folder, quiet:
        arguments: Any = {"texts": lambda: texts_of(text.corpus), "max_length": text.max_length}
        model = build(ENCODERS, spec, "encoder", **arguments)
        tokenizer = tokenizer_of(model)
        tokenizer.enable_truncation(text.max_length)
        encoder = WordwiseTokenizer(tokenizer)
        encoder.check(sentences[:CHECKED])
        ids, counts = encoder.encode(sentences)
        tokens = Tokens(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]))
        pairs = Pairs(np.arange(len(sentences)).reshape(-1, 2))
        for run in ("first", "second"):  # first to learn how many updates take so long
            ends.clear()
            settings = TrainingSettings(
                max_steps=steps, batch_size=BATCH, lr=1e-6, log_every=10**9, eval_every=0, save_every=0, seed=seed
            )
            data = TrainingData(sample(pairs, steps * BATCH, seed), tokens)
            fit(TrainingEncoder(model), InfoNCE(), data, settings, accelerator, RunTarget(Path(folder, run)))
            if len(ends) < steps:  # a signal ended it
                raise KeyboardInterrupt
            spent, counted = ends[-1] - ends[WARM - 1], len(ends) - WARM
            if spent > SECONDS:
                break
            steps = min(BATCHES, WARM + 1 + int(SECONDS * counted / spent))
    hook.remove()
    return min(BATCH, len(pairs)) * counted / spent
