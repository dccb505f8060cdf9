"""The recipes' command line. Nothing heavy is imported, so that --help answers at once."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.runner.presets import with_preset
from recipes.runner.settings import DEFAULTS, absolute_settings, newest_run, refuse_used, settings_of
from sentemb.errors import InputError


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
        from recipes.runner.pipeline import run  # torch and the rest, seconds

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
        from sentemb.errors import TrainingFailed
        from sentemb.training import explained

        why = str(error) if isinstance(error, TrainingFailed) else explained(error)
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
