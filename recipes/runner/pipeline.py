"""What the recipes do once their command line is read: choose, check, build, fit, save, score."""

import copy
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from eval import PACKAGES, data_folder
from recipes.runner.accelerator import make_accelerator
from recipes.runner.build import check_settings, make_model, make_pairs, refuse_no_noise, tower_dimension
from recipes.runner.final_scores import dev_scores, finish, read_dev, read_tasks, retrieval_of, selected
from recipes.runner.resume import (
    begun,
    changed_meanings,
    claimed,
    differences,
    end_with_launcher,
    finished,
    on_processes,
    prompts_begun_with,
    refuse_another_job,
    resume_command,
    retrieval_before,
)
from recipes.runner.settings import absolute_settings
from sentemb.corpus import CLEANINGS, Cleaning, Corpus, clean_corpus, open_corpus
from sentemb.encoders import (
    HEADS,
    Prompts,
    load,
    parse_prompts,
    prompts_of,
    set_prompts,
    tokenizer_of,
    towers_of,
)
from sentemb.errors import InputError
from sentemb.forward import MaskedWords, TrainingEncoder
from sentemb.pairs import Words
from sentemb.registry import build
from sentemb.runs import TRAINED_FOLDERS, RunFolder, refuse_foreign, write_card
from sentemb.storage import write_folder, write_text
from sentemb.training import (
    Evaluation,
    Patience,
    RunTarget,
    TrainingData,
    TrainingSettings,
    agreed_checkpoint,
    describe,
    fit,
    on_main,
    refuse_misfit,
    tell,
    total_steps,
    tune_malloc,
    use_threads,
)
from sentemb.validation import held_out_pairs

NOTES = 5  # on the corpus that are printed


def run(
    name: str,
    settings: dict[str, Any],
    out: Path | None,
    resume: bool = False,
    elastic: bool = False,
    finish: Callable[..., None] = finish,
) -> None:
    """Train by ``settings`` (of :mod:`recipes.runner.settings`) into the run folder ``out``, by default ``runs/NAME``.

    Nothing is written before everything given has been found usable. ``finish`` scores what was trained.
    """
    settings |= absolute_settings(settings)
    if settings["init"] is not None:
        settings["encoder"] = None
    logging.disable_progress_bar()  # a bar for each file read or written hides the one of training
    try:
        config = TrainingSettings(**{f.name: settings[f.name] for f in fields(TrainingSettings) if f.name in settings})
    except TypeError as error:  # of a run's config.json; argparse has looked at flags
        raise InputError(
            f"the settings in {RunFolder(out or Path()).config} are damaged ({error}); begin a new run"
        ) from None
    objective = check_settings(settings)
    cleaning = build(CLEANINGS, settings["clean"], "clean")
    accelerator = make_accelerator(settings)
    end_with_launcher()
    main, world, kept = accelerator.is_main_process, accelerator.num_processes, begun(out, resume)
    config = on_processes(config, kept, world, elastic)
    settings["batch_size"] = config.batch_size
    use_threads(settings["threads"])
    tune_malloc()
    folder = data_folder(Path(settings["data"]) if settings["data"] else None)

    # The first process of a machine at a file's lock prepares, and the others wait there: collectives would give up.
    patience = Patience()
    corpus = open_corpus(settings["corpus"])
    train, _ = corpus.split()
    set_seed(config.seed)
    model = make_model(settings, corpus, train)
    for part in (model, *towers_of(model)):
        part.similarity_fn_name = objective.similarity
    if settings["prompts"] is not None:
        set_prompts(model, parse_prompts(settings["prompts"]))
    prompts, retrieval = prompts_begun_with(kept, prompts_of(model)), retrieval_of(model)
    tokenizer, length = tokenizer_of(model), settings["max_length"]
    tokens = corpus.tokens(tokenizer, length, prompts.anchor)
    positive_tokens = None if prompts.alike else corpus.tokens(tokenizer, length, prompts.positive)
    plain = corpus.tokens(tokenizer, length) if prompts.anchor and cleaning != Cleaning() else tokens
    cleaned = clean_corpus(corpus, plain, cleaning, tokenizer.num_special_tokens_to_add(False), length)
    pairs = make_pairs(settings, corpus, train, tokens, cleaned.mask if cleaned else None)
    count = len(towers_of(model))
    refuse_misfit(objective, pairs, count)
    if pairs.are_contiguous and count == 1 and not prompts.alike:
        raise InputError(
            "prompts of two kinds need pairs of two sides, and a sentence of --pairs contiguous is on both; give both "
            "sides one prompt, or --towers 2"
        )
    refuse_no_noise(settings, model, pairs)
    mlm = MaskedWords(model) if config.mlm else None
    head = build(HEADS, settings["head"], "head", dimension=tower_dimension(model))
    packable = settings["attention"] != "auto" or not config.compile  # a packed forward does not compile
    embedder = TrainingEncoder(model, head, mlm, settings["attention"] if packable else "padded")
    retrieval_pairs = held_out_pairs(corpus)
    dev_data = read_dev(settings["dev"], folder)
    tasks = read_tasks(name, settings, folder) if settings["score"] and main else []

    steps = total_steps(config, len(pairs), world)  # an InputError if there are too few pairs
    notes = [*corpus.notes[:NOTES], *([str(cleaned)] if cleaned else [])]
    if len(corpus.notes) > NOTES:
        notes.append(f"{len(corpus.notes) - NOTES} more of this kind; python -m sentemb.corpus tells them all")
    if prompts != Prompts():
        sides = [f"{prompts.anchor!r} (anchor)", f"{prompts.positive!r} (positive)"]
        notes.append(f"prompts before the texts: {repr(prompts.anchor) if prompts.alike else ', '.join(sides)}")
    if mlm is not None and mlm.new:
        notes.append("the checkpoint has no masked-language-model head; a new one is trained along")
    notes += differences(config, kept, world, steps, len(pairs))
    notes += changed_meanings(
        kept, prompts, prompts_of(model), retrieval, retrieval_before(kept, count, pairs.are_contiguous)
    )
    settings["dev"] = "stsb" if dev_data else "heldout"  # so that a resumed run is selected by the same score
    settings["data"] = str(folder.resolve()) if folder else None  # ... wherever it is resumed
    about = {
        "description": describe(config, objective, pairs, accelerator, embedder),
        "steps": steps,
        "least": config.smallest_batch or 2 * world,
        "pairs": len(pairs),
        "dropped": cleaned.dropped if cleaned else None,
        "prompts": asdict(prompts),
        "retrieval": retrieval,
    }

    patience.wait()  # for other machines, which prepare for themselves
    with claimed(out, name, accelerator, anew=not kept) as out:
        done = bool(kept) and finished(out, steps, kept, settings)
        if kept:
            refuse_another_job(out, kept, corpus, accelerator, done)
        if done:
            accelerator.print(f"{out} is finished: {RunFolder(out).model}, {RunFolder(out).report}")
            return
        # InputErrors, if there are files of others, or no checkpoint is whole; nothing is written then
        others = names_beside(out, accelerator)
        on_main(partial(refuse_foreign, out, bool(kept), others), accelerator)
        checkpoint = agreed_checkpoint(out, accelerator) if kept else False
        accelerator.project_configuration.project_dir = accelerator.project_configuration.logging_dir = str(out)
        accelerator.print(f"run folder: {out}")
        accelerator.print(about["description"])
        for note in notes:
            accelerator.print(f"note: {note}")
        if main:
            RunFolder(out).report.unlink(missing_ok=True)  # the mark of a finished run, which this is not yet
            write_config(out, settings, corpus, model, accelerator, about, kept)
        if settings["track"]:
            accelerator.init_trackers("sentemb", config={k: v for k, v in settings.items() if v is not None})
        untrained = copy.deepcopy(model)
        forget_best = not dev_data and retrieval != retrieval_before(kept, count, pairs.are_contiguous)
        result = fit(
            embedder,
            objective,
            TrainingData(pairs, tokens, positive_tokens, Words.of(tokenizer) if pairs.noise else None),
            config,
            accelerator,
            RunTarget(out, checkpoint, names_beside(out, accelerator), forget_best, exit_on_second_signal=True),
            Evaluation(
                lambda encoder: dev_scores(encoder, retrieval_pairs, dev_data),
                "stsb_dev_spearman" if dev_data else "retrieval_mrr",
            ),
        )
        if result.interrupted:
            if main:
                tell(
                    f"stopped after step {result.step} of {result.steps}, saved in {result.checkpoint}; go on with\n"
                    f"    {resume_command(out)}"
                )
            accelerator.end_training()
            return
        if main:
            run_folder = RunFolder(out)
            model.to("cpu")
            of = f"{result.step} steps"
            if settings["select"] == "best":
                model, of = load(run_folder.best, device="cpu"), selected(run_folder.best)
            write_folder(run_folder.model, lambda partial: save_trained_model(partial, model, settings, corpus, of))
            finish(out, untrained, model, tasks, retrieval_pairs, of)
            print(f"run folder: {out}")
        patience.wait()
        accelerator.end_training()


def names_beside(out: Path, accelerator: Accelerator) -> list[str]:
    """Names in a run folder that training does not write: of this recipe, of trackers, and of what people put there."""
    return on_main(lambda: [path.name for path in out.iterdir() if path.name not in TRAINED_FOLDERS], accelerator)


def write_config(
    out: Path,
    settings: dict[str, Any],
    corpus: Corpus,
    model: SentenceTransformer,
    accelerator: Accelerator,
    about: dict[str, Any],
    kept: dict[str, Any],
) -> None:
    """OUT/config.json: everything needed to know, or repeat, what was run.

    ``about``: description, steps, pairs, ...; ``kept``: what is there of a run that is continued.
    """
    command = shlex.join([Path(sys.executable).name, *sys.argv])
    content = {
        "settings": settings,
        "command": kept.get("command", command),
        **({"resumed": [*kept.get("resumed", []), command]} if kept else {}),
        **{name: about[name] for name in ("description", "steps", "least", "prompts", "retrieval")},
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "documents": len(corpus.documents) - 1,
            "sentences": len(corpus),
            "pairs": about["pairs"],
            "notes": list(corpus.notes),
            "dropped": about["dropped"],
        },
        "encoder": {
            "dimension": model.get_embedding_dimension(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
        "world_size": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "device": accelerator.device.type,
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in (*PACKAGES, "accelerate", "datasets", "sentemb")},
    }
    write_text(RunFolder(out).config, json.dumps(content, indent=2) + "\n")


def save_trained_model(
    folder: Path, model: SentenceTransformer, settings: dict[str, Any], corpus: Corpus, trained: str
) -> None:
    """The model and its card, which has no scores yet."""
    model.save(str(folder), create_model_card=False)
    about = {"settings": settings, "corpus": {"name": corpus.name}}
    write_card(folder, about | {"encoder": {"dimension": model.get_embedding_dimension()}}, trained)
