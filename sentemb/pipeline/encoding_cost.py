"""The cost of an encoder: sentences per second of ``encode`` on this machine, and megabytes on the disk."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from sentemb.training import processor
from sentemb.validation import HeldOutPairs

SENTENCES, BATCH = 2000, 32  # held-out sentences at most; and those of a forward pass, as encode() has by default
FIRST, SECONDS = 64, 2.0  # sentences from which the speed is estimated; what the measurement takes, about
SEED = 0  # always the same sentences


def encoding_cost(model: SentenceTransformer, pairs: HeldOutPairs) -> dict[str, Any]:
    """Speed and size of a model, in float32 on its device, measured now.

    Args:
        model: any.
        pairs: held-out sentences, of which at most SENTENCES are encoded.

    Returns:
        ``sentences_per_second``, ``megabytes`` (10^6 bytes) of the saved model, and ``measured``: how, in words.
    """
    sentences = list(dict.fromkeys(pairs.first + pairs.second))
    order = np.random.default_rng(SEED).permutation(len(sentences))[:SENTENCES]
    device = model.device
    where = processor() if device.type == "cpu" else torch.cuda.get_device_name() if device.type == "cuda" else device
    return {
        "sentences_per_second": sentences_per_second(model, [sentences[i] for i in order]),
        "megabytes": saved_megabytes(model),
        "measured": f"encode of at most {len(order):,} held-out sentences in batches of {BATCH} on {where}",
    }


def sentences_per_second(model: SentenceTransformer, sentences: Sequence[str], seconds: float = SECONDS) -> float:
    """The median speed of calls of ``encode`` that take about this number of seconds together, after a warm-up.

    Args:
        model: any.
        sentences: at least one; a slow model encodes the first of them only, so they should be in random order.
        seconds: of all measured calls.
    """

    def timed(count: int) -> float:
        start = time.perf_counter()
        model.encode(list(sentences[:count]), batch_size=BATCH, show_progress_bar=False)
        return time.perf_counter() - start

    first = min(FIRST, len(sentences))
    timed(min(BATCH, first))
    estimate = first / timed(first)
    count = min(len(sentences), max(first, int(estimate * seconds / 3)))
    times = [timed(count)]
    while sum(times) + times[-1] < seconds:
        times.append(timed(count))
    return count / median(times)


def saved_megabytes(model: SentenceTransformer) -> float:
    """Size of the model's folder in 10^6 bytes, without a card; it is saved to a temporary folder for that.

    Where that has no room, the size of the weights alone: scores that took minutes are not lost for it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="sentemb-") as folder:
            model.save(folder, create_model_card=False)
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
    except OSError:
        return sum(weight.numel() * weight.element_size() for weight in model.state_dict().values()) / 1e6
