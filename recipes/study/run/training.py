"""The encoders of one process: those that can be are trained together, the others one after another."""

import shutil
import time
import traceback
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import psutil
import torch
from safetensors.torch import save_file

from eval import SearchTask
from recipes.runner import RecipeSettings, with_available_data
from recipes.study.plan import ARRAYS, HEAD, ROW, EncoderSpec
from sentemb.corpus import Corpus
from sentemb.errors import CorruptFolder, InputError, TrainingFailed, in_a_line
from sentemb.forward import stack_bytes
from sentemb.pipeline import (
    BegunRun,
    Experiment,
    PreparedData,
    RunSettings,
    TrainedRun,
    absolute_settings,
    make_model,
    resumed_settings,
    save_trained_model,
    trains_transformer,
)
from sentemb.runs import MODEL, MODULES, refuse_foreign
from sentemb.storage import replacing, verify, write_folder
from sentemb.training import ResumePoint, explained, fit, fit_stacked, newest_valid_checkpoint
from sentemb.validation import TextTokens

MEMORY = 0.5  # share of the memory that is free, which the stacks of all processes may fill


@dataclass
class Job:
    """One encoder of a process: what it is, where it goes, what came of it."""

    planned: EncoderSpec
    out: Path
    log: TextIO  # what it prints
    seconds: float = 0.0  # of its own, and its share of what was computed together
    row: dict[str, Any] | None = None  # of an encoder that is done, one way or the other

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Do something for this encoder alone: timed, printed to its log; an error becomes its row."""
        start = time.perf_counter()
        try:
            with redirect_stdout(self.log), redirect_stderr(self.log):
                yield
        except Exception as error:
            self.fail(error)
        finally:
            self.seconds += time.perf_counter() - start

    def fail(self, error: Exception) -> None:
        """Write down that this encoder came to nothing, and why."""
        if isinstance(error, FloatingPointError):
            self.row = {"status": "diverged", "reason": in_a_line(error)}
        elif isinstance(error, InputError | TrainingFailed):
            self.row = {"status": "failed", "reason": in_a_line(error)}
        else:
            traceback.print_exception(error, file=self.log)
            why = explained(error) or f"{type(error).__name__}: {in_a_line(error)}"
            self.row = {"status": "failed", "reason": f"{why} (more in {Path(self.log.name).name})"}


@dataclass(frozen=True)
class _Shared:
    """What the encoders of a process have in common."""

    corpus: Corpus
    with_last: bool  # best/ and last/ are wanted
    tokens: TextTokens  # of the sentences that they are scored on
    search: SearchTask | None  # of --dev search
    stack: ExitStack  # their runs are open in it
    prepared: dict[Hashable, PreparedData] = field(default_factory=dict)


@dataclass(frozen=True)
class _Begun:
    """An encoder before its first update."""

    job: Job
    experiment: Experiment
    run: BegunRun
    data: PreparedData

    @property
    def stack_key(self) -> Hashable:
        """Equal for those that can be trained together: alike, on the same data, from the same step."""
        resume = self.run.lane.target.resume
        checkpoint = resume.checkpoint.name if isinstance(resume, ResumePoint) and resume.checkpoint else ""
        key = self.run.lane.stacking_key
        return id(self) if key is None else (key, id(self.data), checkpoint)


def train_jobs(
    jobs: Sequence[Job],
    corpus: Corpus,
    processes: int,
    with_last: bool = False,
    tokens: TextTokens | None = None,
    search: SearchTask | None = None,
) -> bool:
    """Make the model of each job, unless it is there already; an encoder that fails gets its row.

    Args:
        jobs: the encoders. corpus: that all are trained on. processes: that share this machine's memory.
        with_last: best/ and last/ are wanted, too. tokens: of the sentences that the encoders are scored on.
        search: the queries by which those with ``--dev search`` are chosen.

    Returns:
        Whether a signal ended it.
    """
    with ExitStack() as stack:
        shared = _Shared(corpus, with_last, tokens or TextTokens(corpus.folder), search, stack)
        begun: list[_Begun] = []
        for job in jobs:
            with job.attempt():
                begun += _begin(job, shared)
        stacks = list(_stacks(begun, processes))
        begun.clear()
        while stacks:
            together = stacks.pop(0)
            interrupted = _train(together)
            together[0].experiment.accelerator.free_memory()  # (it holds all that it has prepared)
            if interrupted:
                return True
    return False


def _stacks(begun: Sequence[_Begun], processes: int) -> Iterator[list[_Begun]]:
    """Those that are trained together: as many at a time as memory allows."""
    by_key: dict[Hashable, list[_Begun]] = {}
    for each in begun:
        by_key.setdefault(each.stack_key, []).append(each)
    for alike in by_key.values():
        lane = alike[0].run.lane
        rows = lane.settings.batch_size * alike[0].data.training.pairs.rows.shape[1]
        free = MEMORY * psutil.virtual_memory().available / processes
        most = max(1, int(free / stack_bytes(lane.encoder, rows, alike[0].experiment.data.max_length)))
        for start in range(0, len(alike), most):
            yield alike[start : start + most]


def _train(together: Sequence[_Begun]) -> bool:
    """Train encoders to their end; whether a signal ended it before."""
    first, start = together[0], time.perf_counter()
    results: list[Any] = []
    if len(together) > 1:
        lanes = [replace(each.run.lane, output=each.job.log) for each in together]
        try:
            results = fit_stacked(lanes, first.data.training, first.experiment.accelerator)
        except Exception as error:  # of what all share: their batches, for one
            results = [error] * len(together)
    else:
        lane = first.run.lane
        with first.job.attempt():
            results = [
                fit(
                    lane.encoder,
                    lane.objective,
                    first.data.training,
                    lane.settings,
                    first.experiment.accelerator,
                    lane.target,
                    lane.evaluation,
                )
            ]
    interrupted = False
    seconds = (time.perf_counter() - start) / len(together) if len(together) > 1 else 0.0  # (else timed by attempt)
    for each, result in zip(together, results, strict=False):
        each.job.seconds += seconds
        if isinstance(result, Exception):
            each.job.fail(result)
            continue
        with each.job.attempt():
            head = each.run.lane.encoder.head
            if head is not None and each.job.planned.settings["select"] != "best":  # (else model/ is of another step)
                with replacing(each.job.out / HEAD) as partial:
                    save_file(head.state_dict(), partial)
            interrupted |= each.experiment.end(each.run, result).interrupted
    return interrupted


def _begin(job: Job, shared: _Shared) -> list[_Begun]:
    """The run that is to be trained; none where the model is there, or is not to be trained."""
    planned, out = job.planned, job.out
    with suppress(CorruptFolder, OSError, InputError):
        if (out / MODEL / MODULES).is_file():
            verify(out / MODEL)
            return []
    if out.exists() and newest_valid_checkpoint(out).checkpoint is None:  # killed before its first checkpoint
        refuse_foreign(out, True, (ROW, ARRAYS, HEAD))
        shutil.rmtree(out)
    flat = dict(planned.settings)
    if flat["init"] is not None:
        flat["encoder"] = None
    resumed = resumed_settings(absolute_settings(flat), flat, out, out.exists())
    imports = tuple(flat.get("imports", ()))
    settings = RecipeSettings.of(resumed, RunSettings(out, resume=out.exists(), command=True, imports=imports))
    if planned.trained:
        return _begun(job, settings, shared)
    corpus = shared.corpus
    torch.manual_seed(settings.training.seed)
    model = make_model(settings.encoder, corpus, corpus.split()[0], settings.data.max_length, None)
    write_folder(out / MODEL, lambda partial: save_trained_model(partial, model, flat, corpus, "0 steps"))
    return []


def _begun(job: Job, settings: RecipeSettings, shared: _Shared) -> list[_Begun]:
    """As recipes/train_bookcorpus.py up to the first update; the study scores the model by itself."""
    transformer = trains_transformer(settings.encoder)
    experiment = shared.stack.enter_context(
        Experiment("study", settings.run, settings.training, settings.compute, transformer)
    )
    corpus = shared.corpus
    experiment.saves_selected = shared.with_last or settings.evaluation.select == "best"
    experiment.text_tokens = shared.tokens
    objective = experiment.make_objective(settings.objective)
    experiment.open_corpus(settings.data, corpus)
    encoder = experiment.make_encoder(settings.encoder, corpus)
    key = (settings.data, settings.encoder, settings.pairs, settings.training.seed, experiment.prompts)
    data = experiment.make_pairs(settings.pairs, corpus, encoder, prepared=shared.prepared.get(key))
    shared.prepared[key] = data
    search = shared.search if settings.evaluation.dev == "search" else None
    evaluation, dev = with_available_data(settings.evaluation, search)
    run = experiment.begin(corpus, encoder, data, objective, evaluation, dev)
    return [] if isinstance(run, TrainedRun) else [_Begun(job, experiment, run, data)]
