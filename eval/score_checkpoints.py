"""What ``python -m eval.senteval`` does once its command line is read: encode, score, print, write."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.probes import PROBES
from eval.scorer import ScoringSettings, items_of, measure
from eval.seeds import labels
from eval.significance import compare, differences_from_first
from eval.tables import render
from eval.tasks import Data
from sentemb.corpus import open_corpus
from sentemb.encoders import at_layer, is_folder, load, truncated
from sentemb.errors import InputError
from sentemb.languages import DEFAULT
from sentemb.registry import build
from sentemb.runs import RunFolder, as_dict, least_held_out
from sentemb.storage import write_text
from sentemb.validation import (
    CachedEncoder,
    EmbeddingCache,
    HeldOutPairs,
    ItemScores,
    held_out_items,
    held_out_pairs,
    sides_of,
)

Items = dict[str, ItemScores]  # what two encoders are compared by, by score


def config_of(checkpoint: Path) -> dict[str, Any]:
    """config.json of the run folder that ``checkpoint`` is or lies in; empty where there is none."""
    if not is_folder(str(checkpoint)):
        return {}  # a hub name, which says nothing about the folder we are in
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        try:
            config = RunFolder(folder).read_settings()
            if config["settings"].get("corpus") is not None:
                return config
        except InputError:  # no run's: a transformer has a config.json too
            continue
    return {}


def corpus_of(checkpoint: Path) -> str | None:
    """The corpus a run was trained on, by its config.json; None where there is none."""
    config = config_of(checkpoint)
    return str(config["settings"]["corpus"]) if config else None


def pairs_for(
    corpus_spec: str | None, checkpoint: str, tasks: Sequence[Data], scored: Sequence[str] = ()
) -> HeldOutPairs | None:
    """Held-out neighbours of the corpus named, else of a run's own, else (where STS-B will not do) of the sample.

    The run is the checkpoint, or the first run among all that are ``scored`` together, so that their geometry compares.
    """
    run = next((each for each in (checkpoint, *scored) if corpus_of(Path(each)) is not None), checkpoint)
    config, corpus = config_of(Path(run)), corpus_of(Path(run))
    if corpus_spec:
        return _held_out(corpus_spec, config)
    if corpus is None and any("STS-B" in data.task.name for data in tasks):
        return None
    try:
        return _held_out(corpus or "sample", config)
    except InputError as error:
        print(f"no neighbours' geometry: {error}", file=sys.stderr)
        return None


def _held_out(spec: str, config: dict[str, Any]) -> HeldOutPairs:
    """Pairs of the documents of a corpus that the run of ``config``, if it used that corpus, was not trained on.

    The corpus is split by the rules of the run's language.
    """
    language = str(as_dict(config.get("settings")).get("language", DEFAULT))  # (version 0.1 had English alone)
    corpus = open_corpus(spec, language=language)
    if as_dict(config.get("corpus")).get("fingerprint") == corpus.fingerprint:
        corpus = replace(corpus, least_held_out=least_held_out(config))
    return held_out_pairs(corpus)


def score_checkpoints(options: argparse.Namespace, tasks: Sequence[Data], failed: dict[str, str]) -> int:
    """Encode and score ``tasks``, print, write; returns the exit code.

    Args:
        options: of :func:`eval.senteval.parser`, checked by :func:`eval.senteval.prepare`.
        tasks: those read. failed: the others, with the reason.
    """
    build(PROBES, options.probe, "probe", device="cpu")  # an invalid one is reported now
    results: dict[str, dict[str, Any]] = {}
    correct: dict[str, dict[str, np.ndarray]] = {}
    items: dict[str, Items] = {}
    pairs: list[HeldOutPairs | None] = []  # of each checkpoint
    lost = bool(failed)
    seeds: dict[str, tuple[str, int]] = {}
    for checkpoint, (name, label) in labels(options.checkpoint, options.names).items():
        seeds[label] = name, sum(model == name for model, _ in seeds.values())
        try:
            result, right, items[label] = _measure(checkpoint, tasks, failed, options, pairs)
        except InputError as error:
            if len(options.checkpoint) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)  # what the others scored is kept
            lost = True
            continue
        named = {"name": name, "checkpoint": checkpoint} if options.names else {}
        layer = {} if options.layer is None else {"layer": options.layer}
        results[label], correct[label] = result | named | layer, right
        for task in result["failed"].keys() - failed.keys():
            which = f"{checkpoint}, " if len(options.checkpoint) > 1 else ""
            print(f"error: {which}{task}: {result['failed'][task]}", file=sys.stderr)
            lost = True
    if not results:
        return 2
    tests = compare(correct, seeds), differences_from_first(items, seeds)
    if options.format == "text":
        if options.layer is not None:
            print(f"layer {options.layer}: the mean of its token states, instead of the model's embedding")
        _describe(tasks, results, options.probe)
    print(render(options.format, results, *tests, options.compact))
    if options.output:
        try:
            write_text(options.output, render(options.output_format, results, *tests, options.compact) + "\n")
        except OSError as error:
            raise InputError(f"{options.output} cannot be written ({error.strerror}); the scores are above") from None
    return 2 if lost else 0


def _measure(
    checkpoint: str,
    tasks: Sequence[Data],
    failed: dict[str, str],
    options: argparse.Namespace,
    all_pairs: list[HeldOutPairs | None],
) -> tuple[dict[str, Any], dict[str, np.ndarray], Items]:
    """Results, whether each row of a probed task was right, and the items by which checkpoints are compared.

    Retrieval is among them where the held-out pairs are those of the first checkpoint; they join ``all_pairs``.
    """
    model = load(checkpoint, device=options.device)
    if options.layer is not None:
        try:
            model = at_layer(model, options.layer)
        except InputError as error:
            raise InputError(f"--layer: {checkpoint}: {error}") from None
    if options.truncate is not None:
        try:
            model = truncated(model, options.truncate)
        except InputError as error:
            raise InputError(f"--truncate: {checkpoint}: {error}") from None
    device = str(model.device)
    cache = EmbeddingCache(options.cache, model) if options.cache else None
    pairs = pairs_for(options.corpus, checkpoint, tasks, options.checkpoint)
    all_pairs.append(pairs)
    json_wanted = "json" in (options.format, options.output_format)  # tables have neither dev scores nor both shapes
    settings = ScoringSettings(
        probe=build(PROBES, options.probe, "probe", device=device),
        folds=options.folds,
        device=device,
        positives=options.positives,
        geometry_part=options.geometry_split or ("all" if json_wanted or pairs is None else "none"),
        dev=json_wanted,
    )
    result, tasks_scored = measure(model, tasks, pairs, options.batch_size, True, settings, cache, failed)
    if cache:
        print(f"{checkpoint}: {result['encoded']:,} encoded, {result['reused']:,} from the cache", file=sys.stderr)
    right = {name: scored.correct for name, scored in tasks_scored.items() if scored.correct is not None}
    items = items_of(tasks_scored)
    compared = len(options.checkpoint) > 1 and pairs == all_pairs[0]
    if compared and pairs is not None and "geometry" not in result["failed"]:
        items |= held_out_items(sides_of(model, CachedEncoder(model, options.batch_size, cache=cache)), pairs)
    return result, right, items


def _describe(tasks: Sequence[Data], results: dict[str, dict[str, Any]], probe: str) -> None:
    first = next(iter(results.values()))
    for data in tasks:
        row = first["tasks"].get(data.task.name)
        if row:
            print(f"{data.task.name}: {data.task.what}; {row['n']:,} rows; {row['protocol']}")
    measured: dict[str, list[str]] = {}  # encoders by what their geometry is of
    optima = set()  # one for each dimension
    for encoder, result in results.items():
        shape = result["geometry"] or {}
        if "alignment" in shape:
            of = shape["source"] if "retrieval_mrr" in shape else f"{shape['source']}: {shape.get('definition', '')}"
            text = f"{shape['pairs']:,} pairs, {shape['sentences']:,} sentences; {of}"
            measured.setdefault(text, []).append(encoder)
            optima.add(f"; optimum {shape['uniformity_optimum']:.4f}")
    for text, encoders in measured.items():
        whose = "" if len(measured) == 1 else f" of {', '.join(encoders)} (compare only these)"
        print(f"alignment, uniformity{whose}: {text}{next(iter(optima)) if len(optima) == 1 else ''}")
