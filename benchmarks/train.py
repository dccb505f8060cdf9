"""Pairs per second: our loop against sentence-transformers' trainer, same encoder, pairs, batch, length, precision.

    python benchmarks/train.py --corpus BOOKS                # minutes on two cores; nothing else may run meanwhile

Both train the same first weights on the same pairs of neighbouring sentences with in-batch softmax at temperature 0.05:
ours by sentemb.fit, theirs by SentenceTransformerTrainer with MultipleNegativesRankingLoss (cosine, scale 20),
its defaults for the rest. Text is tokenized beforehand by us (the corpus cache) and on the way by them, as each does
for its users. Runs take turns; the figure of each is the median of its runs, and the whole of a run counts but its
first steps. Last lines: `ratio NAME VALUE`, ours over theirs.

Next to the rates it prints the share of the machine's matrix products: the operations that the model's formulas need
for the real tokens of a second's pairs, forward and backward, over those of a large product in float32. An input
projection that several tokens share is computed once by ours, and counted for each.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import WordEmbeddings
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers.utils import logging

from sentemb.corpus import Corpus, Tokens, open_corpus
from sentemb.encoders import ENCODERS, tokenizer_of
from sentemb.forward import TrainingEncoder
from sentemb.forward.products import batched_product
from sentemb.objectives import InfoNCE
from sentemb.pairs import Pairs, drop_unusable_pairs, neighbours, sample
from sentemb.registry import build
from sentemb.training import RunTarget, TrainingData, TrainingSettings, fit, processor, tune_memory, use_threads

CASES = {
    "minilm-float32": ("transformer:name=minilm", "no"),
    "minilm-bf16": ("transformer:name=minilm", "bf16"),
    "lstm-float32": ("rnn:hidden=256,embeddings=minilm", "no"),
    "lstm-bf16": ("rnn:hidden=256,embeddings=minilm", "bf16"),
    "gru-float32": ("rnn:cell=gru,hidden=256,embeddings=minilm", "no"),
    "gru-bf16": ("rnn:cell=gru,hidden=256,embeddings=minilm", "bf16"),
}
SKIPPED = 3  # first steps of a run, which the rates leave out


class Clock:
    """Seconds of a run after its first steps, recorded by torch at the end of each step of whichever optimiser."""

    def __init__(self) -> None:
        self.steps, self.start, self.seconds = 0, math.nan, math.nan

    def __enter__(self) -> "Clock":
        self.hook = register_optimizer_step_post_hook(self.step)
        return self

    def __exit__(self, *exception: object) -> None:
        self.hook.remove()
        before = time.perf_counter()
        synchronize()  # what was given to a GPU and is not done yet
        self.seconds += time.perf_counter() - before

    def step(self, *hook_arguments: object) -> None:
        """A step has ended."""
        self.steps += 1
        if self.steps == SKIPPED:
            synchronize()
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - self.start

    def rate(self, batch: int) -> float:
        """Pairs a second."""
        return (self.steps - SKIPPED) * batch / self.seconds


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ours(spec: str, precision: str, pairs: Pairs, tokens: Tokens, options: argparse.Namespace) -> float:
    """Pairs a second of sentemb.training.loop.fit."""
    forget()
    encoder = TrainingEncoder(made(spec, options.max_length))
    settings = TrainingSettings(
        max_steps=options.steps,
        batch_size=options.batch_size,
        lr=2e-5,
        warmup=0,
        log_every=10**6,
        eval_every=0,
        save_every=0,
    )
    data = TrainingData(pairs, tokens)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=precision)
    with tempfile.TemporaryDirectory() as folder, Clock() as clock:
        fit(encoder, InfoNCE(temperature=0.05), data, settings, accelerator, RunTarget(Path(folder)))
    return clock.rate(options.batch_size)


def theirs(spec: str, precision: str, data: Any, options: argparse.Namespace) -> float:
    """Pairs a second of SentenceTransformerTrainer; ``data`` is a data set of ``anchor`` and ``positive``."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    forget()
    model = made(spec, options.max_length)
    words: Any = getattr(model[0], "tokenizer", None)
    if isinstance(model[0], WordEmbeddings):  # their wrapper of a fast tokenizer does not take what their trainer gives
        plain = words.tokenize
        words.tokenize = lambda text, **more: plain(text)
    with tempfile.TemporaryDirectory() as folder, Clock() as clock:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch_size,
            learning_rate=2e-5,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            use_cpu=not torch.accelerator.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        loss = MultipleNegativesRankingLoss(model, scale=20.0)
        SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss).train()
    return clock.rate(options.batch_size)


def made(spec: str, max_length: int) -> SentenceTransformer:
    """The encoder, with the same first weights each time."""
    torch.manual_seed(0)
    return build(ENCODERS, spec, "encoder", texts=list, max_length=max_length)


def operations(model: SentenceTransformer) -> int:
    """Of a token's matrix products, forward and backward: 2 a weight for the product and for each of two gradients.

    Frozen word embeddings need no gradient of a recurrent encoder's first inputs. Attention's products are left out.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.LSTM | nn.GRU)]
    weights = [weight for layer in layers for weight in layer.parameters() if weight.requires_grad and weight.dim() > 1]
    count = 6 * sum(weight.numel() for weight in weights)
    if isinstance(model[0], WordEmbeddings) and not model[0].emb_layer.weight.requires_grad:
        inputs = [weight for name, weight in model.named_parameters() if "weight_ih_l0" in name]
        count -= 2 * sum(weight.numel() for weight in inputs)
    return count


def product_speed(size: int = 2048, rounds: int = 5) -> float:
    """Float32 operations a second of a square matrix product, the fastest of some rounds and of both libraries."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(rounds + 1):
        for product in (lambda: torch.mm(a, a.t()), lambda: batched_product(a[None], a[None])):
            start = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def forget() -> None:
    """Let the next accelerator choose its precision again."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()


def texts_of(corpus: Corpus, pairs: Pairs) -> Any:
    """The same pairs as text, in an order of their own choosing."""
    from datasets import Dataset

    columns = [corpus.sentences(column) for column in np.asarray(pairs.rows).T]
    return Dataset.from_dict({"anchor": columns[0], "positive": columns[1]})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="sample", help="as for the recipes (default sample)")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs (default 64)")
    parser.add_argument("--max-length", type=int, default=32, help="tokens (default 32)")
    parser.add_argument("--steps", type=int, default=23, help=f"of a run, {SKIPPED} of them not counted (default 23)")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn (default 3)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    from datasets import disable_progress_bars

    logging.disable_progress_bar()
    disable_progress_bars()
    use_threads(None)
    tune_memory()
    corpus = open_corpus(options.corpus)
    every = neighbours(corpus.split()[0])
    print(f"processor: {processor()}")
    print(f"matrix products: {(speed := product_speed()) / 1e9:.0f} GFLOP/s in float32")
    ratios = {}
    for name in options.cases:
        spec, precision = CASES[name]
        tokens = corpus.tokens(tokenizer_of(made(spec, options.max_length)), options.max_length)
        count = options.steps * options.batch_size
        pairs = sample(drop_unusable_pairs(every, tokens), count, 0)
        if len(pairs) < count:
            sys.exit(f"error: {corpus.name} has {len(pairs)} pairs, and {count} are needed; give a larger --corpus")
        data = texts_of(corpus, pairs)
        rates_by_side: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(options.runs):
            rates_by_side["ours"].append(ours(spec, precision, pairs, tokens, options))
            rates_by_side["theirs"].append(theirs(spec, precision, data, options))
            now = ", ".join(f"{who} {values[-1]:.1f}" for who, values in rates_by_side.items())
            print(f"{name} run {number + 1}: {now} pairs/s", file=sys.stderr, flush=True)
        middle = {who: statistics.median(values) for who, values in rates_by_side.items()}
        tokens_per_pair = tokens.lengths(np.asarray(pairs.rows)).sum(axis=1).mean()
        work = operations(made(spec, options.max_length)) * tokens_per_pair
        for who, rate in middle.items():
            share = rate * work / speed
            print(f"{name}: {who} {rate:.1f} pairs/s, {2 * rate:.0f} sequences/s, {share:.0%} of the products")
        ratios[name] = middle["ours"] / middle["theirs"]
    for name, value in ratios.items():
        print(f"ratio {name} {value:.2f}")


if __name__ == "__main__":
    main()
