"""Make a finished model better on your text: try several methods within a time budget, and keep the best one.

    sentemb adapt --init minilm --corpus BOOKS --budget 30m
    sentemb adapt --init minilm --corpus BOOKS --search DIR --budget 30m   # with judged queries of your own
    sentemb adapt --resume --out runs/adapt                                # resume after a crash

`python recipes/adapt.py` is the same command. It chooses a method on one half of the held-out documents, by the gain
there and the loss on general text. It judges the choice on the other half. It writes OUT/model, OUT/report.html and
OUT/results.json. OUT/model is the adapted model, or your own if no method helped beyond chance. The budget does not
include the preparation of the text and the final scores. Exit code 0: done; 2: an invalid argument; 130: interrupted.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentemb.errors import InputError, exit_codes
from sentemb.program import command_parser

if TYPE_CHECKING:
    from sentemb.adaptation import AdaptedRun, Similarity

NAME = "adapt"  # of the default folder, runs/adapt


def parser() -> argparse.ArgumentParser:
    """The command line's options; only what is given is set."""
    from recipes.runner import add_flag
    from sentemb.adaptation import AdaptationSettings

    made = command_parser(__doc__, argument_default=argparse.SUPPRESS)
    add = made.add_argument
    add("--init", metavar="MODEL", help="the model: a folder, a run, a hub name, or minilm")
    add("--corpus", metavar="TEXT", help="your text without labels, like --corpus of the other recipes")
    add(
        "--search",
        type=Path,
        metavar="DIR",
        help="judged queries to improve on: a folder in BEIR's layout, or a table",
    )
    add("--data", type=Path, help="SentEval's folder, for STS-B dev; default $SENTEMB_DATA/senteval")
    add("--out", type=Path, help="a new folder; default runs/adapt, or the next free runs/adapt-2, ...")
    add("--resume", action="store_true", help="resume the adaptation in --out, with its settings")
    for each in fields(AdaptationSettings):
        add_flag(made, each, each.default)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = vars(parser().parse_args(arguments))
    with exit_codes("interrupted; run the same command with --resume and --out to continue"):
        run = adapt(options)
    for note in run.results["notes"]:
        print(f"note: {note}")
    print(f"{run.verdict}\n{times_of(run.results)}\nmodel: {run.folder / 'model'}   page: {run.report}")


def times_of(results: Mapping[str, Any]) -> str:
    """What of the time was the budget's, and what was not."""
    from sentemb.runs import duration

    spent, budget, total = (duration(results[name]) for name in ("spent", "budget", "seconds"))
    return f"time: {spent} of the budget of {budget}; {total} with its preparation and the final scores"


def adapt(options: dict[str, Any]) -> "AdaptedRun":
    """Check the arguments, then adapt."""
    from recipes.runner import check_specs_early
    from sentemb.adaptation import AdaptationFolder, AdaptationSettings, chosen_arms, refuse_used_folder
    from sentemb.pipeline import absolute_settings

    resume, out = options.pop("resume", False), options.pop("out", None)
    out = out or (newest() if resume else free_folder())
    begun = AdaptationFolder(out).read_begun() if resume else {}
    if resume:
        options = resumed(begun, options, out)
    for name, what in (("init", "MODEL"), ("corpus", "TEXT")):
        if name not in options:
            raise InputError(f"--{name} is missing; give --{name} {what}")
    refuse_used_folder(out, resume)
    paths = absolute_settings({"init": options.pop("init"), "corpus": options.pop("corpus")})
    model, corpus = paths["init"], paths["corpus"]
    search, data = options.pop("search", None), options.pop("data", None)
    search = None if search is None else search.resolve()
    settings = AdaptationSettings(**options)
    chosen_arms(settings.arms)
    check_specs_early({"corpus": corpus, "init": model})
    if search is not None and not search.exists():
        raise InputError(f"--search {search} is not there; give a folder in BEIR's layout or a table of pairs")
    judged_without = bool(begun) and begun.get("general") is None  # what is resumed had no pairs with human scores
    general = None if judged_without and data is None else general_quality(data)

    import sentemb

    return sentemb.adapt(model, corpus, search=search, general=general, out=out, resume=resume, **options)


def general_quality(data: Path | None) -> "Similarity | None":
    """STS-B dev; None where its data is not there.

    Raises:
        InputError: the data was named, and is not there.
    """
    from eval import choose_tasks, data_folder, read
    from sentemb.adaptation import Similarity

    try:
        folder = data_folder(data)
        (task,) = choose_tasks("STS-B", folder)
        part = read(task, folder, "dev").parts["dev"]
    except InputError:
        if data is not None:
            raise
        return None
    return Similarity("STS-B dev", part.first, part.second, part.gold)


def resumed(begun: dict[str, Any], options: dict[str, Any], out: Path) -> dict[str, Any]:
    """The options that an adaptation was started with, overridden by those of this call.

    Raises:
        InputError: there is none.
    """
    if not begun:
        if "init" in options and "corpus" in options:
            return options
        raise InputError(f"{out} is not an adaptation that can be resumed; check the path, or give --init and --corpus")
    from sentemb.adaptation import AdaptationSettings

    names = {each.name for each in fields(AdaptationSettings)}
    before = {name: value for name, value in begun.items() if name in names}
    before |= {"init": begun["model"], "corpus": begun["corpus"]}
    before |= {"search": Path(begun["search"])} if begun.get("search") else {}
    return before | options


def free_folder() -> Path:
    """The first of runs/adapt, runs/adapt-2, ... that is not there."""
    number, out = 1, Path("runs") / NAME
    while out.exists():
        number += 1
        out = Path("runs") / f"{NAME}-{number}"
    return out


def newest() -> Path:
    """The adaptation of runs/adapt, runs/adapt-2, ... that was begun last; InputError if there is none."""
    folders = [path.parent for path in Path("runs").glob(f"{NAME}*/adapt.json")]
    if not folders:
        raise InputError("--resume finds no adaptation in runs/adapt; give its folder as --out")
    return max(folders, key=lambda path: (path / "adapt.json").stat().st_mtime)


if __name__ == "__main__":
    main()
