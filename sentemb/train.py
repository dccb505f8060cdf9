"""The only training loop: one forward for both views, global negatives with exact gradients, a log a human can read."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm import tqdm

from sentemb import checkpoint
from sentemb.corpus import Tokens
from sentemb.encoders import Embedder, collate
from sentemb.geometry import alignment, mean_cosine, spread, uniformity, uniformity_optimum, unit
from sentemb.objectives import Objective
from sentemb.pairs import batch_sizes, batches
from sentemb.registry import InputError

Scores = Callable[[SentenceTransformer], dict[str, float]]


@dataclass(frozen=True)
class FitConfig:
    """How to train: everything the result depends on besides model, objective, pairs and number of processes."""

    epochs: int | None = None  # None: one, or as many as max_steps needs
    max_steps: int | None = None  # stop here at the latest
    batch_size: int = 256  # pairs per process
    lr: float = 1e-3  # highest learning rate of AdamW, reached after the warm-up, then falling linearly to 0
    warmup: int = 100  # steps
    weight_decay: float = 0.0
    clip: float = 1.0  # greatest gradient norm
    seed: int = 0
    log_every: int = 10  # steps
    eval_every: int = 0  # steps between held-out scores; 0: at the first and the last step only
    save_every: int = 0  # steps between checkpoints; 0: none

    def __post_init__(self) -> None:
        least = {"epochs": 1, "max_steps": 1, "batch_size": 2, "log_every": 1}
        least |= dict.fromkeys(("warmup", "weight_decay", "eval_every", "save_every", "seed"), 0)
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and not value >= bound:
                raise InputError(f"{name.replace('_', '-')} must be at least {bound}, got {value}")
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2^32, got {self.seed}")
        for name in ("lr", "clip"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise InputError(f"{name} must be a positive number, got {getattr(self, name)}")

    def steps(self, pairs: int, processes: int) -> int:
        """Updates of the whole run over ``pairs`` pairs; InputError if they are too few for one."""
        epoch = len(batch_sizes(pairs, self.batch_size, processes))
        if not epoch:
            raise InputError(f"{pairs} usable pair(s) are too few to train on; each of {processes} process(es) needs 2")
        if self.max_steps is None:
            return epoch * (self.epochs or 1)
        return self.max_steps if self.epochs is None else min(self.max_steps, epoch * self.epochs)

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of update number ``step`` (1, 2, ...) of ``steps``."""
        if step <= self.warmup:
            return self.lr * step / self.warmup
        return self.lr * (steps - step + 1) / max(1, steps - self.warmup)


def fit(
    model: SentenceTransformer,
    objective: Objective,
    pairs: np.ndarray,
    tokens: Tokens,
    config: FitConfig,
    accelerator: Accelerator,
    run: Path,
    score: Scores | None = None,
    resume: bool = False,
) -> int:
    """Train ``model`` in place; returns the number of updates done.

    Args:
        model: a SentenceTransformer of :mod:`sentemb.encoders`.
        objective: sees both views ``[n, d]`` of the global batch, gathered from all processes.
        pairs: int64 ``[m, 2]`` rows of ``tokens`` that are partners.
        tokens: the sentences' token ids.
        config: the settings.
        accelerator: device, precision, processes, trackers.
        run: run folder; the main process writes ``log.jsonl`` and ``checkpoints/`` there.
        score: held-out scores of the model, logged at step 0, every ``eval_every`` steps and at the last one.
        resume: continue from the newest checkpoint of ``run``, if there is one.

    Raises:
        FloatingPointError: loss or gradient are no longer finite; the step and what to try are named.
        InputError: fewer than two pairs a process, or a checkpoint that does not fit the model.
    """
    steps = config.steps(len(pairs), accelerator.num_processes)
    parameters = [p for p in model.parameters() if p.requires_grad]
    # The fused kernel is one pass over memory, on CPU and CUDA alike.
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    found = checkpoint.newest(run) if resume else None
    done = checkpoint.restore(found, model, optimizer) if found else 0
    embedder, optimizer = accelerator.prepare(Embedder(model), optimizer)
    objective = objective.to(accelerator.device)
    log = Log(run, accelerator, objective, steps, done, _pairs_seen(config, len(pairs), accelerator, done))
    if done == 0:
        log.score(score, model)

    model.train()
    for step, batch in enumerate(_batches(config, pairs, tokens, accelerator, done, steps), start=done + 1):
        # Random numbers of a step depend on nothing before it, so that a resumed run needs no saved state of them.
        torch.manual_seed(_step_seed(config.seed, step, accelerator.process_index))
        rows = [tokens[row] for row in pairs[batch].T.flatten()]  # n first sides, then their n partners
        features = {k: v.to(accelerator.device) for k, v in collate(model, rows).items()}
        x, y = (gather(view) for view in embedder(features).chunk(2))  # [global n, d] each
        loss = objective(x, y)
        if step == 1:
            log.write(0, loss.item(), x, y)
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step, steps)
        accelerator.backward(loss)
        norm = float(accelerator.clip_grad_norm_(parameters, config.clip))
        overflow = accelerator.scaler is not None and math.isfinite(loss.item())  # fp16's scaler skips such a step
        if not (math.isfinite(norm) and math.isfinite(loss.item())) and not overflow:
            raise FloatingPointError(
                f"step {step}: the loss is {loss.item():.4g} and the gradient norm {norm:.4g}; "
                f"try a lower --lr (now {config.lr:g}) or a longer --warmup (now {config.warmup})"
            )
        optimizer.step()
        optimizer.zero_grad()
        log.advance(loss.item(), len(x))
        scored = step == steps or (config.eval_every > 0 and step % config.eval_every == 0)
        if scored:
            log.score(score, model)
        if scored or step % config.log_every == 0:
            log.write(step, loss.item(), x, y, lr=config.lr_at(step, steps), gradient_norm=norm)
        if config.save_every and (step % config.save_every == 0 or step == steps):
            if accelerator.is_main_process:
                checkpoint.save(run / "checkpoints" / f"step-{step}", step, model, optimizer)
            accelerator.wait_for_everyone()
    log.close()
    model.eval()
    return max(done, steps)


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, ``[n, d]`` to ``[processes * n, d]``, with exact gradients under DDP's averaging.

    (``Accelerator.gather`` has no gradient; torch's own differentiable one has changed its name and place by release.)
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    return _Gather.apply(x)


class _Gather(torch.autograd.Function):
    """Every process computes the same loss over all rows; summing its gradients cancels DDP's mean over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def describe(config: FitConfig, objective: Objective, pairs: int, accelerator: Accelerator) -> str:
    """The first log line: what one update sees, and how long the run is."""
    processes = accelerator.num_processes
    whole = min(config.batch_size * processes, pairs)
    each = min(config.batch_size, pairs // processes)
    return (
        f"{processes} process(es) on {accelerator.device.type}, precision {accelerator.mixed_precision}; "
        f"batch {each} pairs per process, {whole} in all, {objective.negatives(whole)}; "
        f"{config.steps(pairs, processes)} steps over {pairs:,} pairs"
    )


class Log:
    """``log.jsonl``, the progress bar and the trackers. Only the main process writes."""

    def __init__(
        self, run: Path, accelerator: Accelerator, objective: Objective, steps: int, done: int, seen: int
    ) -> None:
        self.accelerator, self.objective, self.seen = accelerator, objective, seen
        self.started = self.window_start = time.perf_counter()
        self.window_pairs = 0
        self.scores: dict[str, float] = {}
        main = accelerator.is_main_process
        self.bar = tqdm(
            total=steps,
            initial=done,
            unit="step",
            disable=not main,
            mininterval=0.5 if sys.stderr.isatty() else 15,
            desc="training",
        )
        self.file = _continue_log(run / "log.jsonl", done) if main else None

    def score(self, score: Scores | None, model: SentenceTransformer) -> None:
        """Keep held-out scores for the next record. The time they take is no training time."""
        before = time.perf_counter()
        if score and self.accelerator.is_main_process:
            self.scores = score(model)
            model.train()
        self.accelerator.wait_for_everyone()
        self.window_start += time.perf_counter() - before

    def advance(self, loss: float, pairs: int) -> None:
        """Count one update."""
        self.seen += pairs
        self.window_pairs += pairs
        rate = self.window_pairs / max(1e-9, time.perf_counter() - self.window_start)
        self.bar.set_postfix_str(f"{rate:,.0f} pairs/s, loss {loss:.3f}", refresh=False)
        self.bar.update()

    @torch.no_grad()
    def write(self, step: int, loss: float, x: Tensor, y: Tensor, **more: float) -> None:
        """One record: loss and geometry of this step's batch, both views ``[n, d]``; a resumed run writes the same."""
        seconds = time.perf_counter() - self.window_start
        x, y = unit(x.detach()), unit(y.detach())
        best = uniformity_optimum(x.shape[1])
        even = (uniformity(x) + uniformity(y)).item() / 2 if len(x) > 1 else 0.0
        reference = math.log(len(x)) if self.objective.contrastive else None
        record: dict[str, Any] = {
            "step": step,
            "loss": loss,
            "loss_reference": reference,
            "alignment": alignment(x, y).item(),
            "uniformity": even,
            "uniformity_optimum": best,
            "uniformity_used": even / best,
            "mean_cosine": mean_cosine(torch.cat([x, y])).item(),
            "spread": spread(torch.cat([x, y])).item(),
            **({"mutual_information": reference - loss} if reference is not None else {}),
            **more,
            **self.scores,
            "pairs_seen": self.seen,
            "pairs_per_second": self.window_pairs / seconds if self.window_pairs else 0.0,
            "seconds": time.perf_counter() - self.started,
            "peak_memory_mib": _peak_memory(self.accelerator.device),
        }
        if self.file:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        numbers = {k: v for k, v in record.items() if k != "step" and v is not None}
        self.accelerator.log(numbers, step=step)
        self.scores, self.window_pairs, self.window_start = {}, 0, time.perf_counter()

    def close(self) -> None:
        """Finish the progress bar and the file."""
        self.bar.close()
        if self.file:
            self.file.close()


def _continue_log(path: Path, done: int) -> TextIO:
    """The log opened to append to, without the records after ``done`` steps, which will be made again."""
    kept = []
    if done and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= done:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                break  # a line cut by a kill is the last one
    path.write_text("".join(kept), encoding="utf-8")
    return path.open("a", encoding="utf-8")


def _batches(
    config: FitConfig, pairs: np.ndarray, tokens: Tokens, accelerator: Accelerator, done: int, steps: int
) -> Iterator[np.ndarray]:
    """This process's batches of updates ``done + 1`` to ``steps``, as indices of pairs."""
    lengths = tokens.lengths()[pairs].max(axis=1)
    world, rank = accelerator.num_processes, accelerator.process_index
    per_epoch = len(batch_sizes(len(pairs), config.batch_size, world))
    number = done // per_epoch * per_epoch
    while number < steps:
        for batch in batches(lengths, config.batch_size, world, rank, config.seed, number // per_epoch):
            if done <= number < steps:
                yield batch
            number += 1


def _pairs_seen(config: FitConfig, pairs: int, accelerator: Accelerator, done: int) -> int:
    sizes = batch_sizes(pairs, config.batch_size, accelerator.num_processes)
    epochs, rest = divmod(done, len(sizes))
    return epochs * sum(sizes) + sum(sizes[:rest])


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


def _peak_memory(device: torch.device) -> float:
    """MiB: the most that this process has held, on the accelerator if it trains there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows has no such module
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, KiB elsewhere
