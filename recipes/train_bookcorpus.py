"""Train a sentence encoder on neighbouring sentences of books, score it, and write a page to look at.

    accelerate launch recipes/train_bookcorpus.py                                    # the built-in sample, minutes
    accelerate launch recipes/train_bookcorpus.py --corpus BOOKS --out runs/first \\
        --encoder rnn:hidden=256 --objective infonce:temperature=0.05                # a folder of raw books
    torchrun --nproc_per_node 2 recipes/train_bookcorpus.py                          # two processes, global negatives

Writes OUT/config.json before step 1, OUT/log.jsonl from step 0, OUT/checkpoints/ with --save-every, then OUT/model (a
SentenceTransformer), OUT/scores.json and OUT/report.html. A run is never overwritten.
"""

import argparse
import copy
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, set_seed
from sentence_transformers import SentenceTransformer

from eval.encoding import Encoder
from eval.neighbours import HeldOut, held_out, neighbour_geometry, similarities
from eval.reading import Data, read
from eval.run import PACKAGES
from eval.scoring import evaluate
from eval.tables import format_table
from eval.tasks import choose_tasks, data_folder
from sentemb.checkpoint import newest, write_whole
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import ENCODERS, averaged, tokenizer_of
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import PAIRS, usable
from sentemb.registry import InputError, build, check, choose
from sentemb.report import write_report
from sentemb.train import FitConfig, describe, fit

DEFAULTS: dict[str, Any] = {
    "corpus": "sample",
    "encoder": "rnn",
    "objective": "infonce",
    "pairs": "neighbours",
    "epochs": None,
    "max_steps": None,
    "batch_size": 256,
    "lr": 1e-3,
    "warmup": 100,
    "max_length": 40,
    "seed": 0,
    "eval_every": 100,
    "save_every": 0,
    "track": None,
    "data": None,
    "score": True,
    "threads": None,
}
# What may differ when a run is resumed; the rest decides its result.
MAY_CHANGE = {"epochs", "max_steps", "eval_every", "save_every", "track", "data", "score", "threads"}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; only what was given is set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, argument_default=argparse.SUPPRESS
    )

    def add(flag: str, text: str, **more: Any) -> None:
        default = DEFAULTS.get(flag[2:].replace("-", "_"))
        parser.add_argument(flag, help=text + (f" (default {default})" if default not in (None, True) else ""), **more)

    add("--corpus", "sample; a folder of .txt or .txt.gz books; a file, a sentence a line; hub:name=...; bookcorpus")
    add("--encoder", "rnn:cell=,hidden=,layers=,bidirectional=,pooling=,embeddings= | static:... | transformer:name=")
    add(
        "--objective", "infonce:temperature=,symmetric= | align_uniform:alpha=,t=,weight= | mix:contrastive=,align=,..."
    )
    add("--pairs", "which sentences are partners: neighbours:window=")
    add("--out", "run folder, new; default runs/bookcorpus or the next free runs/bookcorpus-2, ...", type=Path)
    add("--epochs", "passes over all pairs; default 1, or as many as --max-steps needs", type=int)
    add("--max-steps", "stop after so many updates at the latest", type=int)
    add("--batch-size", "pairs per process; all other pairs of the global batch are negatives", type=int)
    add("--lr", "highest learning rate of AdamW", type=float)
    add("--warmup", "updates over which the learning rate rises; then it falls linearly to 0", type=int)
    add("--max-length", "longest sentence in tokens; longer ones are cut", type=int)
    add("--seed", "of weights, order and dropout", type=int)
    add("--eval-every", "updates between held-out scores in the log; 0: first and last only", type=int)
    add("--save-every", "updates between checkpoints; 0: none", type=int)
    add(
        "--resume",
        "continue the run in --out from its newest checkpoint, with its settings; begin it where there is none yet",
        action="store_true",
    )
    add("--track", f"also log to one of {', '.join(LOGGER_TYPE_TO_CLASS)}")
    add("--data", "SentEval's folder (holds downstream/); else $SENTEMB_DATA/senteval, else the sample's two tasks")
    add("--threads", "CPU threads per process; default: all cores, shared by this machine's processes", type=int)
    add(
        "--score",
        "--no-score leaves out the final probes (geometry and retrieval are always measured)",
        action=argparse.BooleanOptionalAction,
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: 0 done, 1 the training diverged, 2 something given cannot be used."""
    options = vars(parse(arguments))
    try:
        run(options)
    except (InputError, FloatingPointError) as error:
        wrong = isinstance(error, InputError)
        print(f"{'error' if wrong else 'stopped'}: {error}", file=sys.stderr)
        sys.exit(2 if wrong else 1)


def run(options: dict[str, Any]) -> None:
    """Choose, check, build, fit, save, score. Nothing is written before everything given has been found usable."""
    if Path(options.get("corpus", "")).exists() and "corpus" in options:
        options["corpus"] = str(Path(options["corpus"]).resolve())  # the run is read from other folders too
    resume = options.pop("resume", False)
    out: Path | None = options.pop("out", None)
    settings = settings_of(options, out, resume)
    config = FitConfig(**{f.name: settings[f.name] for f in fields(FitConfig) if f.name in settings})
    check(ENCODERS, settings["encoder"], "encoder", ("texts", "max_length"))
    check(PAIRS, settings["pairs"], "pairs", ("ranges",))
    objective = build(OBJECTIVES, settings["objective"], "objective")
    if settings["max_length"] < 1:
        raise InputError(f"max-length must be at least 1, got {settings['max_length']}")
    if out is not None and not resume:
        refuse_used(out)
    accelerator = make_accelerator(settings["track"])
    main = accelerator.is_main_process
    use_threads(settings["threads"])
    folder = data_folder(Path(settings["data"]) if settings["data"] else None)

    with accelerator.main_process_first():  # the others find the cache the first one made
        corpus = open_corpus(settings["corpus"], progress=main)
        train, _ = corpus.split()
        set_seed(config.seed)
        model = build(
            ENCODERS,
            settings["encoder"],
            "encoder",
            texts=lambda: training_texts(corpus, train),
            max_length=settings["max_length"],
        )
        tokens = corpus.tokens(tokenizer_of(model), settings["max_length"])
    pairs = usable(build(PAIRS, settings["pairs"], "pairs", ranges=train), tokens.ids, tokens.offsets)
    retrieval_pairs = held_out(corpus)
    tasks = read_tasks(folder, bool(settings["data"])) if settings["score"] and main else []

    steps = config.steps(len(pairs), accelerator.num_processes)  # an InputError if there are too few pairs
    description = describe(config, objective, len(pairs), accelerator)
    out = claim(out, accelerator)
    accelerator.project_configuration.project_dir = accelerator.project_configuration.logging_dir = str(out)
    if resume and (out / "config.json").exists():
        refuse_another_job(out, corpus, accelerator, steps)
    if resume and finished(out, steps):
        accelerator.print(f"{out} is finished: {out / 'model'}, {out / 'report.html'}")
        return
    accelerator.print(f"run folder: {out}")
    accelerator.print(description)
    if main and not (out / "config.json").exists():
        write_config(out, settings, corpus, len(pairs), model, accelerator, description)
    if settings["track"]:
        accelerator.init_trackers("sentemb", config={k: v for k, v in settings.items() if v is not None})

    untrained = copy.deepcopy(model)
    fit(
        model,
        objective,
        pairs,
        tokens,
        config,
        accelerator,
        out,
        score=lambda encoder: held_out_scores(encoder, retrieval_pairs),
        resume=resume,
    )
    if main:
        model.to("cpu")
        write_whole(out / "model", lambda partial: save_model(partial, model, settings, corpus, steps))
        finish(out, untrained, model, tasks, retrieval_pairs)
        print(f"run folder: {out}")
    accelerator.wait_for_everyone()
    accelerator.end_training()


def training_texts(corpus: Corpus, ranges: np.ndarray, chunk: int = 10_000) -> Iterator[str]:
    """Every sentence before the end of the last training document, for a vocabulary to be learned from."""
    stop = int(ranges.max())
    for start in range(0, stop, chunk):
        yield from corpus.sentences(slice(start, min(start + chunk, stop)))


def settings_of(options: dict[str, Any], out: Path | None, resume: bool) -> dict[str, Any]:
    """Defaults, then a resumed run's own settings, then what was given; a resumed run keeps what decides its result."""
    if not resume:
        return DEFAULTS | options
    if out is None:
        raise InputError("--resume needs --out, the run folder to continue")
    if not (out / "config.json").is_file():
        refuse_used(out)
        return DEFAULTS | options
    kept = read_config(out)["settings"]
    for name, value in options.items():
        if name not in MAY_CHANGE and kept.get(name) != value:
            flag = name.replace("_", "-")
            raise InputError(
                f"{out} was begun with --{flag} {kept.get(name)}, not {value}; leave --{flag} out to resume it"
            )
    return DEFAULTS | kept | options


def read_config(out: Path) -> dict[str, Any]:
    """OUT/config.json; InputError if it is not one of ours."""
    try:
        content = json.loads((out / "config.json").read_text(encoding="utf-8"))
        dict(content["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out / 'config.json'} cannot be read; this run cannot be resumed") from error
    return content


def refuse_another_job(out: Path, corpus: Corpus, accelerator: Accelerator, steps: int) -> None:
    """InputError if what is resumed would not be the run in ``out`` continued."""
    kept = read_config(out)
    now = {
        "corpus": corpus.fingerprint,
        "world_size": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }
    for name, value in now.items():
        before = kept.get(name, value)
        before = before.get("fingerprint", value) if isinstance(before, dict) else before
        if before != value:
            raise InputError(
                f"{out} was begun with {name} {before}, now it is {value}; give it what it had, or a new --out"
            )
    if newest(out) is None and (out / "model").exists() and not finished(out, steps):
        raise InputError(f"{out} is finished and has no checkpoint to go on from; begin a new --out")


def refuse_used(out: Path) -> None:
    """InputError if ``out`` already holds something."""
    if (out / "config.json").exists():
        raise InputError(f"{out} is already a run; choose another --out, or continue it with --resume")
    if out.exists() and (not out.is_dir() or any(not p.name.startswith(".config.") for p in out.iterdir())):
        raise InputError(f"{out} is there and not an empty folder; choose another --out")


def claim(out: Path | None, accelerator: Accelerator) -> Path:
    """Make the run folder; without a name, the first free of runs/bookcorpus, runs/bookcorpus-2, ..."""
    names = [out]
    if accelerator.is_main_process:
        number = 1
        while names[0] is None:
            free = Path("runs") / ("bookcorpus" if number == 1 else f"bookcorpus-{number}")
            number += 1
            if not free.exists():
                names[0] = free
        try:
            names[0].mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the run folder {names[0]} ({error.strerror}); choose another --out"
            ) from error
    broadcast_object_list(names)
    assert names[0] is not None
    return names[0]


def finished(out: Path, steps: int) -> bool:
    """Whether the run in ``out`` has its model and no step of ``steps`` is left."""
    if not (out / "model" / "modules.json").is_file() or not (out / "report.html").is_file():
        return False
    try:
        return json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"] >= steps
    except (OSError, ValueError, KeyError, IndexError):
        return False


def make_accelerator(track: str | None) -> Accelerator:
    """Accelerate's settings decide device, processes and precision; ``track`` adds a tracker."""
    if track is not None:
        choose("tracker", track, LOGGER_TYPE_TO_CLASS)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    # Without a GPU accelerate takes processes started by torchrun for separate runs, unless told of the CPU.
    cpu = launched > 1 and not torch.accelerator.is_available()
    # One process prepares or scores while the others wait; that may take longer than the ten minutes of NCCL.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    # A tracker must be given a folder before the run has one; it is set to the run folder once that is claimed.
    accelerator = Accelerator(cpu=cpu, log_with=track, project_dir="runs", kwargs_handlers=[patience])
    if accelerator.num_processes != launched:
        raise InputError(
            f"{launched} processes were started but accelerate sees {accelerator.num_processes}; use torchrun"
        )
    if track is not None and not accelerator.log_with:
        raise InputError(f"--track {track} needs its package; pip install {track}")
    return accelerator


def use_threads(wanted: int | None) -> None:
    """Set torch's CPU threads: all cores by default, as ``accelerate launch`` leaves each process with one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = wanted if wanted is not None else max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)


def read_tasks(folder: Path | None, insist: bool) -> list[Data]:
    """The tasks of the final score. Data that cannot be had costs the scores, not the run, unless it was asked for."""
    try:
        return [read(task, folder) for task in choose_tasks(None, folder)]
    except InputError as error:
        if insist:
            raise
        print(f"no probes at the end: {error}", file=sys.stderr)
        return []


def held_out_scores(model: SentenceTransformer, pairs: HeldOut) -> dict[str, float]:
    """What the log keeps of the held-out pairs' geometry."""
    found = neighbour_geometry(Encoder(model), pairs)
    return {
        "heldout_alignment": found["alignment"],
        "heldout_uniformity": found["uniformity"],
        "retrieval_mrr": found["retrieval_mrr"],
        "retrieval_recall_at_1": found["retrieval_recall_at_1"],
    }


def write_config(
    out: Path,
    settings: dict[str, Any],
    corpus: Corpus,
    pairs: int,
    model: SentenceTransformer,
    accelerator: Accelerator,
    description: str,
) -> None:
    """OUT/config.json: everything needed to know, or repeat, what was run."""
    content = {
        "settings": settings,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "description": description,
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "documents": len(corpus.documents) - 1,
            "sentences": len(corpus),
            "pairs": pairs,
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
    partial = out / f".config.{os.getpid()}"
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(out / "config.json")


def save_model(folder: Path, model: SentenceTransformer, settings: dict[str, Any], corpus: Corpus, steps: int) -> None:
    """The model and its README, which says what it is and how it loads."""
    model.save(str(folder), create_model_card=False)
    stock = "sentemb." not in (folder / "modules.json").read_text(encoding="utf-8")
    how = "from sentence_transformers import SentenceTransformer\nmodel = SentenceTransformer(PATH)"
    if not stock:
        how = "import sentemb  # its GRU is no stock module\nmodel = sentemb.load(PATH)"
    lines = [f"- {name.replace('_', '-')}: `{value}`" for name, value in settings.items() if value is not None]
    text = (
        f"# Sentence encoder, trained with sentemb\n\nTrained for {steps} steps on {corpus.name}: neighbouring "
        f"sentences are positive pairs.\n\n```python\n{how}\nmodel.encode(['A sentence.'])\n```\n\n## Settings\n\n"
    )
    (folder / "README.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


def finish(
    out: Path, untrained: SentenceTransformer, model: SentenceTransformer, tasks: list[Data], pairs: HeldOut
) -> None:
    """Score the encoder before and after training and the average of its word embeddings; table, file and page."""
    encoders = {"untrained": untrained, "trained": model}
    if len(model) > 1:  # a static encoder untrained is that average
        encoders["averaged embeddings"] = averaged(untrained)
    results = {}
    for name, encoder in encoders.items():
        encoder.to("cpu")
        print(f"measuring: {name}", file=sys.stderr)
        results[name] = evaluate(encoder, tasks, pairs)
    rows = [
        {
            "encoder": name,
            **result,
            "retrieval_mrr": result["geometry"]["retrieval_mrr"],
            "retrieval_recall_at_1": result["geometry"]["retrieval_recall_at_1"],
        }
        for name, result in results.items()
    ]
    histograms = {name: similarities(Encoder(encoders[name]), pairs) for name in ("untrained", "trained")}
    content = json.dumps({"rows": rows, "histograms": histograms}, indent=1)
    (out / "scores.json").write_text(content + "\n", encoding="utf-8")
    write_report(out)
    print(format_table(results))
    print(f"model: {out / 'model'}   report: {out / 'report.html'}")


if __name__ == "__main__":
    main()
