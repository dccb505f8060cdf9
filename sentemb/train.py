"""The only training loop: one forward for both views, global negatives with exact gradients, a log a human can read."""

import contextlib
import hashlib
import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import nn

from sentemb import checkpoint
from sentemb.config import FitConfig
from sentemb.corpus import Tokens
from sentemb.encoders import towers_of
from sentemb.errors import Halted, InputError, Stopped
from sentemb.forward import Embedder
from sentemb.objectives import NEEDS, OBJECTIVES, Objective
from sentemb.pairs import Pairs, Words
from sentemb.processes import agree, any_of, on_main, refuse_drift
from sentemb.runlog import Log, Scores, rewind, saved_best
from sentemb.runs import CONFIG, RunFolder, refuse_foreign, write_card
from sentemb.source import Batch, Source
from sentemb.stopping import Signals, explained
from sentemb.storage import write_text
from sentemb.twin import Twin
from sentemb.update import gradients

Found = tuple[Path | None, list[str]]  # a checkpoint, and what was said of those that are not whole
SKIPS = 20  # updates without a finite gradient, one after another, that --on-nan skip bears


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
            :func:`newest_whole` has found.
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
    if pairs.runs and towers == 1 and positive_tokens is not None:
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
    if objective.numbered:
        distinct = np.unique(tokens.distinct()[np.asarray(pairs.rows)])
        names, sentences = np.searchsorted(distinct, tokens.distinct()), len(distinct)  # of those that are trained on
    objective.prepare(embedder.dimension, sentences)
    objective.to(accelerator.device)
    twin = Twin(embedder).to(accelerator.device) if "targets" in objective.needs else None
    parameters = [p for module in (embedder, objective) for p in module.parameters() if p.requires_grad]
    # The fused kernel is one pass over memory, on CPU and CUDA alike.
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    beside: dict[str, nn.Module] = {"objective": objective} | ({"twin": twin} if twin else {})  # saved and resumed, too
    found, told = newest_whole(run, accelerator) if resume is True else resume or (None, [])
    state = checkpoint.restore(found, embedder, optimizer, beside) if found else {}
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
    source = Source(pairs, tokens, names, words, towers, *cuts, positive_tokens)

    def save(step: int) -> None:
        for module in beside.values():
            refuse_drift(module, accelerator)
        if accelerator.is_main_process:
            state = {"step": step, "skipped": skipped, "settings": deciding, **log.state()}
            state["scaler"] = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            try:
                checkpoint.save(folder.checkpoint(step), embedder, optimizer, beside, state, _card(run, step, log))
            except FloatingPointError as error:
                raise FloatingPointError(f"step {step}: {error}, so it is not saved; {_mend(run, config)}") from None
            checkpoint.prune(run, config.keep)
        accelerator.wait_for_everyone()

    model.train()
    if twin:
        twin.train()
    each = min(config.batch_size, len(pairs) // world)
    with _explained(run, config.micro_batch, each) as at, Signals() as signals:
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
            known: dict[str, Any] = {"identical": pairs.views, "informs": objective.informs and not pairs.negatives}
            given = len(seen.given[0]) if seen.given else 1
            known["reference"] = objective.reference(given, pairs.negatives, pairs.runs)
            known["batch"] = _digest(batch)
            if step == 1:  # (nothing has been learned yet)
                _score(log, score, model, run, 0, loss)
                log.write(0, loss, *seen.partners, **(known | objective.told(*seen.partners)))
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step, steps)
            agree(objective, accelerator)
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
                known |= objective.told(*seen.partners) | ({"overflow": True} if overflow else {})
                log.write(step, loss, *seen.partners, **known)
            ends = any_of(signals.asked > 0, accelerator)
            if ends or (config.save_every and (step % config.save_every == 0 or step == steps)):
                with log.paused():
                    save(step)
            if ends:
                raise Stopped(step, steps, folder.checkpoint(step))
    model.eval()
    return max(done, steps)


def newest_whole(run: Path, accelerator: Accelerator) -> Found:
    """As checkpoint.newest_whole: the main process looks, all take what it found."""
    return on_main(lambda: checkpoint.newest_whole(run), accelerator)


def stepped(optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> bool:
    """Take a step of the optimiser; whether it was taken, and not left out by fp16's loss scaler.

    The scale tells: it falls where, and only where, a step is left out. (``step_was_skipped`` of accelerate's optimiser
    stays False with fused kernels, which are called in any case and look at the overflow themselves.)
    """
    before = accelerator.scaler.get_scale() if accelerator.scaler is not None else 0.0
    optimizer.step()
    return accelerator.scaler is None or accelerator.scaler.get_scale() >= before


def _deciding(config: FitConfig, processes: int) -> dict[str, float]:
    """The settings that a run must go on with."""
    names = ("lr", "warmup", "weight_decay", "clip", "seed", "mlm")
    return {name: getattr(config, name) for name in names} | {"global batch": config.batch_size * processes}


class _Place:
    """How far the loop has come, for what is said when it fails."""

    step = 0
    encoding = False
    log: Log | None = None


@contextlib.contextmanager
def _explained(run: Path, micro_batch: int, batch_size: int) -> Iterator[_Place]:
    """Errors that are none of the code as Halted, with what is kept; the log is closed in any case."""
    at = _Place()
    try:
        yield at
    except (InputError, FloatingPointError):
        raise
    except Exception as error:
        why = None if isinstance(error, Stopped) else explained(error, micro_batch, batch_size * at.encoding)
        if why is None:
            raise
        raise Halted(f"step {at.step}: {why}; {_kept(run)}") from error
    finally:
        with contextlib.suppress(OSError):  # (of a full disk)
            if at.log is not None:
                at.log.close()


def _kept(run: Path) -> str:
    """What a run that fails now goes on from."""
    newest = RunFolder(run).newest_checkpoint()
    if newest is None:
        return "no checkpoint was saved yet (--save-every)"
    return f"the last good checkpoint is {newest}, and --resume --out {run} goes on from it"


def _mend(run: Path, config: FitConfig) -> str:
    skip = ", or leave out such updates with --on-nan skip" if config.on_nan == "stop" else ""
    return (
        f"{_kept(run)}; try a lower --lr (now {config.lr:g}) or a longer --warmup (now {config.warmup}) in a new "
        f"run{skip}"
    )


def _digest(batch: Batch) -> str:
    """Hex digest of the numbers of an update's pairs, on all processes."""
    assert batch.numbers is not None
    return hashlib.blake2b(batch.numbers.astype("<i8").tobytes(), digest_size=8).hexdigest()


def _batch_file(
    run: Path, step: int, batch: Batch, pairs: Pairs, about: dict[str, float], accelerator: Accelerator
) -> str:
    """Write down which pairs an update without a finite gradient saw; returns a clause that says where."""
    assert batch.numbers is not None
    path, numbers = RunFolder(run).nonfinite(step), batch.numbers.tolist()
    if accelerator.is_main_process:
        content = {"step": step, **{name: str(value) for name, value in about.items()}, "pairs": numbers}
        content["sentences"] = pairs.rows[batch.numbers].tolist()  # rows of the corpus
        write_text(path, json.dumps(content) + "\n")
    shown = ", ".join(map(str, numbers[:5]))
    return f" (pairs {shown}{', ...' if len(numbers) > 5 else ''}: {len(numbers)} in {path})"


def _score(log: Log, score: Scores | None, model: SentenceTransformer, run: Path, step: int, loss: float) -> None:
    """Score the model and keep it: in ``last/``, and in ``best/`` where its dev score is the highest so far."""
    with log.paused():
        best = log.score(score, model, step, loss)
        if log.dev in log.scores:
            kept = {"step": step, log.dev: log.scores[log.dev]}
            for name in ("last", "best") if best else ("last",):
                checkpoint.save_model(run / name, model, kept, _card(run, step, log))
        log.accelerator.wait_for_everyone()


def _card(run: Path, step: int, log: Log) -> checkpoint.Card:
    """Writes the card of the model after ``step`` into a folder, with its dev scores."""
    scores = {name.removeprefix("heldout_"): value for name, value in log.scores.items()}
    return lambda folder: write_card(folder, RunFolder(run).read_config(), f"{step} steps", scores)


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
        raise InputError(
            f"objective {name} makes no use of classes; choose supcon or cross_entropy, or leave label= "
            "(of neighbours: classes=) out"
        )
    classes = getattr(objective, "classes", None)
    found = 0 if pairs.labels is None else int(pairs.labels.max(initial=-1)) + 1
    if classes is not None and found > classes:
        raise InputError(f"objective {name} has {classes} classes and the pairs {found}; write {name}:classes={found}")
    if towers > 1 and objective.one_space:
        raise InputError(f"objective {name} keeps what both sides look like in one place; it needs --towers 1")


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
