"""What a run tells while it trains: ``log.jsonl``, the progress bar, trackers, and warnings of what goes wrong."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm import tqdm

from sentemb.geometry import alignment, l2_normalize, mean_cosine, spread, uniformity, uniformity_optimum
from sentemb.runs import RunFolder
from sentemb.storage import write_text
from sentemb.training.monitor import TrainingMonitor
from sentemb.training.signals import TolerantStream

Scores = Callable[[SentenceTransformer], dict[str, float]]


class Log:
    """``log.jsonl``, the progress bar and the trackers. Only the main process writes.

    Records are added behind those that are in the file: :func:`rewind` takes back what a resumed run makes again.
    """

    def __init__(
        self,
        run: Path,
        accelerator: Accelerator,
        steps: int,
        done: int,
        seen: int,
        dev: str | None = None,
        best: float = -math.inf,
        about: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        state = state or {}
        self.accelerator, self.seen, self.dev, self.about = accelerator, seen, dev, dict(about or {})
        self.watch = TrainingMonitor(state.get("best"), state.get("told", ()))
        self.window_start = time.perf_counter()
        self.started = self.window_start - state.get("seconds", 0.0)
        self.window_pairs = 0
        self.scores: dict[str, float] = {}
        self.warnings: list[str] = []
        main = accelerator.is_main_process
        self.screen = TolerantStream(sys.stderr)
        self.bar = tqdm(
            file=self.screen,
            total=steps,
            initial=done,
            unit="step",
            disable=not main,
            mininterval=0.5 if sys.stderr.isatty() else 15,
            desc="training",
        )
        self.file: TextIO | None = None
        self.best = best  # dev score of the model in best/
        if main:
            self.file = RunFolder(run).log.open("a", encoding="utf-8")

    def state(self) -> dict[str, Any]:
        """What a resumed run must know; the log is on the disk by then."""
        if self.file:
            os.fsync(self.file.fileno())
        return {
            "best": self.watch.best,
            "told": sorted(self.watch.told),
            "seconds": time.perf_counter() - self.started,
        }

    def score(self, score: Scores | None, model: SentenceTransformer, step: int, loss: float) -> bool:
        """Keep held-out scores for the next record; whether the dev score is the best so far.

        ``loss`` is that of now, to compare with that at the best.
        """
        best = False
        if score and self.accelerator.is_main_process:
            self.scores = score(model)
            model.train()
            if self.dev in self.scores:
                self.watch.better(step, self.scores[self.dev], loss)
                best = self.scores[self.dev] > self.best
                self.best = self.scores[self.dev] if best else self.best
                self.warn(self.watch.falling(step, self.dev, self.scores[self.dev], loss))
        return best

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Scoring and saving: the time they take is no training time."""
        before = time.perf_counter()
        yield
        self.window_start += time.perf_counter() - before

    def warn(self, warning: str | None) -> None:
        """Say something on stderr now and in the next record."""
        if warning and self.accelerator.is_main_process:
            self.warnings.append(warning)
            self.bar.write(f"warning: {warning}", file=self.screen)

    def advance(self, loss: float, pairs: int) -> None:
        """Count one update."""
        self.seen += pairs
        self.window_pairs += pairs
        rate = self.window_pairs / max(1e-9, time.perf_counter() - self.window_start)
        self.bar.set_postfix_str(f"{rate:,.0f} pairs/s, loss {loss:.3f}", refresh=False)
        self.bar.update()

    @torch.no_grad()
    def write(
        self,
        step: int,
        loss: float,
        x: Tensor,
        y: Tensor,
        reference: float | None,
        identical: bool,
        informs: bool,
        **more: float,
    ) -> None:
        """One record: loss and geometry of this step's batch; a resumed run writes the same.

        ``x``, ``y`` ``[n, d]`` are partners; ``reference`` is the loss of guessing; ``informs`` says that a lower loss
        bounds the mutual information; ``identical`` says that both are one sentence, so that only noise tells them
        apart.
        """
        seconds = time.perf_counter() - self.window_start
        x, y = l2_normalize(x.detach()), l2_normalize(y.detach())
        best = uniformity_optimum(x.shape[1])
        even = (uniformity(x) + uniformity(y)).item() / 2 if len(x) > 1 else 0.0
        apart = alignment(x, y).item()
        cosine = mean_cosine(torch.cat([x, y])).item()
        self.warn(self.watch.degenerate(step, apart if identical else 1.0, cosine))
        record: dict[str, Any] = {
            "step": step,
            "loss": loss,
            "loss_reference": reference,
            "alignment": apart,
            "uniformity": even,
            "uniformity_optimum": best,
            "uniformity_used": even / best,
            "mean_cosine": cosine,
            "spread": spread(torch.cat([x, y])).item(),
            **({"mutual_information": reference - loss} if reference is not None and informs else {}),
            **more,
            **self.scores,
            **({"warnings": self.warnings} if self.warnings else {}),
            **(self.about if step == 0 else {}),
            "pairs_seen": self.seen,
            "pairs_per_second": self.window_pairs / seconds if self.window_pairs else 0.0,
            "seconds": time.perf_counter() - self.started,
            "peak_memory_mib": _peak_memory(self.accelerator.device),
        }
        if self.file:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        numbers = {k: v for k, v in record.items() if k != "step" and isinstance(v, int | float)}
        self.accelerator.log(numbers, step=step)
        self.warnings, self.scores = [], {}
        self.window_pairs, self.window_start = 0, time.perf_counter()

    def skip(self, step: int, why: str, batch: str) -> None:
        """A record of an update that was left out."""
        self.warn(why)
        record = {"step": step, "loss": None, "skipped": True, "batch": batch, **self.scores, "warnings": self.warnings}
        if self.file:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        self.warnings, self.scores = [], {}

    def close(self) -> None:
        """Finish the progress bar and the file."""
        self.bar.close()
        if self.file:
            self.file.close()


def _kept(path: Path, done: int) -> list[dict[str, Any]]:
    """The log's records up to ``done`` steps; those after it will be made again."""
    kept: list[dict[str, Any]] = []
    if done and path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                if record["step"] <= done:
                    kept.append(record)
            except (ValueError, KeyError, TypeError, RecursionError):
                break  # a line cut by a kill is the last one
    return kept


def rewind(run: Path, done: int) -> None:
    """Take the log's records after ``done`` steps back, those of a resumed run that it makes again."""
    log = RunFolder(run).log
    if log.exists():
        records = _kept(log, done)
        write_text(log, "".join(json.dumps(record) + "\n" for record in records))


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
