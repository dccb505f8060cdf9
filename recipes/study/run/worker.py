"""Encoders of a study in a process of their own: train, measure, write the row of each."""

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch import nn

from eval import Data, SearchTask
from recipes.runner import RunSearch, import_file, read_search
from recipes.study.plan import ARRAYS, HEAD, ROW, EncoderSpec, StudyFolder
from recipes.study.run.measure import DRAWN, class_sentences, measure_encoder
from recipes.study.run.training import Job, train_jobs
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import HEADS, load, towers_of
from sentemb.errors import InputError
from sentemb.pipeline import EvaluationSettings, selected
from sentemb.registry import build
from sentemb.runs import MODEL, TRAINED_FOLDERS, RunFolder, discard, write_card
from sentemb.storage import replacing, write_text
from sentemb.validation import TextTokens, held_out_pairs

INTERRUPTED = 3  # exit code: a signal ended it, what is there is kept


@dataclass(frozen=True)
class Scores:
    """What the encoders are scored on."""

    tasks: Sequence[Data]
    folds: int  # of cross-validation
    search: SearchTask | None = None


def work(
    planned: Sequence[EncoderSpec],
    place: StudyFolder,
    keep: str,
    text: tuple[str, int],
    folds: int,
    gpu: int | None,
    tasks: Sequence[Data],
    processes: int = 1,
) -> None:
    """Train and measure encoders into their run folders, as the target of a process; each prints to its log.

    Args:
        planned: trained together as far as they can be.
        place: the study's folder.
        keep: see Study.
        text: fingerprint and ``least_held_out`` of the study's corpus.
        folds: of the tasks' scores.
        gpu: its number; None: none.
        tasks: that the encoders are scored on.
        processes: that run side by side.
    """
    _end_with_parent()
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    with ExitStack() as stack:
        logs = [place.log(each).open("a", encoding="utf-8", buffering=1) for each in planned]
        jobs = [Job(each, place.run(each), stack.enter_context(log)) for each, log in zip(planned, logs, strict=True)]
        os.dup2(logs[0].fileno(), 1)
        os.dup2(logs[0].fileno(), 2)
        sys.stdout = sys.stderr = logs[0]
        try:
            _work(jobs, keep, text, Scores(tasks, folds), processes)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _work(jobs: Sequence[Job], keep: str, text: tuple[str, int], scores: Scores, processes: int) -> None:
    corpus: Corpus | None = None
    imported: set[str] = set()
    for job in jobs:
        with job.attempt():
            for path in job.planned.settings.get("imports", ()):
                if path not in imported:
                    import_file(path)
                imported.add(path)
            corpus = corpus or _corpus(job.planned.settings, text)
    tokens = TextTokens(corpus.folder if corpus is not None else None)  # (all are scored on the same sentences)
    able = [job for job in jobs if job.row is None]
    if corpus is not None:
        search = _search(jobs[0].planned.settings, corpus)
        scores = replace(scores, search=search.test)
        if train_jobs(able, corpus, processes, keep == "all", tokens, search.dev):
            sys.exit(INTERRUPTED)
    for job in jobs:
        if job.row is None:
            with job.attempt():
                assert corpus is not None
                job.row = _scored(job.planned, job.out, corpus, scores, tokens)
        assert job.row is not None
        job.row["seconds"] = round(job.seconds, 2)
        job.out.mkdir(parents=True, exist_ok=True)
        write_text(job.out / ROW, json.dumps(job.row, indent=1) + "\n")
        if keep != "all" and job.row["status"] != "failed":
            discard(job.out, [*TRAINED_FOLDERS, *([MODEL] if keep == "none" else [])])


def _corpus(settings: dict[str, Any], text: tuple[str, int]) -> Corpus:
    """The study's text, as it was when the study was begun."""
    fingerprint, least_held_out = text
    corpus = replace(open_corpus(settings["corpus"], language=settings["language"]), least_held_out=least_held_out)
    if corpus.fingerprint != fingerprint:
        raise InputError(f"{corpus.name} has changed since the study was begun")
    return corpus


def _search(settings: dict[str, Any], corpus: Corpus) -> RunSearch:
    """The study's search tasks: all encoders are scored on the same queries, which choose no best model."""
    if settings.get("search") is None:
        return RunSearch()
    return read_search(EvaluationSettings(dev="search", search=settings["search"]), corpus)


def _scored(planned: EncoderSpec, out: Path, corpus: Corpus, scores: Scores, tokens: TextTokens) -> dict[str, Any]:
    """The row of what is in ``out``/model; its arrays and its card are written."""
    settings = planned.settings
    model = load(out / MODEL, device="cpu")
    pairs = held_out_pairs(corpus)
    head = trained_head(planned, out, model)
    classes = class_sentences(corpus) if int(model.get_embedding_dimension() or 0) <= DRAWN else None
    measures, arrays, protocols = measure_encoder(
        model, scores.tasks, pairs, scores.folds, tokens, scores.search, head, classes
    )
    row = {"status": "ok", "reason": ""} | measures
    with suppress(KeyError):
        last = RunFolder(out).last_record()
        row |= {"steps": last["step"], "loss": last["loss"], "pairs_seen": last["pairs_seen"]}
        row["training_seconds"] = round(last["seconds"], 2)
    with replacing(out / ARRAYS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **cast(Any, arrays))
    trained = selected(RunFolder(out).best) if settings["select"] == "best" else f"{row.get('steps', 0)} steps"
    scored = {
        task: {measure: row[f"{task}_{measure}"], "protocol": how}
        for task, how in protocols.items()
        for measure in ("acc", "spearman")
        if f"{task}_{measure}" in row
    }
    config = RunFolder(out).read_config() or {"settings": settings}
    write_card(out / MODEL, config, trained, {"tasks": scored, "geometry": measures | {"source": pairs.source}})
    return row


def trained_head(planned: EncoderSpec, out: Path, model: SentenceTransformer) -> nn.Module | None:
    """The head that an encoder was trained with; None without one, or where the model is not of the last step."""
    if planned.settings["select"] == "best" or not (out / HEAD).is_file():
        return None
    head: nn.Module = build(
        HEADS, planned.settings["head"], "head", dimension=towers_of(model)[0].get_embedding_dimension()
    )
    head.load_state_dict(load_file(out / HEAD))
    return head.eval()


def _end_with_parent() -> None:
    """End when the sweep is gone, so that nothing trains on unseen and a new sweep finds nobody in its way."""
    if (parent := parent_process()) is not None:

        def wait() -> None:
            parent.join()
            os._exit(INTERRUPTED)

        threading.Thread(target=wait, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
