"""The training loop. Everything that it calls has one duty and a file of its own in this package."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from sentemb.forward import TrainingEncoder
from sentemb.objectives import Objective
from sentemb.training.data import Batch, TrainingData
from sentemb.training.distributed import any_rank, average_gradients
from sentemb.training.evaluator import NO_EVALUATION, Evaluation, Evaluator
from sentemb.training.failures import explaining_failures
from sentemb.training.log import RunLog
from sentemb.training.optimizers import step_unless
from sentemb.training.schedule import set_learning_rate
from sentemb.training.settings import TrainingSettings
from sentemb.training.setup import RunTarget, TrainingRun, set_up
from sentemb.training.signals import StopRequest
from sentemb.training.step import Update, backward


@dataclass(frozen=True)
class FitResult:
    """The result of a run: its last step and checkpoint."""

    step: int  # updates done
    steps: int  # updates of the whole run
    interrupted: bool  # a signal or its deadline ended it early, after a checkpoint
    checkpoint: Path | None  # the newest one that this call has written


def fit(
    encoder: TrainingEncoder,
    objective: Objective,
    data: TrainingData,
    settings: TrainingSettings,
    accelerator: Accelerator,
    target: RunTarget,
    evaluation: Evaluation = NO_EVALUATION,
) -> FitResult:
    """Train ``encoder.model`` in place. ``sentemb.train`` is the layer above, which makes all of the arguments.

    Args:
        encoder: the training forward of a model, with its head and side task.
        objective: sees the views ``[n, d]`` of the global batch, gathered from all processes.
        data: positive pairs and token ids.
        settings: batch size, learning rate, how often to log, score and save, ...
        accelerator: device, precision, processes, trackers.
        target: the run folder. The main process writes ``log.jsonl``, ``checkpoints/``, ``best/`` and ``last/`` there,
            and touches nothing that the run has not written.
        evaluation: held-out scores, logged at step 0, every ``eval_every`` steps and at the last one.

    Raises:
        FloatingPointError: loss, gradient or weights are no longer finite; step, pairs and what to try are named.
        TrainingFailed: the disk or the memory is full, or another process has died; its text says how to resume.
        InputError: fewer than two pairs a process, pairs and objective that do not fit, no checkpoint that does, or a
            folder with files that the run has not written; nothing has been written by then.
    """
    run = set_up(encoder, objective, data, settings, accelerator, target, evaluation)
    with (
        # (first: a launcher may send a signal while a process looks which other one is missing)
        StopRequest(target.exit_on_second_signal, target.deadline) as stop,
        explaining_failures(target.folder, settings, run.state, run.batches, run.batch_encoder),
        run.reporting() as (log, evaluator),
    ):
        result = train_steps(run, log, evaluator, stop)
    encoder.model.eval()
    return result


def train_steps(run: TrainingRun, log: RunLog, evaluator: Evaluator, stop: StopRequest) -> FitResult:
    """Train from the current step to the last update, or until a signal asks to stop."""
    settings, state = run.settings, run.state
    checkpoint, stopping = None, False
    for batch in run.batches_left(log):
        state.step += 1
        set_learning_rate(run.optimizer, settings, state.step, run.steps)
        update = backward(run.batch_encoder, run.objective, batch, state.step, settings.micro_batch)
        apply_update(run, log, evaluator, update, batch)
        stopping = any_rank(stop.requested, run.accelerator)
        if stopping or settings.saves_at(state.step, run.steps):
            checkpoint = save_checkpoint(run, log, evaluator)
        if stopping:
            break
    return FitResult(state.step, run.steps, stopping, checkpoint)


def apply_update(run: TrainingRun, log: RunLog, evaluator: Evaluator, update: Update, batch: Batch) -> None:
    """Let the gradient of an update change the weights where it is finite; judge, score and record what is due.

    Where the host would wait for a device, the device itself leaves out what is not finite, and the host judges an
    update after it has asked for the next one. What is to be logged, scored or saved is judged at once.
    """
    settings, state, accelerator, objective = run.settings, run.state, run.accelerator, run.objective
    update.step = state.step
    if state.step == 1:  # nothing has been learned yet: the record of step 0
        evaluator.evaluate(0, update.loss)
        log.record_start(update, batch, run.conditions)
    average_gradients(objective, accelerator)
    gradient_norm = accelerator.clip_grad_norm_(run.parameters, settings.clip)
    if run.judges_late:
        step_unless(run.optimizer, update.send(gradient_norm))
        accepted = True
    else:
        update.read(gradient_norm)
        accepted = run.guard.accepts(update, batch)
        if accepted:
            run.optimizer.step()
    if accepted and update.objective_inputs is not None:
        objective.update(*update.objective_inputs)
    if accepted and run.momentum_encoder is not None:
        run.momentum_encoder.follow(run.encoder, objective.momentum(state.step / run.steps))
    run.optimizer.zero_grad()
    run.unsettled.append((update, batch))
    settle(run, log, evaluator, but=1 if run.judges_late and not settings.is_due(state.step, run.steps) else 0)


def settle(run: TrainingRun, log: RunLog, evaluator: Evaluator, but: int = 0) -> None:
    """Judge, score and record the updates that have changed the weights and were not recorded, ``but`` the last ones.

    Raises:
        FloatingPointError: as :meth:`NonFiniteGuard.accepts`.
    """
    while len(run.unsettled) > but:
        update, batch = run.unsettled.popleft()
        if run.judges_late:
            update.receive()
            run.guard.accepts(update, batch)
        if run.settings.evaluates_at(update.step, run.steps):
            evaluator.evaluate(update.step, update.loss)
        log.record(update, batch)


def save_checkpoint(run: TrainingRun, log: RunLog, evaluator: Evaluator) -> Path:
    """Write the checkpoint of the current step, and the log up to it."""
    settle(run, log, evaluator)
    with log.paused():
        log.sync()
        return run.checkpointer.save(run.state)
