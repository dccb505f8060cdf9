"""The recipes' command line: flags, defaults, presets. Nothing heavy is imported, so that --help answers at once."""

import argparse
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.registry import absolute, absolute_paths, choose
from sentemb.runs import RunFolder

PRESETS = Path(__file__).with_name("presets.toml")
DEFAULTS: dict[str, Any] = {
    "corpus": "sample",
    "encoder": "rnn",
    "init": None,
    "towers": 1,
    "head": "none",
    "objective": "infonce",
    "pairs": "neighbours",
    "prompts": None,
    "max_pairs": None,
    "clean": "none",
    "workers": 0,
    "epochs": None,
    "max_steps": None,
    "batch_size": 256,
    "micro_batch": 0,
    "lr": 1e-3,
    "warmup": 100,
    "weight_decay": 0.0,
    "clip": 1.0,
    "mlm": 0.0,
    "max_length": 40,
    "seed": 0,
    "eval_every": 100,
    "log_every": 10,
    "dev": "auto",
    "select": "last",
    "save_every": 500,
    "keep": 2,
    "on_nan": "stop",
    "precision": "auto",
    "attention": "auto",
    "compile": False,
    "force": False,
    "track": None,
    "data": None,
    "tasks": None,
    "score": True,
    "threads": None,
    "timeout": 10.0,
}
# What may differ when a run is resumed; the rest decides its result.
MAY_CHANGE = {
    "epochs",
    "max_steps",
    "eval_every",
    "log_every",
    "save_every",
    "keep",
    "on_nan",
    "micro_batch",
    "track",
    "data",
    "tasks",
    "score",
    "threads",
    "select",
    "workers",
    "timeout",
}


def parser(description: str | None, defaults: Mapping[str, Any]) -> argparse.ArgumentParser:
    """A recipe's flags; only what is given is set."""
    made = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    group: Any = made

    def add(flag: str, text: str, **more: Any) -> None:
        default = defaults.get(flag[2:].replace("-", "_"))
        shown = "" if default is None or isinstance(default, bool) else f" (default {default})"
        group.add_argument(flag, help=(text + shown).replace("%", "%%"), **more)

    group = made.add_argument_group("what is trained on what")
    add(
        "--corpus",
        "sample; a folder of .txt books; a file, a sentence a line (either also .gz, .zst, .xz); a .parquet, .jsonl, "
        ".csv or .tsv file (table:path=,column=); hub:name=,streaming=; bookcorpus:boundaries=; labelled:path=FILE; "
        "several as 'A + B*0.5', with how often their pairs are seen in an epoch",
    )
    add(
        "--encoder",
        "rnn:cell=,hidden=,layers=,bidirectional=,pooling=,embeddings=,dropout= | static:... | "
        "transformer:name=,pooling=,dropout=,mlp= (name: a hub id, a folder, minilm)",
    )
    add("--init", "begin from this finished model instead of --encoder: a folder, a run, a hub name, or minilm")
    add("--towers", "1, or 2: an encoder for each side of a pair; the model is then [f; g]", type=int)
    add("--head", "what the objective sees the embeddings through, left out of the model: none, mlp, projection:out=")
    add(
        "--objective",
        "name or name:option=value,...; docs/objectives.md has the table of all: formula, negatives, options. "
        "Contrastive: infonce, ntxent, dcl, dpr, cmc, cpc, joint_infonce (--pairs contiguous), hard_negatives, "
        "supcon and cross_entropy (classes); geometry: align_uniform, mix; Wang & Liu: simple, hard, hard_simple; "
        "with memory: moco, memory_bank, byol; without negatives: barlow_twins, vicreg",
    )
    add(
        "--pairs",
        "what belongs together: neighbours:window=,both=,documents=,classes= | contiguous | dropout | "
        "augment:how=,rate= | labelled",
    )
    add(
        "--prompts",
        'what goes before the texts of each side, while training and in the model: anchor="query: ",positive='
        '"passage: "; by default the model\'s own default prompt, which encode puts before each text',
    )
    add("--max-pairs", "so many of the pairs, drawn by --seed; default all", type=int)
    add(
        "--clean",
        "leave sentences out of the pairs: none, or drop:min_tokens=1,max_tokens=0,letters=0.5,script=any,"
        "duplicates=none (document, corpus),near_duplicates=0 (share of a document's sentences); python -m "
        "sentemb.corpus CORPUS tells what that would do",
    )
    add("--preset", "settings of a paper's row in recipes/presets.toml; flags beside it change them")
    add("--out", "run folder, new; default runs/NAME or the next free runs/NAME-2, ...", type=Path)

    group = made.add_argument_group("how long and how fast it learns")
    add("--epochs", "passes over all pairs; default 1, or as many as --max-steps needs", type=int)
    add("--max-steps", "stop after so many updates at the latest", type=int)
    add("--batch-size", "pairs per process; all other pairs of the global batch are negatives", type=int)
    add("--micro-batch", "encode so many pairs at a time: the same gradient in less memory; 0: all at once", type=int)
    add("--lr", "highest learning rate of AdamW", type=float)
    add("--warmup", "updates over which the learning rate rises; then it falls linearly to 0", type=int)
    add("--weight-decay", "of AdamW, on all weights that are trained", type=float)
    add("--clip", "greatest gradient norm", type=float)
    add("--mlm", "weight of masked-language modelling beside the objective (transformers; SimCSE: 0.1)", type=float)
    add("--max-length", "longest sentence in tokens; longer ones are cut", type=int)
    add("--seed", "of weights, order and dropout", type=int)

    group = made.add_argument_group("watching and keeping")
    add("--eval-every", "updates between held-out scores, last/ and best/; 0: first and last only", type=int)
    add(
        "--dev",
        "what best/ is chosen by: stsb (STS-B dev), heldout (MRR of held-out pairs), or auto: stsb where its data is",
    )
    add("--select", "which one becomes model/: last or best", choices=("last", "best"))
    add("--log-every", "updates between records of log.jsonl", type=int)
    add("--save-every", "updates between checkpoints to resume from, and one at the end; 0: none", type=int)
    add("--keep", "newest checkpoints that are kept; 0: all", type=int)
    add(
        "--resume",
        "continue the run in --out (without it the newest of runs/NAME, runs/NAME-2, ...) from its newest whole "
        "checkpoint, with its settings; with other flags beside it, begin it where there is none yet. SIGTERM or "
        "Ctrl-C end a run after the step at hand, saved",
        action="store_true",
    )
    add(
        "--elastic",
        "let --resume go on with another number of processes: the same global batch, other dropout masks",
        action="store_true",
    )
    add(
        "--on-nan",
        "what an update does whose loss or gradient is not finite: stop the run, or skip it and say so",
        choices=("stop", "skip"),
    )
    add("--track", "also log to a tracker that accelerate knows, tensorboard say")
    add("--data", "SentEval's folder (holds downstream/); else $SENTEMB_DATA/senteval, else the sample's two tasks")
    add(
        "--tasks",
        "tasks of the final scores; default MR,CR for books, STS-B for the other recipes, by what data there is",
    )
    add(
        "--score",
        "--no-score leaves out these tasks (geometry is always measured)",
        action=argparse.BooleanOptionalAction,
    )

    group = made.add_argument_group("how it is computed")
    add("--precision", "auto (bf16 for transformers where the processor has it), no, bf16, fp16")
    add("--attention", "of transformers: auto (packed where it works), packed (no padding), padded, sdpa, eager")
    add("--compile", "torch.compile the forward: minutes of compiling first, and no packing", action="store_true")
    add("--threads", "CPU threads per process; default: all cores, shared by this machine's processes", type=int)
    add(
        "--timeout",
        "minutes that the processes of a run wait for one that is dead or hangs, or scores or saves for longer; "
        "preparing the corpus and the final scores may take any time",
        type=float,
    )
    add("--workers", "processes that make batches ahead; the same batches for any number", type=int)
    add("--force", "go on where a run is known to degenerate: dropout pairs without dropout", action="store_true")
    return made


def presets() -> dict[str, dict[str, Any]]:
    """All presets, by name."""
    return tomllib.loads(PRESETS.read_text(encoding="utf-8"))


def with_preset(options: dict[str, Any], recipe: str) -> dict[str, Any]:
    """The options with those of ``--preset`` under them.

    Raises:
        InputError: an unknown preset, or one of another recipe.
    """
    name = options.pop("preset", None)
    if name is None:
        return options
    known = presets()
    kept = dict(known[choose("preset", name, known)])
    if (owner := kept.pop("recipe")) != recipe:
        raise InputError(f"preset {name} is one of recipes/{owner}.py; run that, or choose another")
    if "init" in options:
        kept.pop("encoder", None)
    return kept | options


def settings_of(options: dict[str, Any], defaults: dict[str, Any], out: Path | None, resume: bool) -> dict[str, Any]:
    """Defaults, then a resumed run's own settings, then what was given; a resumed run keeps what decides its result."""
    if "init" in options and "encoder" in options:
        raise InputError("--init and --encoder both name the encoder; give one of them")
    if not resume:
        return defaults | options
    assert out is not None
    if not RunFolder(out).config.is_file():
        if not options or (out.exists() and not _empty(out)):
            raise InputError(
                f"{out} is no run that could be continued (it has no config.json); check the path, or say what a new "
                "run there is of (--corpus and the like)"
            )
        return defaults | options
    content = RunFolder(out).read_settings()
    begun_with = absolute_settings(
        content["settings"]
    )  # (earlier versions left paths inside of specs as they were given)
    if begun_with.get("precision") == "auto":  # what it was then, whatever this machine would choose
        begun_with["precision"] = content.get("precision", "auto")
    for name in ("precision", "dev"):  # what was found then holds
        if options.get(name) == "auto":
            del options[name]
    for name, value in options.items():
        before = begun_with.get(name, defaults.get(name))  # (an earlier version had not all of them)
        if name not in MAY_CHANGE and before != value:
            flag = name.replace("_", "-")
            raise InputError(f"{out} was begun with --{flag} {before}, not {value}; leave --{flag} out to resume it")
    return defaults | begun_with | options


def refuse_used(out: Path) -> None:
    """InputError if ``out`` already holds something."""
    if RunFolder(out).config.exists():
        raise InputError(f"{out} is already a run; choose another --out, or continue it with --resume")
    if out.exists() and not _empty(out):
        raise InputError(f"{out} is there and not an empty folder; choose another --out")


def _empty(out: Path) -> bool:
    """Whether it is a folder with nothing in it but what a run that was killed at its very beginning has left."""
    return out.is_dir() and all(p.name.startswith(".config.json.") for p in out.iterdir())


def absolute_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths are absolute: a run is read, scored and resumed from other folders, too."""
    from sentemb.corpus import absolute_corpus
    from sentemb.encoders import ENCODERS  # torch and the rest, seconds

    changed = dict(settings)
    if isinstance(corpus := settings.get("corpus"), str):
        changed["corpus"] = absolute_corpus(corpus)
    if isinstance(encoder := settings.get("encoder"), str):
        changed["encoder"] = absolute_paths(ENCODERS, encoder)
    if isinstance(init := settings.get("init"), str) and init != "minilm":  # (which is built in)
        changed["init"] = absolute(init)
    return changed


def command(
    name: str,
    description: str | None,
    own: Mapping[str, Any],
    arguments: Sequence[str] | None,
    prepare: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """A recipe's main: 0 done, 1 the training diverged, 2 something given cannot be used.

    Args:
        name: of the recipe, ``train_NAME``. description: its docstring. own: its defaults, over DEFAULTS.
        arguments: of the command line, or None. prepare: changes or refuses what was given.
    """
    defaults = DEFAULTS | dict(own)
    options = vars(parser(description, defaults).parse_args(arguments))
    try:
        options = with_preset(options, name)
        if options.get("resume") and options.get("out") is None:
            options["out"] = newest_run(name.removeprefix("train_"))
        if prepare:
            prepare(options)
        resume, elastic = options.pop("resume", False), options.pop("elastic", False)
        out = options.pop("out", None)
        if elastic and not resume:
            raise InputError("--elastic is for runs that are continued; give it with --resume")
        if out is not None and not resume:
            refuse_used(out)
        settings = settings_of(absolute_settings(options), defaults, out, resume)
        # oneDNN keeps 1,024 compiled kernels, each for one shape, and hardly two batches have one number of tokens:
        # in a long run that is gigabytes. A step needs some tens.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
        from recipes.job import run  # torch and the rest, seconds

        run(name.removeprefix("train_"), settings, out, resume, elastic)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:
        _end(str(error))
    except KeyboardInterrupt:
        print(
            "interrupted; what was prepared or saved is kept, and the same command with --resume --out goes on from it",
            file=sys.stderr,
        )
        sys.exit(130)
    except Exception as error:
        from sentemb.errors import Halted
        from sentemb.training import explained

        why = str(error) if isinstance(error, Halted) else explained(error)
        if why is None:
            raise
        _end(why)


def _end(why: str) -> None:
    """The run cannot go on: say so, to the launcher too, which tells the first process' reason."""
    print(f"stopped: {why}", file=sys.stderr)
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(RuntimeError(why))
    sys.exit(1)


def newest_run(name: str) -> Path:
    """The run of runs/NAME, runs/NAME-2, ... that was last begun or continued; InputError if there is none."""
    found = [
        path.parent
        for path in Path("runs").glob(f"{name}*/config.json")
        if path.parent.name == name or path.parent.name.removeprefix(f"{name}-").isdigit()
    ]
    if not found:
        others = ", ".join(sorted(str(path.parent) for path in Path("runs").glob("*/config.json"))[:5])
        there = f" (there is {others})" if others else ""
        raise InputError(f"--resume finds no run in runs/{name}; name the run folder to continue with --out{there}")
    out = max(found, key=lambda path: RunFolder(path).config.stat().st_mtime)
    if os.environ.get("RANK", "0") == "0":
        print(f"resuming {out}", file=sys.stderr)
    return out
