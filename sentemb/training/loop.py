"""The only training loop: one forward for both views, global negatives with exact gradients, a log a human can read."""

import hashlib
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb.corpus import Tokens
from sentemb.encoders import towers_of
from sentemb.errors import InputError, TrainingInterrupted
from sentemb.forward import TrainingEncoder
from sentemb.objectives import Objective
from sentemb.pairs import Pairs, Words
from sentemb.runs import CONFIG, RunFolder, refuse_foreign, write_card
from sentemb.training import checkpoints
from sentemb.training.batches import Batch, BatchDataset
from sentemb.training.config import FitConfig
from sentemb.training.distributed import any_rank, average_gradients, on_main, refuse_drift
from sentemb.training.failures import _batch_file, _explained, _mend
from sentemb.training.log import Log, Scores, rewind
from sentemb.training.momentum_encoder import MomentumEncoder
from sentemb.training.selection import saved_best
from sentemb.training.setup import _deciding, refuse_misfit
from sentemb.training.signals import StopRequest
from sentemb.training.step import gradients

Found = tuple[Path | None, list[str]]  # a checkpoint, and what was said of those that are not whole
SKIPS = 20  # updates without a finite gradient, one after another, that --on-nan skip bears


def fit(
    embedder: TrainingEncoder,
    objective: Objective,
    pairs: Pairs,
    tokens: Tokens,
    config: FitConfig,
    accelerator: Accelerator,
    run: Path,
    score: Scores | None = None,
    dev: str | None = None,
    resume: bool | Found = False,
    words: Words | None = None,
    positive_tokens: Tokens | None = None,
    caller_files: Collection[str] = (CONFIG,),
    forget_best: bool = False,
) -> int:
    """Train ``embedder.model`` in place; returns the number of updates done.

    Args:
        embedder: the training forward of a model, with its head and side task.
        objective: sees the views ``[n, d]`` of the global batch, gathered from all processes.
        pairs: what belongs together, as rows of ``tokens``.
        tokens: the sentences' token ids, of the first side of each pair.
        positive_tokens: of the second side and of hard negatives, where they have another prompt; None: the same.
        config: the settings.
        accelerator: device, precision, processes, trackers.
        run: run folder, new or empty; the main process writes ``log.jsonl``, ``checkpoints/``, ``best/`` and ``last/``
            there, and touches nothing that the run has not written.
        score: held-out scores of the model, logged at step 0, every ``eval_every`` steps and at the last one.
        dev: the score by which ``best/`` is chosen, higher is better; ``last/`` is the model as last scored.
        resume: continue from the newest whole checkpoint of ``run``, if there is one; or from what
            :func:`agreed_checkpoint` has found.
        words: how token ids make words, where the pairs change some.
        caller_files: names in ``run`` that the caller has put there.
        forget_best: the dev scores of the run that is resumed do not compare with those of now; ``best/`` is chosen
            anew.

    Raises:
        FloatingPointError: loss, gradient or weights are no longer finite; step, batch and what to try are named.
        Halted: the disk or the memory is full, or another process has died; how to go on is said.
        InputError: fewer than two pairs a process, pairs and objective that do not fit, no checkpoint that does, or a
            folder with files that the run has not written (:func:`sentemb.runs.folder.refuse_foreign`); nothing has
            been written by then.
        Stopped: SIGTERM or SIGINT asked for it; the step at hand is finished and saved.
    """
    folder, towers = RunFolder(run), len(towers_of(embedder.model))
    refuse_misfit(objective, pairs, towers)
    if pairs.are_contiguous and towers == 1 and positive_tokens is not None:
        raise InputError(
            "positive_tokens are of the second side of pairs, and of consecutive sentences one encoder takes each but "
            "once; leave them out, or train two towers"
        )
    on_main(lambda: refuse_foreign(run, bool(resume), caller_files), accelerator)
    steps = config.steps(len(pairs), accelerator.num_processes)
    model, about = embedder.model, {"attention": embedder.attention, "compile": config.compile}
    about |= {"precision": accelerator.mixed_precision, "threads": torch.get_num_threads()}
    torch.manual_seed(config.seed)  # the same predictor on every process
    names, sentences = None, 0
    if objective.needs_sentence_ids:
        distinct = np.unique(tokens.distinct()[np.asarray(pairs.rows)])
        names, sentences = np.searchsorted(distinct, tokens.distinct()), len(distinct)  # of those that are trained on
    objective.prepare(embedder.dimension, sentences)
    objective.to(accelerator.device)
    twin = MomentumEncoder(embedder).to(accelerator.device) if "targets" in objective.needs else None
    parameters = [p for module in (embedder, objective) for p in module.parameters() if p.requires_grad]
    # The fused kernel is one pass over memory, on CPU and CUDA alike.
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    beside: dict[str, nn.Module] = {"objective": objective} | ({"twin": twin} if twin else {})  # saved and resumed, too
    found, told = agreed_checkpoint(run, accelerator) if resume is True else resume or (None, [])
    state = checkpoints.restore(found, embedder, optimizer, beside) if found else {}
    state |= {"best": None} if forget_best else {}
    deciding = _deciding(config, accelerator.num_processes)
    for setting, value in state.get("settings", deciding).items():
        if deciding.get(setting) != value:
            raise InputError(
                f"{found} was made with {setting} {value}, and now it is {deciding.get(setting)}; give the run the "
                "settings that it had (config.json was changed?), or begin a new one"
            )
    done, skipped = state.get("step", 0), state.get("skipped", 0)
    if accelerator.scaler is not None and state.get("scaler"):
        accelerator.scaler.load_state_dict(state["scaler"])
    if config.compile:
        embedder.compile(dynamic=True)
    prepared, optimizer = accelerator.prepare(embedder, optimizer)
    world, rank = accelerator.num_processes, accelerator.process_index
    cuts = (config.seed, config.batch_size, world, rank, config.least)
    source = BatchDataset(pairs, tokens, names, words, towers, *cuts, positive_tokens)

    def save(step: int) -> None:
        for module in beside.values():
            refuse_drift(module, accelerator)
        if accelerator.is_main_process:
            state = {"step": step, "skipped": skipped, "settings": deciding, **log.state()}
            state["scaler"] = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            try:
                checkpoints.save(folder.checkpoint(step), embedder, optimizer, beside, state, _card(run, step, log))
            except FloatingPointError as error:
                raise FloatingPointError(f"step {step}: {error}, so it is not saved; {_mend(run, config)}") from None
            checkpoints.prune(run, config.keep)
        accelerator.wait_for_everyone()

    model.train()
    if twin:
        twin.train()
    each = min(config.batch_size, len(pairs) // world)
    with _explained(run, config.micro_batch, each) as at, StopRequest() as signals:
        if accelerator.is_main_process:
            run.mkdir(parents=True, exist_ok=True)
            rewind(run, done)
        best = -math.inf if forget_best else saved_best(run, done, dev)
        log = at.log = Log(run, accelerator, steps, done, source.updates.seen(done), dev, best, about, state)
        for warning in told:
            log.warn(warning)
        for step, batch in enumerate(source.batches(done, steps, config.workers), start=done + 1):
            at.step = step
            at.encoding = True
            loss, seen = gradients(prepared, objective, batch, config, accelerator, step, twin)
            at.encoding = False
            known: dict[str, Any] = {
                "identical": pairs.self_pairs,
                "informs": objective.bounds_mutual_information and not pairs.num_hard_negatives,
            }
            given = len(seen.given[0]) if seen.given else 1
            known["reference"] = objective.chance_loss(given, pairs.num_hard_negatives, pairs.are_contiguous)
            known["batch"] = _digest(batch)
            if step == 1:  # (nothing has been learned yet)
                _score(log, score, model, run, 0, loss)
                log.write(0, loss, *seen.partners, **(known | objective.log_metrics(*seen.partners)))
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step, steps)
            average_gradients(objective, accelerator)
            norm = float(accelerator.clip_grad_norm_(parameters, config.clip))
            finite = math.isfinite(norm) and math.isfinite(loss)
            # Under fp16 a scaled gradient may overflow: its scaler then leaves the step out, and halves the scale.
            overflow = accelerator.scaler is not None and math.isfinite(loss) and not math.isfinite(norm)
            skipped = 0 if finite else skipped + 1
            if finite or overflow:
                if stepped(optimizer, accelerator):  # what the objective and the twin remember is of updates made
                    if seen.given is not None:
                        objective.update(*seen.given)
                    if twin:
                        twin.follow(embedder, objective.momentum(step / steps))
            else:
                why = f"step {step}: the loss is {loss:.4g} and the gradient norm {norm:.4g}"
                why += _batch_file(run, step, batch, pairs, {"loss": loss, "gradient_norm": norm}, accelerator)
                if accelerator.scaler is not None:  # it has looked at the gradient, and waits for an update
                    accelerator.scaler.update()
                if config.on_nan == "stop" or skipped >= SKIPS:
                    many = f", as of the {skipped - 1} updates before" if skipped > 1 else ""
                    raise FloatingPointError(f"{why}{many}; {_mend(run, config)}")
            if overflow and skipped >= 2 * SKIPS:  # the scaler has halved its scale so often
                raise FloatingPointError(f"step {step}: no finite gradient in {skipped} updates; {_mend(run, config)}")
            optimizer.zero_grad()
            log.advance(loss, source.updates.size((step - 1) % len(source)))
            scored = step == steps or (config.eval_every > 0 and step % config.eval_every == 0)
            if scored:
                _score(log, score, model, run, step, loss)
            if not (finite or overflow):
                log.skip(step, f"{why}; the update is skipped", known["batch"])
            elif scored or step % config.log_every == 0:
                known |= {"lr": config.lr_at(step, steps), "gradient_norm": None if overflow else norm}
                known |= objective.log_metrics(*seen.partners) | ({"overflow": True} if overflow else {})
                log.write(step, loss, *seen.partners, **known)
            ends = any_rank(signals.asked > 0, accelerator)
            if ends or (config.save_every and (step % config.save_every == 0 or step == steps)):
                with log.paused():
                    save(step)
            if ends:
                raise TrainingInterrupted(step, steps, folder.checkpoint(step))
    model.eval()
    return max(done, steps)


def agreed_checkpoint(run: Path, accelerator: Accelerator) -> Found:
    """As checkpoints.newest_whole: the main process looks, all take what it found."""
    return on_main(lambda: checkpoints.newest_valid_checkpoint(run), accelerator)


def stepped(optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> bool:
    """Take a step of the optimiser; whether it was taken, and not left out by fp16's loss scaler.

    The scale tells: it falls where, and only where, a step is left out. (``step_was_skipped`` of accelerate's optimiser
    stays False with fused kernels, which are called in any case and look at the overflow themselves.)
    """
    before = accelerator.scaler.get_scale() if accelerator.scaler is not None else 0.0
    optimizer.step()
    return accelerator.scaler is None or accelerator.scaler.get_scale() >= before


def _digest(batch: Batch) -> str:
    """Hex digest of the numbers of an update's pairs, on all processes."""
    assert batch.pair_indices is not None
    return hashlib.blake2b(batch.pair_indices.astype("<i8").tobytes(), digest_size=8).hexdigest()


def _score(log: Log, score: Scores | None, model: SentenceTransformer, run: Path, step: int, loss: float) -> None:
    """Score the model and keep it: in ``last/``, and in ``best/`` where its dev score is the highest so far."""
    with log.paused():
        best = log.score(score, model, step, loss)
        if log.dev in log.scores:
            kept = {"step": step, log.dev: log.scores[log.dev]}
            for name in ("last", "best") if best else ("last",):
                checkpoints.save_selected_model(run / name, model, kept, _card(run, step, log))
        log.accelerator.wait_for_everyone()


def _card(run: Path, step: int, log: Log) -> checkpoints.Card:
    """Writes the card of the model after ``step`` into a folder, with its dev scores."""
    scores = {name.removeprefix("heldout_"): value for name, value in log.scores.items()}
    return lambda folder: write_card(folder, RunFolder(run).read_config(), f"{step} steps", scores)
