"""The only training loop: one forward for both views, global negatives with exact gradients, a log a human can read."""

import contextlib
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from sentemb import checkpoint
from sentemb.augment import Words
from sentemb.corpus import Tokens
from sentemb.epoch import Updates
from sentemb.forward import Embedder
from sentemb.objectives import NEEDS, OBJECTIVES, Extras, Objective
from sentemb.packing import seed_dropout
from sentemb.pairs import Pairs
from sentemb.processes import agree, gather, gather_plain, refuse_drift
from sentemb.registry import InputError
from sentemb.runlog import Log, Scores
from sentemb.source import Batch, Source
from sentemb.towers import towers_of
from sentemb.twin import Twin


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
    micro_batch: int = 0  # pairs encoded at a time, to hold a large batch in little memory; 0: all
    mlm: float = 0.0  # weight of masked-language modelling beside the objective
    compile: bool = False  # torch.compile the forward and backward
    workers: int = 0  # processes that make batches ahead; 0: they are made in between

    def __post_init__(self) -> None:
        least = {"epochs": 1, "max_steps": 1, "batch_size": 2, "log_every": 1}
        least |= dict.fromkeys(
            ("warmup", "weight_decay", "eval_every", "save_every", "micro_batch", "mlm", "seed", "workers"), 0
        )
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
        epoch = len(Updates(pairs, self.batch_size, processes))
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
    embedder: Embedder,
    objective: Objective,
    pairs: Pairs,
    tokens: Tokens,
    config: FitConfig,
    accelerator: Accelerator,
    run: Path,
    score: Scores | None = None,
    dev: str | None = None,
    resume: bool = False,
    words: Words | None = None,
) -> int:
    """Train ``embedder.model`` in place; returns the number of updates done.

    Args:
        embedder: the training forward of a model, with its head and side task.
        objective: sees the views ``[n, d]`` of the global batch, gathered from all processes.
        pairs: what belongs together, as rows of ``tokens``.
        tokens: the sentences' token ids.
        config: the settings.
        accelerator: device, precision, processes, trackers.
        run: run folder; the main process writes ``log.jsonl``, ``checkpoints/``, ``best/`` and ``last/`` there.
        score: held-out scores of the model, logged at step 0, every ``eval_every`` steps and at the last one.
        dev: the score by which ``best/`` is chosen, higher is better; ``last/`` is the model as last scored.
        resume: continue from the newest checkpoint of ``run``, if there is one.
        words: how token ids make words, where the pairs change some.

    Raises:
        FloatingPointError: loss or gradient are no longer finite; the step and what to try are named.
        InputError: fewer than two pairs a process, pairs and objective that do not fit, or a checkpoint that does not.
    """
    towers = len(towers_of(embedder.model))
    refuse_misfit(objective, pairs, towers)
    steps = config.steps(len(pairs), accelerator.num_processes)
    model, about = embedder.model, {"attention": embedder.attention, "compile": config.compile}
    about |= {"precision": accelerator.mixed_precision, "threads": torch.get_num_threads()}
    torch.manual_seed(config.seed)  # the same predictor on every process
    names, sentences = None, 0
    if objective.numbered:
        distinct = np.unique(tokens.distinct()[np.asarray(pairs.rows)])
        names, sentences = np.searchsorted(distinct, tokens.distinct()), len(distinct)  # of those that are trained on
    objective.prepare(embedder.dimension, sentences)
    objective.to(accelerator.device)
    twin = Twin(embedder).to(accelerator.device) if "targets" in objective.needs else None
    parameters = [p for module in (embedder, objective) for p in module.parameters() if p.requires_grad]
    # The fused kernel is one pass over memory, on CPU and CUDA alike.
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    found = checkpoint.newest(run) if resume else None
    beside = {"objective": objective} | ({"twin": twin} if twin else {})  # what is saved and resumed, too
    done = checkpoint.restore(found, embedder, optimizer, beside) if found else 0
    if config.compile:
        embedder.compile(dynamic=True)
    prepared, optimizer = accelerator.prepare(embedder, optimizer)
    world, rank = accelerator.num_processes, accelerator.process_index
    source = Source(pairs, tokens, names, words, towers, config.seed, config.batch_size, world, rank)
    log = Log(run, accelerator, steps, done, source.updates.seen(done), dev, about)

    model.train()
    if twin:
        twin.train()
    for step, batch in enumerate(source.batches(done, steps, config.workers), start=done + 1):
        loss, seen = _gradients(prepared, objective, batch, config, accelerator, step, twin)
        known: dict[str, Any] = {"identical": pairs.views, "informs": objective.informs and not pairs.negatives}
        given = len(seen.given[0]) if seen.given else 1
        known["reference"] = objective.reference(given, pairs.negatives, pairs.runs)
        if step == 1:  # (nothing has been learned yet)
            _score(log, score, model, run, 0, loss)
            log.write(0, loss, *seen.partners, **(known | objective.told(*seen.partners)))
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step, steps)
        agree(objective, accelerator)
        norm = float(accelerator.clip_grad_norm_(parameters, config.clip))
        overflow = accelerator.scaler is not None and math.isfinite(loss)  # fp16's scaler skips such a step
        if not (math.isfinite(norm) and math.isfinite(loss)) and not overflow:
            raise FloatingPointError(
                f"step {step}: the loss is {loss:.4g} and the gradient norm {norm:.4g}; "
                f"try a lower --lr (now {config.lr:g}) or a longer --warmup (now {config.warmup})"
            )
        optimizer.step()
        optimizer.zero_grad()
        if seen.given is not None:
            objective.update(*seen.given)
        if twin:
            twin.follow(embedder, objective.momentum(step / steps))
        log.advance(loss, source.updates.size((step - 1) % len(source)))
        scored = step == steps or (config.eval_every > 0 and step % config.eval_every == 0)
        if scored:
            _score(log, score, model, run, step, loss)
        if scored or step % config.log_every == 0:
            known |= {"lr": config.lr_at(step, steps), "gradient_norm": norm, **objective.told(*seen.partners)}
            log.write(step, loss, *seen.partners, **known)
        if config.save_every and (step % config.save_every == 0 or step == steps):
            with log.paused():
                for module in beside.values():
                    refuse_drift(module, accelerator)
                if accelerator.is_main_process:
                    checkpoint.save(run / "checkpoints" / f"step-{step}", step, embedder, optimizer, beside)
                accelerator.wait_for_everyone()
    log.close()
    model.eval()
    return max(done, steps)


def _score(log: Log, score: Scores | None, model: SentenceTransformer, run: Path, step: int, loss: float) -> None:
    """Score the model and keep it: in ``last/``, and in ``best/`` where its dev score is the highest so far."""
    with log.paused():
        best = log.score(score, model, step, loss)
        if log.dev in log.scores:
            kept = {"step": step, log.dev: log.scores[log.dev]}
            for name in ("last", "best") if best else ("last",):
                checkpoint.save_model(run / name, model, kept)
        log.accelerator.wait_for_everyone()


def refuse_misfit(objective: Objective, pairs: Pairs, towers: int = 1) -> None:
    """InputError where an objective lacks what it needs of the pairs, or would leave out what they have."""
    name = next((key for key, kind in OBJECTIVES.items() if kind is type(objective)), type(objective).__name__)
    there = {"runs": pairs.runs, "labels": pairs.labels is not None, "negatives": pairs.negatives > 0, "targets": True}
    for need in sorted(objective.needs):
        if not there[need]:
            raise InputError(f"objective {name} needs {NEEDS[need]}")
    if pairs.negatives and "negatives" not in objective.needs | objective.takes:
        raise InputError(
            f"objective {name} takes no hard negatives, and the pairs have {pairs.negatives} each; choose infonce, "
            "hard_negatives or dpr, or leave their columns out (negatives=none)"
        )
    if pairs.labels is not None and "labels" not in objective.needs:
        raise InputError(f"objective {name} makes no use of classes; choose supcon, or leave label= out")
    if towers > 1 and objective.one_space:
        raise InputError(f"objective {name} keeps what both sides look like in one place; it needs --towers 1")


@dataclass(frozen=True)
class Seen:
    """What an update was computed from, of the global batch, without its graph."""

    partners: tuple[Tensor, Tensor]  # [n, d] each, for the log
    given: tuple[Tensor, Tensor, Extras] | None  # what the objective was given; None: nothing


def _gradients(
    embedder: nn.Module,
    objective: Objective,
    batch: Batch,
    config: FitConfig,
    accelerator: Accelerator,
    step: int,
    twin: Twin | None = None,
) -> tuple[float, Seen]:
    """Loss, with its gradient in the parameters, and what it was computed from.

    With ``micro_batch`` it is the gradient of the whole batch still: embeddings of all parts without a graph, the
    loss' gradient at them, then each part once more with its graph and the same dropout masks.
    Source: gradient caching, Gao et al. 2021 (arXiv 2101.06983).
    """
    model: SentenceTransformer = accelerator.unwrap_model(embedder).model
    # As many parts on every process, whose last backward joins all gradients: a part may be a pair larger than asked.
    least = min(batch.counts or (len(batch),))
    bounds = np.linspace(0, len(batch), max(1, math.ceil(least / (config.micro_batch or least))) + 1).astype(int)
    parts = [slice(*both) for both in pairwise(bounds.tolist())]

    def forward(number: int, masked: bool) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Each column's embeddings, and the side task's loss."""
        # Random numbers depend on the step and the part alone: a resumed run needs no saved state of them, and a part
        # meets the same ones again.
        seed_dropout(_seed(config.seed, step, accelerator.process_index, number))
        features = batch.features(model, parts[number], accelerator.device)
        found = embedder(*features, masked=masked)
        embeddings, aside = found if isinstance(found, tuple) else (found, None)
        return embeddings.chunk(len(batch.columns)), aside

    def targets() -> tuple[Tensor, ...]:
        """Each column as the twin sees it, without a graph; none without one."""
        each = []
        for number, part in enumerate(parts):
            if twin is None:
                return ()
            seed_dropout(_seed(config.seed, step, accelerator.process_index, number, 1))
            with accelerator.autocast():
                found = twin(*batch.features(model, part, accelerator.device))
            each.append(found.chunk(len(batch.columns)))
        return tuple(torch.cat(column) for column in zip(*each, strict=True))

    if len(parts) == 1:
        columns, aside = forward(0, masked=config.mlm > 0)
        loss, seen = _loss(objective, columns, batch, accelerator, targets())
        accelerator.backward(loss if aside is None else loss + config.mlm * aside)
        return loss.item(), seen

    with torch.no_grad():
        each = [forward(number, masked=False)[0] for number in range(len(parts))]
    columns = tuple(torch.cat(column).requires_grad_() for column in zip(*each, strict=True))
    loss, seen = _loss(objective, columns, batch, accelerator, targets())
    accelerator.backward(loss)
    slopes = [column.grad if column.grad is not None else torch.zeros_like(column) for column in columns]
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(embedder):
            found, aside = forward(number, masked=config.mlm > 0)
            surrogate = torch.stack(
                [(column * slope[part]).sum() for column, slope in zip(found, slopes, strict=True)]
            ).sum()
            if aside is not None:
                share = len(found[0]) / len(batch) * (accelerator.scaler.get_scale() if accelerator.scaler else 1)
                surrogate = surrogate + config.mlm * share * aside
            surrogate.backward()
    return loss.item(), seen


def _loss(
    objective: Objective,
    columns: tuple[Tensor, ...],
    batch: Batch,
    accelerator: Accelerator,
    targets: tuple[Tensor, ...] = (),
) -> tuple[Tensor, Seen]:
    """The loss of the global batch, of all columns gathered from all processes."""
    device = accelerator.device
    together = [gather(column, batch.counts) for column in columns]
    twins = [gather_plain(column, batch.counts) for column in targets]
    ids = gather_plain(batch.ids.to(device), batch.counts)
    positions, labels = (
        None if numbers is None else gather_plain(numbers.to(device), batch.counts)
        for numbers in (batch.positions, batch.labels)
    )
    if positions is None:
        x, y, *hard = together
        negatives = torch.stack(hard, dim=1) if hard else None
        extras = Extras(ids, negatives, labels=labels, targets=(twins[0], twins[1]) if twins else None)
        return objective(x, y, extras), Seen((x.detach(), y.detach()), (x.detach(), y.detach(), extras))
    x, y = together[0], together[-1]
    first = (positions.diff() == 1).nonzero()[:, 0]  # sentences whose follower is the next of the batch
    if not len(first):  # no two neighbours: nothing to learn from
        return 0 * (x.sum() + y.sum()), Seen((x[:1].detach(), y[:1].detach()), None)
    partners = (x[first].detach(), y[first + 1].detach())
    if "runs" in objective.needs | objective.takes:
        extras = Extras(ids, positions=positions)
        return objective(x, y, extras), Seen(partners, (x.detach(), y.detach(), extras))
    extras = Extras(
        torch.stack([ids[first, 0], ids[first + 1, 0]], dim=1),
        targets=(twins[0][first], twins[-1][first + 1]) if twins else None,
    )
    return objective(x[first], y[first + 1], extras), Seen(partners, (*partners, extras))


def describe(
    config: FitConfig, objective: Objective, pairs: Pairs, accelerator: Accelerator, embedder: Embedder
) -> str:
    """The first log line: what one update sees and computes with, and how long the run is."""
    processes = accelerator.num_processes
    whole = min(config.batch_size * processes, len(pairs))
    each = min(config.batch_size, len(pairs) // processes)
    what = "consecutive sentences" if pairs.runs else "pairs"
    parts = f" in parts of {config.micro_batch}" if 0 < config.micro_batch < each else ""
    contrasted = objective.negatives(whole, pairs.negatives, pairs.runs)
    how = f"attention {embedder.attention}, " if embedder.attention != "none" else ""
    return (
        f"{processes} process(es) on {accelerator.device.type}, precision {accelerator.mixed_precision}, {how}"
        f"{'compiled, ' if config.compile else ''}{torch.get_num_threads()} thread(s); "
        f"batch {each} {what} per process{parts}, {whole} in all, {contrasted}; "
        f"{config.steps(len(pairs), processes)} steps over {len(pairs):,} {what}"
    )


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
