"""One encoder of a study in a process of its own: train, measure, write its row."""

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from eval import Data
from recipes.runner import RecipeSettings, import_file, with_available_data
from recipes.study.plan import ARRAYS, ROW, EncoderSpec
from recipes.study.run.measure import measure_encoder
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import load
from sentemb.errors import CorruptFolder, InputError, TrainingFailed, in_a_line
from sentemb.pipeline import (
    Experiment,
    RunSettings,
    TrainedRun,
    absolute_settings,
    make_model,
    resumed_settings,
    save_trained_model,
    selected,
    trains_transformer,
)
from sentemb.runs import MODEL, MODULES, TRAINED_FOLDERS, RunFolder, discard, refuse_foreign, write_card
from sentemb.storage import replacing, verify, write_folder, write_text
from sentemb.training import explained, newest_valid_checkpoint
from sentemb.validation import TextTokens, held_out_pairs

INTERRUPTED = 3  # exit code: a signal ended it, what is there is kept


def work(
    planned: EncoderSpec,
    out: Path,
    log: Path,
    keep: str,
    text: tuple[str, int],
    folds: int,
    gpu: int | None,
    tasks: Sequence[Data],
) -> None:
    """Train and measure one encoder into run folder ``out``; what it prints goes to ``log``. For a process' target.

    ``text``: fingerprint and ``least_held_out`` of the study's corpus. ``tasks``: that the encoder is scored on.
    """
    _end_with_parent()
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    with log.open("a", encoding="utf-8", buffering=1) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = stream
        start = time.perf_counter()
        try:
            for path in planned.settings.get("imports", ()):
                import_file(path)
            fingerprint, least_held_out = text
            settings = planned.settings
            corpus = open_corpus(settings["corpus"], language=settings["language"])
            corpus = replace(corpus, least_held_out=least_held_out)
            if corpus.fingerprint != fingerprint:
                raise InputError(f"{corpus.name} has changed since the study was begun")
            _train(planned, out, corpus, keep == "all")
            row = _scored(planned, out, corpus, folds, tasks)
        except FloatingPointError as error:
            row = {"status": "diverged", "reason": in_a_line(error)}
        except (InputError, TrainingFailed) as error:
            row = {"status": "failed", "reason": in_a_line(error)}
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:
            traceback.print_exc()
            why = explained(error) or f"{type(error).__name__}: {in_a_line(error)}"
            row = {"status": "failed", "reason": f"{why} (more in {log.name})"}
        row["seconds"] = round(time.perf_counter() - start, 2)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / ROW, json.dumps(row, indent=1) + "\n")
        if keep != "all" and row["status"] != "failed":
            discard(out, [*TRAINED_FOLDERS, *([MODEL] if keep == "none" else [])])


def _train(planned: EncoderSpec, out: Path, corpus: Corpus, with_last: bool) -> None:
    """Make ``out``/model, unless it is there whole. ``with_last``: best/ and last/ are wanted, too."""
    with suppress(CorruptFolder, OSError, InputError):
        if (out / MODEL / MODULES).is_file():
            verify(out / MODEL)
            return
    if out.exists() and newest_valid_checkpoint(out).checkpoint is None:  # killed before its first checkpoint
        refuse_foreign(out, True, (ROW, ARRAYS))
        shutil.rmtree(out)
    flat = dict(planned.settings)
    if flat["init"] is not None:
        flat["encoder"] = None
    resumed = resumed_settings(absolute_settings(flat), flat, out, out.exists())
    imports = tuple(flat.get("imports", ()))
    settings = RecipeSettings.of(resumed, RunSettings(out, resume=out.exists(), command=True, imports=imports))
    if planned.trained:
        if _train_by(settings, corpus, with_last).interrupted:
            sys.exit(INTERRUPTED)
        return
    torch.manual_seed(settings.training.seed)
    model = make_model(settings.encoder, corpus, corpus.split()[0], settings.data.max_length, None)
    write_folder(out / MODEL, lambda partial: save_trained_model(partial, model, flat, corpus, "0 steps"))


def _train_by(settings: RecipeSettings, corpus: Corpus, with_last: bool) -> TrainedRun:
    """Train as recipes/train_bookcorpus.py does; the study scores the model by itself."""
    transformer = trains_transformer(settings.encoder)
    with Experiment("study", settings.run, settings.training, settings.compute, transformer) as experiment:
        objective = experiment.make_objective(settings.objective)
        experiment.saves_selected = with_last or settings.evaluation.select == "best"
        experiment.text_tokens = TextTokens(corpus.folder)  # (the other encoders are scored on the same sentences)
        experiment.open_corpus(settings.data, corpus)
        encoder = experiment.make_encoder(settings.encoder, corpus)
        pairs = experiment.make_pairs(settings.pairs, corpus, encoder)
        evaluation, dev = with_available_data(settings.evaluation)
        return experiment.train(corpus, encoder, pairs, objective, evaluation, dev)


def _scored(planned: EncoderSpec, out: Path, corpus: Corpus, folds: int, tasks: Sequence[Data]) -> dict[str, Any]:
    """The row of what is in ``out``/model; its arrays and its card are written."""
    settings = planned.settings
    model = load(out / MODEL, device="cpu")
    pairs = held_out_pairs(corpus)
    measures, arrays, protocols = measure_encoder(model, tasks, pairs, folds, TextTokens(corpus.folder))
    row = {"status": "ok", "reason": ""} | measures
    with suppress(KeyError):
        last = RunFolder(out).last_record()
        row |= {"steps": last["step"], "loss": last["loss"], "pairs_seen": last["pairs_seen"]}
        row["training_seconds"] = round(last["seconds"], 2)
    with replacing(out / ARRAYS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **cast(Any, arrays))
    trained = selected(RunFolder(out).best) if settings["select"] == "best" else f"{row.get('steps', 0)} steps"
    scored = {task: {"acc": row[f"{task}_acc"], "protocol": how} for task, how in protocols.items()}
    config = RunFolder(out).read_config() or {"settings": settings}
    write_card(out / MODEL, config, trained, {"tasks": scored, "geometry": measures | {"source": pairs.source}})
    return row


def _end_with_parent() -> None:
    """End when the sweep is gone, so that nothing trains on unseen and a new sweep finds nobody in its way."""
    if (parent := parent_process()) is not None:

        def wait() -> None:
            parent.join()
            os._exit(INTERRUPTED)

        threading.Thread(target=wait, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
