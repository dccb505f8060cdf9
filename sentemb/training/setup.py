"""Prepare the first update: check, make the parts of training, and restore a resumed run."""

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from sentemb.encoders import towers_of
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, product_library
from sentemb.mining import RefreshedNegatives
from sentemb.objectives import NEEDS, OBJECTIVES, GuideMargin, Objective
from sentemb.pairs import Pairs
from sentemb.registry import build
from sentemb.runs import CONFIG, refuse_foreign
from sentemb.training.checkpoints import (
    Checkpointer,
    ResumePoint,
    fixed_settings,
    newest_valid_checkpoint,
    restore,
    set_aside_damaged,
)
from sentemb.training.data import Batch, BatchDataset, Guide, Teacher, TrainingData
from sentemb.training.distributed import on_main
from sentemb.training.evaluator import Evaluation, Evaluator
from sentemb.training.log import RunLog, rewind
from sentemb.training.momentum_encoder import MomentumEncoder
from sentemb.training.nonfinite import NonFiniteGuard
from sentemb.training.optimizers import OPTIMIZERS, OptimizerSettings
from sentemb.training.schedule import total_steps
from sentemb.training.selection import ModelSelection, saved_best
from sentemb.training.settings import TrainingSettings
from sentemb.training.state import TrainState
from sentemb.training.step import BatchEncoder, Update
from sentemb.wording import counted

FORMERLY = {"schedule": "linear", "optimizer": "adamw"}  # settings that version 0.1 had not, as it did


@dataclass(frozen=True)
class RunTarget:
    """Where a run is written, and whether it continues one."""

    folder: Path  # new or empty, or the run to resume
    resume: bool | ResumePoint = False  # True: from the newest valid checkpoint; or what :func:`agreed_checkpoint` gave
    caller_files: Collection[str] = (CONFIG,)  # names in the folder that the caller has put there
    forget_best: bool = False  # the dev scores of the resumed run do not compare with the current ones
    exit_on_second_signal: bool = False  # as a command does; a library raises KeyboardInterrupt
    deadline: float | None = None  # by time.monotonic(): the run ends after the current step then, saved


@dataclass
class TrainingRun:
    """All that the loop works with."""

    encoder: TrainingEncoder
    objective: Objective
    momentum_encoder: MomentumEncoder | None
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]  # those that are trained
    accelerator: Accelerator
    settings: TrainingSettings
    steps: int  # updates of the run
    batches: BatchDataset
    state: TrainState
    batch_encoder: BatchEncoder
    guard: NonFiniteGuard
    checkpointer: Checkpointer
    target: RunTarget
    evaluation: Evaluation
    resume_point: ResumePoint = field(default_factory=ResumePoint)
    stacked: int = 1  # runs that are trained together, this one among them
    judges_late: bool = False  # whether the device leaves out what is not finite, and the host hears of it later
    unsettled: deque[tuple[Update, Batch]] = field(default_factory=deque)  # updates that are not judged or recorded

    @property
    def conditions(self) -> dict[str, Any]:
        """The conditions that decide the numbers, in addition to the settings, for the log's first record."""
        return {
            "attention": self.encoder.attention,
            "compile": self.settings.compile,
            "precision": self.accelerator.mixed_precision,
            "products": product_library() if self.accelerator.device.type == "cpu" else "gpu",
            "recurrence": self.encoder.recurrence,
            "threads": torch.get_num_threads(),
            **({"stacked": self.stacked} if self.stacked > 1 else {}),
        }

    def batches_left(self, log: RunLog) -> Iterator[Batch]:
        """The batches of the updates that are left; between them, the model finds hard negatives where that is due."""
        state, batches, negatives = self.state, self.batches, self.batches.pairs.negatives
        if not isinstance(negatives, RefreshedNegatives):
            yield from batches.batches(state.step, self.steps, self.settings.workers)
            return
        while state.step < self.steps:  # (the caller counts the updates)
            if negatives.is_due(state.step):
                with log.paused():
                    log.say(f"step {state.step}: the model in training finds hard negatives")
                    negatives.refresh(self.encoder.model, state.step, self.accelerator.wait_for_everyone)
            stop = negatives.next_due(state.step, self.steps)
            yield from batches.batches(state.step, stop, self.settings.workers)

    @contextmanager
    def reporting(self) -> Iterator[tuple[RunLog, Evaluator]]:
        """Begin to write: the run folder, its log, and what scores the model; the log is closed at the end."""
        folder, state, accelerator = self.target.folder, self.state, self.accelerator
        warnings: list[str] = []
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            warnings = set_aside_damaged(self.resume_point)
            rewind(folder, state.step)
        best = -np.inf if self.target.forget_best else saved_best(folder, state.step, self.evaluation.dev)
        with RunLog(folder, accelerator, self.settings, self.steps, state, self.batches, self.objective) as log:
            for warning in warnings:
                log.warn(warning)
            dev = self.evaluation.dev if self.evaluation.saves else None
            selection = ModelSelection(folder, self.encoder.model, dev, best)
            yield log, Evaluator(self.evaluation, selection, log, accelerator)


def set_up(
    encoder: TrainingEncoder,
    objective: Objective,
    data: TrainingData,
    settings: TrainingSettings,
    accelerator: Accelerator,
    target: RunTarget,
    evaluation: Evaluation,
) -> TrainingRun:
    """Check what :func:`sentemb.training.fit` was given, make what training needs and restore what a run resumes from.

    Nothing is written.
    """
    towers = len(towers_of(encoder.model))
    refuse_misfit(objective, data.pairs, towers, data.teacher, data.guide)
    refuse_other_dimension(objective, encoder, data.teacher)
    if data.pairs.are_contiguous and towers == 1 and data.positive_tokens is not None:
        raise InputError(
            "positive_tokens belong to the second side of pairs, and one encoder takes each consecutive sentence only "
            "once; leave them out, or train two towers"
        )
    on_main(lambda: refuse_foreign(target.folder, bool(target.resume), target.caller_files), accelerator)
    world, device = accelerator.num_processes, accelerator.device
    steps = total_steps(settings, len(data.pairs), world)

    encoder.train()  # (with dropout, also where the model was loaded to be scored)
    torch.manual_seed(settings.seed)  # the same predictor on every process
    sentence_ids, sentences = _sentence_ids(objective, data)
    objective.teacher_dimension = 0 if data.teacher is None else data.teacher.dimension
    objective.guide_dimension = 0 if data.guide is None else data.guide.embeddings.dimension
    objective.prepare(encoder.dimension, sentences)
    objective.to(device)
    momentum_encoder = MomentumEncoder(encoder).to(device) if "targets" in objective.needs else None
    parameters = [p for module in (encoder, objective) for p in module.parameters() if p.requires_grad]
    chosen: OptimizerSettings = build(OPTIMIZERS, settings.optimizer, "optimizer")
    optimizer = chosen.of(parameters, settings.lr, settings.weight_decay)
    modules: dict[str, nn.Module] = {"objective": objective}
    if momentum_encoder is not None:
        modules["twin"] = momentum_encoder  # (its name in the checkpoints of all versions)

    if isinstance(data.pairs.negatives, RefreshedNegatives):
        modules["negatives"] = data.pairs.negatives

    point = agreed_checkpoint(target.folder, accelerator) if target.resume is True else target.resume or ResumePoint()
    state = TrainState()
    if point.checkpoint is not None:
        state, content = restore(point.checkpoint, encoder, optimizer, modules)
        _refuse_other_settings(point.checkpoint, content, fixed_settings(settings, world))
        if accelerator.scaler is not None and content.get("scaler"):
            accelerator.scaler.load_state_dict(content["scaler"])
    if target.forget_best:
        state.best = None

    if settings.compile:
        encoder.compile(dynamic=True)
    prepared, optimizer = accelerator.prepare(encoder, optimizer)
    batches = BatchDataset(
        data,
        seed=settings.seed,
        batch_size=settings.batch_size,
        world=world,
        rank=accelerator.process_index,
        smallest_batch=settings.smallest_batch,
        global_batch=settings.global_batch,
        towers=towers,
        sentence_ids=sentence_ids,
    )
    return TrainingRun(
        encoder=encoder,
        objective=objective,
        momentum_encoder=momentum_encoder,
        optimizer=optimizer,
        parameters=parameters,
        accelerator=accelerator,
        settings=settings,
        steps=steps,
        batches=batches,
        state=state,
        batch_encoder=BatchEncoder(prepared, accelerator, settings, momentum_encoder),
        guard=NonFiniteGuard(target.folder, settings, state, data.pairs, accelerator),
        checkpointer=Checkpointer(target.folder, encoder, optimizer, modules, settings, accelerator),
        target=target,
        evaluation=evaluation,
        resume_point=point,
        judges_late=(device.type == "cuda" and not (accelerator.scaler or momentum_encoder or objective.remembers)),
    )


def agreed_checkpoint(run: Path, accelerator: Accelerator) -> ResumePoint:
    """As :func:`newest_valid_checkpoint`: the main process looks, and all processes take its answer."""
    return on_main(lambda: newest_valid_checkpoint(run), accelerator)


def _sentence_ids(objective: Objective, data: TrainingData) -> tuple[np.ndarray | None, int]:
    """Ids 0, 1, 2, ... of the sentences that are trained on, and how many; (None, 0) for objectives that need none."""
    if not objective.needs_sentence_ids:
        return None, 0
    ids = data.tokens.distinct()
    trained = np.unique(ids[np.asarray(data.pairs.rows)])
    return np.searchsorted(trained, ids), len(trained)


def _refuse_other_settings(checkpoint: Path, content: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in (FORMERLY | content["settings"] if "settings" in content else now).items():
        if now.get(name) != value:
            raise InputError(
                f"{checkpoint} was made with {name} {value}, and now it is {now.get(name)}; give the run the "
                "settings that it had (config.json was changed?), or begin a new one"
            )


def refuse_misfit(
    objective: Objective,
    pairs: Pairs,
    towers: int = 1,
    teacher: Teacher | None = None,
    guide: Guide | None = None,
) -> None:
    """InputError where an objective lacks what it needs of the data, or would leave out what they have."""
    terms = objective.terms()
    name = _names_of(objective)
    if objective.needs_sentence_ids:
        pairs.refuse_passages(f"objective {name}")
    provided = {
        "runs": pairs.are_contiguous,
        "labels": pairs.labels is not None,
        "negatives": pairs.num_hard_negatives > 0,
        "targets": True,
        "teacher": teacher is not None,
        "guide": guide is not None,
    }
    for term in terms:
        for need in sorted(term.needs):
            if not provided[need]:
                raise InputError(f"objective {_name_of(term)} needs {NEEDS[need]}")
    if teacher is not None and "teacher" not in objective.needs | objective.takes:
        raise InputError(
            f"objective {name} does not use a teacher; choose distill or distill_similarity, or leave --teacher out"
        )
    if pairs.num_hard_negatives and "negatives" not in objective.needs | objective.takes:
        raise InputError(
            f"objective {name} takes no hard negatives, and the pairs have {pairs.num_hard_negatives} each; choose "
            "infonce, hard_negatives or dpr, or leave their columns (negatives=none) or --negatives out"
        )
    if pairs.labels is not None and "labels" not in objective.needs:
        raise InputError(
            f"objective {name} does not use classes; choose supcon or cross_entropy, or leave label= "
            "(of neighbours: classes=) out"
        )
    if guide is not None:
        refuse_useless_guide(objective, pairs, guide.margin)
    labels = 0 if pairs.labels is None else int(pairs.labels.max(initial=-1)) + 1
    for term in terms:
        classes = getattr(term, "classes", None)
        if classes is not None and labels > classes:
            term_name = _name_of(term)
            raise InputError(
                f"objective {term_name} has {classes} classes and the pairs {labels}; "
                f"write {term_name}:classes={labels}"
            )
    if towers > 1 and objective.requires_shared_encoder:
        raise InputError(f"objective {name} stores both sides in one memory; it needs --towers 1")


def refuse_useless_guide(objective: Objective, pairs: Pairs, margin: GuideMargin) -> None:
    """InputError where a guide would leave out nothing: no negatives, or no candidate nearer than a positive can be."""
    if "guide" not in objective.needs | objective.takes:
        raise InputError(
            f"objective {_names_of(objective)} has no negatives that a guide could leave out; choose a contrastive one "
            "(for example infonce), or leave --guide out"
        )
    if pairs.self_pairs and not margin.masks_self_pairs:
        raise InputError(
            "both sides of these pairs are one sentence, and a guide finds nothing nearer to it than itself; give "
            "--guide a margin above 0 (NAME:margin=0.1)"
        )


def refuse_other_dimension(objective: Objective, encoder: TrainingEncoder, teacher: Teacher | None) -> None:
    """InputError where the embeddings that an objective sees are too short, or do not compare with the teacher's."""
    objective.refuse_too_short(encoder.dimension)
    if teacher is not None:
        objective.refuse_dimensions(encoder.dimension, teacher.dimension)


def _names_of(objective: Objective) -> str:
    """Of an objective, or of the parts of a sum."""
    return " + ".join(_name_of(term) for term in objective.terms())


def _name_of(objective: Objective) -> str:
    """Its name in the table, else its class's."""
    return next((key for key, kind in OBJECTIVES.items() if kind is type(objective)), type(objective).__name__)


def describe(
    settings: TrainingSettings,
    objective: Objective,
    pairs: Pairs,
    accelerator: Accelerator,
    encoder: TrainingEncoder,
    guide: Guide | None = None,
) -> str:
    """The first log line: what one update sees and computes with, and how long the run is."""
    processes = accelerator.num_processes
    batch = min(settings.pairs_per_update(processes), len(pairs))
    per_process = min(settings.batch_size, len(pairs) // processes)
    unit = "consecutive sentences" if pairs.are_contiguous else "pairs"
    parts = f" in parts of {settings.micro_batch}" if 0 < settings.micro_batch < per_process else ""
    negatives = objective.describe_negatives(batch, pairs.num_hard_negatives, pairs.are_contiguous)
    negatives += f", {guide}" if guide else ""
    attention = f"attention {encoder.attention}, " if encoder.attention != "none" else ""
    return (
        f"{counted(processes, 'process')} on {accelerator.device.type}, "
        f"precision {accelerator.mixed_precision}, {attention}"
        f"{'compiled, ' if settings.compile else ''}{counted(torch.get_num_threads(), 'thread')}; "
        f"batch {per_process} {unit} per process{parts}, {batch} in all, {negatives}; "
        f"{total_steps(settings, len(pairs), processes)} steps over {len(pairs):,} {unit}"
    )
