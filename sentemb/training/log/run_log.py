"""The output of a run while it trains: ``log.jsonl``, the progress bar, trackers and warnings."""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from tqdm import tqdm

from sentemb.objectives import Objective
from sentemb.runs import RunFolder
from sentemb.storage import write_text
from sentemb.training.data import Batch, BatchDataset
from sentemb.training.log.monitor import TrainingMonitor
from sentemb.training.log.record import StepRecord, describe_update
from sentemb.training.schedule import learning_rate
from sentemb.training.settings import TrainingSettings
from sentemb.training.signals import TolerantStream
from sentemb.training.state import TrainState
from sentemb.training.step import Update


class RunLog:
    """``log.jsonl``, the progress bar and the trackers. Only the main process writes.

    Args:
        run: the run folder. Records are appended to those that its log has: :func:`rewind` removes those that a
            resumed run makes again.
        accelerator: the processes and trackers.
        settings: when a record is due.
        steps: updates of the whole run.
        state: of the run; ``seconds`` is kept up to date.
        batches: how many pairs each update has.
        objective: gives the loss of guessing and metrics of its own.
    """

    def __init__(
        self,
        run: Path,
        accelerator: Accelerator,
        settings: TrainingSettings,
        steps: int,
        state: TrainState,
        batches: BatchDataset,
        objective: Objective,
    ) -> None:
        self.accelerator, self.settings, self.steps, self.state = accelerator, settings, steps, state
        self.objective, self.pairs, self.layout = objective, batches.pairs, batches.updates
        self.monitor = TrainingMonitor(state)
        self.pairs_seen, self.window_pairs = self.layout.seen(state.step), 0
        self.window_start = time.perf_counter()
        self.started = self.window_start - state.seconds
        self.scores: dict[str, float] = {}
        self.warnings: list[str] = []
        self.screen = TolerantStream(sys.stderr)
        self.bar = tqdm(
            file=self.screen,
            total=steps,
            initial=state.step,
            unit="step",
            disable=not accelerator.is_main_process,
            mininterval=0.5 if sys.stderr.isatty() else 15,
            desc="training",
            position=0,  # (bars of libraries that were never closed would move it down a line)
        )
        self.file: TextIO | None = None
        if accelerator.is_main_process:
            self.file = RunFolder(run).log.open("a", encoding="utf-8")

    def add_scores(self, scores: Mapping[str, float]) -> None:
        """Held-out scores for the next record."""
        self.scores = dict(scores)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Scoring and saving: pairs per second, and the bar's rate and time left, leave their time out."""
        before = time.perf_counter()
        yield
        seconds = time.perf_counter() - before
        self.window_start += seconds
        if not self.bar.disable:
            self.bar.start_t += seconds
            self.bar.last_print_t += seconds

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """As :meth:`paused`, and the bar says what is done."""
        with self.paused():
            self.bar.set_description_str("scoring", refresh=sys.stderr.isatty())
            yield
            self.bar.set_description_str("training", refresh=False)

    def say(self, text: str) -> None:
        """Print a line to stderr, above the bar; in a file the bar's states before it stay, too."""
        if not self.accelerator.is_main_process:
            return
        if sys.stderr.isatty():
            self.bar.write(text, file=self.screen)
        else:
            before = "" if self.screen.at_line_start else "\n"
            self.screen.write(f"{before}{text}\n")
            self.screen.flush()

    def warn(self, warning: str | None) -> None:
        """Print a warning to stderr now, and write it into the next record."""
        if warning and self.accelerator.is_main_process:
            self.warnings.append(warning)
            self.say(f"warning: {warning}")

    def record_start(self, update: Update, batch: Batch, conditions: Mapping[str, Any]) -> None:
        """The record of step 0: the first batch, seen by the model before its first update."""
        self._write_update(0, update, batch, conditions=dict(conditions))

    def record(self, update: Update, batch: Batch) -> None:
        """Count an update, and write its record where one is due: skipped, scored, or each ``log_every``-th."""
        step = update.step
        pairs = self.layout.size((step - 1) % len(self.layout))
        self.pairs_seen, self.window_pairs = self.pairs_seen + pairs, self.window_pairs + pairs
        self.bar.set_postfix_str(f"{self._pairs_per_second():,.0f} pairs/s, loss {update.loss:.3f}", refresh=False)
        self.bar.update()
        if update.rejection is not None:
            self.warn(update.rejection)
            self._write(StepRecord(step, None, batch=batch_digest(batch), skipped=True))
        elif self.settings.evaluates_at(step, self.steps) or step % self.settings.log_every == 0:
            rate = learning_rate(self.settings, step, self.steps)
            norm = None if update.overflow else update.gradient_norm
            self._write_update(step, update, batch, lr=rate, gradient_norm=norm, overflow=update.overflow)

    def _write_update(self, step: int, update: Update, batch: Batch, **fields: Any) -> None:
        """Write the record of an update, and begin another window of pairs per second."""
        record = StepRecord(step, batch=batch_digest(batch), **describe_update(update, self.objective, self.pairs))
        for name, value in fields.items():
            setattr(record, name, value)
        assert record.geometry is not None
        self.warn(self.monitor.check_geometry(step, record.geometry, self.pairs.self_pairs))
        self.warn(self.monitor.check_guide(step, record.guide_masked))
        record.pairs_seen = self.pairs_seen
        record.pairs_per_second = self._pairs_per_second() if self.window_pairs else 0.0
        record.seconds = time.perf_counter() - self.started
        record.peak_memory_mib = _peak_memory(self.accelerator.device)
        self._write(record)
        self.window_pairs, self.window_start = 0, time.perf_counter()

    def _write(self, record: StepRecord) -> None:
        record.scores, record.warnings = self.scores, self.warnings
        self.scores, self.warnings = {}, []
        content = record.to_json()
        if self.file:
            self.file.write(json.dumps(content) + "\n")
            self.file.flush()
        if not record.skipped:
            numbers = {k: v for k, v in content.items() if k != "step" and isinstance(v, int | float)}
            self.accelerator.log(numbers, step=record.step)

    def _pairs_per_second(self) -> float:
        return self.window_pairs / max(1e-9, time.perf_counter() - self.window_start)

    def sync(self) -> None:
        """Bring the log to the disk and the state up to date, for a checkpoint."""
        if self.file:
            os.fsync(self.file.fileno())
        self.state.seconds = time.perf_counter() - self.started

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # (of a full disk)
            self.bar.close()
            if self.file:
                self.file.close()


def batch_digest(batch: Batch) -> str:
    """Hex digest of the indices of an update's pairs, on all processes."""
    assert batch.pair_indices is not None
    return hashlib.blake2b(batch.pair_indices.astype("<i8").tobytes(), digest_size=8).hexdigest()


def rewind(run: Path, done: int) -> None:
    """Remove the log's records after ``done`` steps, which a resumed run makes again."""
    log = RunFolder(run).log
    if log.exists():
        write_text(log, "".join(json.dumps(record) + "\n" for record in _records(log, done)))


def _records(log: Path, done: int) -> list[dict[str, Any]]:
    """The log's records up to ``done`` steps."""
    records: list[dict[str, Any]] = []
    if done:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                if record["step"] <= done:
                    records.append(record)
            except (ValueError, KeyError, TypeError, RecursionError):
                break  # a line cut by a kill is the last one
    return records


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
