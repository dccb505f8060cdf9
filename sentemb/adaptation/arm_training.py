"""Train one arm for a part of its time and resume it later: a run of the pipeline inside the adaptation's folder."""

import contextlib
import copy
import io
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from sentemb.adaptation.arms import TrainedArm
from sentemb.adaptation.settings import AdaptationSettings
from sentemb.corpus import Corpus
from sentemb.encoders import load, towers_of
from sentemb.pipeline import (
    ComputeSettings,
    DataSettings,
    EncoderSettings,
    EvaluationSettings,
    Experiment,
    ObjectiveSettings,
    PairSettings,
    RunSettings,
    TrainedRun,
    default_settings,
    pick,
)
from sentemb.runs import RunFolder, read_run
from sentemb.training import TrainingSettings, fit

TRANSFORMER_LR, OTHER_LR = 2e-5, 5e-4
FIRST_UPDATES, TIMED_UPDATES = 3, 8  # of a run that measures the speed: those not counted, all
SAVE_SECONDS = 600  # between checkpoints, about


class Interrupted(KeyboardInterrupt):
    """A signal has ended the search after a checkpoint; the same call with ``resume`` continues it."""


@dataclass(frozen=True)
class Trained:
    """The result of a part of an arm's training."""

    model: SentenceTransformer
    updates: int  # of the arm so far
    rate: float  # updates a second
    seconds: float  # of this part, with all that is made before the first update
    stopped: bool  # whether a signal ended it


@dataclass(frozen=True)
class Trainer:
    """Trains copies of the start."""

    start: SentenceTransformer
    corpus: Corpus
    settings: AdaptationSettings

    def speed(self, arm: TrainedArm, folder: Path) -> tuple[float, float]:
        """Updates a second, and the seconds before the first and after the last one, of a training thrown away.

        Raises:
            Interrupted: a signal has ended it.
        """
        shutil.rmtree(folder, ignore_errors=True)
        trained = self.train(arm, folder, TIMED_UPDATES, time.monotonic() + 3600)
        shutil.rmtree(folder, ignore_errors=True)
        if trained.stopped:
            raise Interrupted
        return trained.rate, max(0.0, trained.seconds - trained.updates / trained.rate)

    def train(self, arm: TrainedArm, folder: Path, updates: int, deadline: float, rate: float = 0.0) -> Trained:
        """Train up to ``updates`` in all, or until the deadline (``time.monotonic()``); saved at the end.

        Args:
            arm: which method.
            folder: the arm's run, which is resumed if there is one.
            updates: of the arm, earlier parts included; the learning rate falls to 0 at the last one.
            deadline: when it ends at the latest.
            rate: updates a second as far as is known; 0: it is not.
        """
        began = time.monotonic()
        resume = RunFolder(folder).config.is_file()
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)  # (killed before its config.json)
        settings = self._settings_of(arm, updates, rate)
        with contextlib.redirect_stdout(io.StringIO()):  # (what it says of its settings is on the page)
            run = RunSettings(folder, resume)
            with Experiment(
                "adapt", run, pick(TrainingSettings, settings), pick(ComputeSettings, settings), self._is_transformer
            ) as experiment:
                text = experiment.open_corpus(pick(DataSettings, settings), self.corpus)
                objective = experiment.make_objective(pick(ObjectiveSettings, settings))
                model = experiment.make_encoder(pick(EncoderSettings, settings), text, copy.deepcopy(self.start))
                pairs = experiment.make_pairs(pick(PairSettings, settings), text, model)
                begun = experiment.begin(text, model, pairs, objective, pick(EvaluationSettings, settings))
                assert not isinstance(begun, TrainedRun)  # (which has a model/, and these have none)
                lane = begun.lane
                target = replace(lane.target, deadline=deadline)
                result = fit(lane.encoder, objective, pairs.training, lane.settings, experiment.accelerator, target)
        stopped = result.interrupted and time.monotonic() < deadline
        measured = measured_rate(folder, self.settings.batch_size) or rate
        return Trained(
            lane.encoder.model.to(self.start.device), result.step, measured, time.monotonic() - began, stopped
        )

    def trained_before(self, folder: Path) -> SentenceTransformer:
        """The model of an arm as its newest checkpoint has it."""
        return load(folder, device=str(self.start.device))

    @property
    def _is_transformer(self) -> bool:
        return isinstance(towers_of(self.start)[0][0], Transformer)

    def _settings_of(self, arm: TrainedArm, updates: int, rate: float) -> dict[str, Any]:
        """All settings of the run, by name."""
        mine, limit = self.settings, towers_of(self.start)[0].max_seq_length
        return default_settings() | {
            "corpus": f"<{self.corpus.name}>",
            "encoder": "<the start>",
            "max_length": min(mine.max_length, limit) if limit else mine.max_length,
            "language": mine.language,
            "batch_size": mine.batch_size,
            "lr": mine.lr or (TRANSFORMER_LR if self._is_transformer else OTHER_LR),
            "seed": mine.seed,
            "threads": mine.threads,
            "max_steps": updates,
            "eval_every": 0,
            "save_every": max(1, round(SAVE_SECONDS * rate)) if rate else updates,
            "keep": 1,
            "log_every": 1,
            "dev": "heldout",
            **arm.settings,
        }


def measured_rate(folder: Path, batch_size: int) -> float:
    """Updates a second of the last updates in a run's log; 0 where it has none."""
    speeds = [record.get("pairs_per_second") or 0 for record in read_run(folder).records[1 + FIRST_UPDATES :]]
    counted = [speed for speed in speeds[-50:] if speed > 0]
    return float(np.median(counted)) / batch_size if counted else 0.0
