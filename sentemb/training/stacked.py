"""Several runs in one process on the same batches: one forward and one backward for all, everything else for each."""

import sys
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from accelerate import Accelerator

from sentemb.errors import InputError
from sentemb.forward import StackedEncoder, TrainingEncoder, stacking_shape
from sentemb.mining import RefreshedNegatives
from sentemb.objectives import Objective
from sentemb.training.data import Batch, TrainingData
from sentemb.training.evaluator import NO_EVALUATION, Evaluation, Evaluator
from sentemb.training.failures import explaining_failures
from sentemb.training.log import RunLog
from sentemb.training.loop import FitResult, apply_update, save_checkpoint
from sentemb.training.schedule import set_learning_rate
from sentemb.training.settings import TrainingSettings
from sentemb.training.setup import RunTarget, TrainingRun, set_up
from sentemb.training.signals import StopRequest
from sentemb.training.step import Update, stacked_backward

SHARED = ("epochs", "max_steps", "batch_size", "smallest_batch", "seed", "workers")  # settings that lanes have alike


@dataclass(frozen=True)
class Lane:
    """One of the runs of :func:`fit_stacked`: what :func:`sentemb.training.fit` takes, except data and accelerator."""

    encoder: TrainingEncoder
    objective: Objective
    settings: TrainingSettings
    target: RunTarget
    evaluation: Evaluation = NO_EVALUATION
    output: TextIO | None = None  # for its progress bar and what it says; None: stderr

    @property
    def stacking_key(self) -> Hashable | None:
        """Equal for runs on the same data that can be trained together; None: this one can only be trained alone.

        Trained alone are transformers, encoders with dropout or a masked-language-model task, compiled ones, those
        whose batch is encoded in parts, and objectives that keep something for each sentence. Seeds must be equal, as
        a seed decides the order of the pairs. Learning rate, warm-up, weight decay, clipping, head and objective may
        differ, and so may when a run logs, scores and saves.
        """
        shape, settings = stacking_shape(self.encoder), self.settings
        is_cut = 0 < settings.micro_batch < settings.batch_size
        if shape is None or is_cut or settings.compile or settings.mlm or self.objective.needs_sentence_ids:
            return None
        return shape, tuple(getattr(settings, name) for name in SHARED)


def fit_stacked(lanes: Sequence[Lane], data: TrainingData, accelerator: Accelerator) -> list[FitResult | Exception]:
    """Train several encoders of one shape on the same batches; each ends as ``fit`` would leave it.

    Batches are made once, and all encoders go through one forward and one backward pass. Each lane has its own loss,
    gradient norm, clipping, optimiser, guard against numbers that are not finite, log, scores, checkpoints and folder.
    Weights differ from those of a run alone by rounding at most.

    Args:
        lanes: runs of one :attr:`Lane.stacking_key`, which is not None; those that resume, from the same step.
        data: what all are trained on.
        accelerator: of one process, without a loss scaler (fp16) and without trackers.

    Returns:
        For each lane how far it has come, or the error that took it out: what ``fit`` raises. The other lanes continue.

    Raises:
        InputError: the lanes cannot be trained together; nothing has been written by then.
    """
    keys = {lane.stacking_key for lane in lanes}
    if len(keys) != 1 or None in keys:
        raise InputError(
            "these encoders cannot be trained together: they need one architecture without dropout, and the same "
            f"{', '.join(SHARED)}; train them one by one"
        )
    if accelerator.num_processes > 1 or accelerator.scaler is not None or accelerator.trackers:
        raise InputError("encoders are trained together by one process, in no or bf16 precision, without a tracker")
    if isinstance(data.pairs.negatives, RefreshedNegatives):
        raise InputError("hard negatives that a model in training finds are its own; train these encoders one by one")
    running = [_Running(lane) for lane in lanes]
    with StopRequest(lanes[0].target.exit_on_second_signal) as stop, ExitStack() as stack:
        for each in running:
            with each.separately():
                each.begin(data, accelerator, len(lanes), stack)
        _refuse_other_steps(running)
        interrupted = _train_steps(running, stop)
    return [each.outcome(interrupted) for each in running]


class _Running:
    """A lane while it is trained."""

    run: TrainingRun
    log: RunLog
    evaluator: Evaluator

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.is_set_up = False
        self.checkpoint: Path | None = None
        self.error: Exception | None = None

    @contextmanager
    def separately(self) -> Iterator[None]:
        """What concerns this lane alone: it speaks to its own output, and its error takes out no other lane."""
        explaining = _explaining(self.run) if self.is_set_up else nullcontext()
        try:
            with redirect_stderr(self.lane.output or sys.stderr), explaining:
                yield
        except Exception as error:
            self.error = error

    def begin(self, data: TrainingData, accelerator: Accelerator, lanes: int, stack: ExitStack) -> None:
        lane = self.lane
        self.run = set_up(lane.encoder, lane.objective, data, lane.settings, accelerator, lane.target, lane.evaluation)
        self.run.stacked = lanes
        self.is_set_up = True
        self.log, self.evaluator = stack.enter_context(self.run.reporting())

    def begin_update(self, step: int) -> None:
        self.run.state.step = step
        set_learning_rate(self.run.optimizer, self.run.settings, step, self.run.steps)

    def end_update(self, update: Update | Exception, batch: Batch, stopping: bool) -> None:
        if isinstance(update, Exception):
            raise update
        run = self.run
        apply_update(run, self.log, self.evaluator, update, batch)
        if stopping or run.settings.saves_at(run.state.step, run.steps):
            self.checkpoint = save_checkpoint(run, self.log, self.evaluator)

    def is_due(self, step: int) -> bool:
        """Whether it is scored or saved at ``step``."""
        settings, steps = self.run.settings, self.run.steps
        return step == 1 or settings.evaluates_at(step, steps) or settings.saves_at(step, steps)

    def outcome(self, interrupted: bool) -> FitResult | Exception:
        if self.error is not None:
            return self.error
        self.run.encoder.model.eval()
        return FitResult(self.run.state.step, self.run.steps, interrupted, self.checkpoint)


def _explaining(run: TrainingRun) -> AbstractContextManager[None]:
    return explaining_failures(run.target.folder, run.settings, run.state, run.batches, run.batch_encoder)


def _refuse_other_steps(running: Sequence[_Running]) -> None:
    """Take out the lanes that resume from another step than the first one: they would need other batches."""
    able = [each for each in running if each.error is None]
    for each in able[1:]:
        step, first = each.run.state.step, able[0].run.state.step
        if step != first:
            folder = each.lane.target.folder
            each.error = InputError(f"{folder} resumes from step {step}, and the others from {first}; train it alone")


def _train_steps(running: Sequence[_Running], stop: StopRequest) -> bool:
    """Train the lanes without an error to their last update; whether a stop was asked for before."""
    active = [each for each in running if each.error is None]
    if not active:
        return False
    first, stacked = active[0].run, StackedEncoder([each.run.encoder for each in active])
    done = first.state.step
    for step, batch in enumerate(first.batches.batches(done, first.steps, first.settings.workers), done + 1):
        for each in active:
            each.begin_update(step)
        updates = _updates(active, stacked, batch, step)
        stopping = stop.requested
        for each, update in zip(active, updates, strict=True):
            with each.separately(), _paused(active, each) if stopping or each.is_due(step) else nullcontext():
                each.end_update(update, batch, stopping)
        if any(each.error is not None for each in active):
            active = [each for each in active if each.error is None]
            if not active:
                return stopping
            stacked = StackedEncoder([each.run.encoder for each in active])
        if stopping:
            return True
    return False


@contextmanager
def _paused(active: Sequence[_Running], busy: _Running) -> Iterator[None]:
    """While one lane scores or saves: the others' pairs per second leave that time out, as its own do."""
    with ExitStack() as stack:
        for each in active:
            if each is not busy:
                stack.enter_context(each.log.paused())
        yield


def _updates(
    active: Sequence[_Running], stacked: StackedEncoder, batch: Batch, step: int
) -> Sequence[Update | Exception]:
    """Of each lane; an error of what they compute together is one of each."""
    lanes = [(each.run.batch_encoder, each.run.objective) for each in active]
    try:
        return stacked_backward(stacked, lanes, batch, step)
    except Exception as error:
        return [error] * len(active)
