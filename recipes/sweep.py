"""Train and score many encoders in the same way: a study, with its table, statistics, figures and page.

    sentemb sweep --study bookcorpus-108 --corpus BOOKS     # Wang & Isola's study, under an hour on two cores
    sentemb sweep --study temperature --corpus BOOKS        # Wang & Liu's
    sentemb sweep --study circle --corpus BOOKS             # features in two dimensions
    sentemb sweep --study mine.yaml --corpus FILE --dry-run # list what a study of your own would run

`python recipes/sweep.py` is the same command. Processes train side by side, one on each core. Encoders that differ only
in objective, rates and the like train together in one process, on the same batches. If a study was interrupted, run
the same command again: it skips encoders that are done, and tries those that failed once more. It writes
OUT/results.parquet and OUT/results.csv, OUT/statistics.json, OUT/figures/, OUT/study.html, and OUT/encoders/NAME/ with
each model.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.study import STUDY, TRIALS, EncoderSpec, Study, StudyFolder, read_study, shipped
from sentemb.errors import InputError, exit_codes
from sentemb.program import command_parser
from sentemb.wording import counted

if TYPE_CHECKING:
    from eval import Task
    from sentemb.corpus import Corpus


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = command_parser(__doc__)
    made.add_argument("--study", required=True, help=f"{', '.join(shipped())}, or a YAML file of your own")
    made.add_argument("--corpus", help="like --corpus of the recipes; default: the study's corpus, else the sample")
    made.add_argument(
        "--data",
        type=Path,
        help="SentEval's folder; default $SENTEMB_DATA/senteval, else the sample's tasks where a study names none",
    )
    made.add_argument("--out", type=Path, help="the study's folder; default runs/NAME of the study")
    text = "import this script first; it adds an objective, an encoder or a kind of pairs to its table"
    made.add_argument("--import", dest="imports", action="append", default=[], metavar="FILE.py", help=text)
    made.add_argument("--jobs", type=int, help="processes at a time, a thread each (default: one a core, or one a GPU)")
    text = "most encoders that a process trains together, if memory allows; 1: one by one (default 16)"
    made.add_argument("--stack", type=int, default=16, help=text)
    made.add_argument("--folds", type=int, default=10, help="folds of the tasks' cross-validation (default 10)")
    made.add_argument("--dry-run", action="store_true", help="list the encoders and their state; train none")
    made.add_argument("--page", action="store_true", help="write table, statistics, figures and page from what is done")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: 0 done or ended by a signal, 2 something given cannot be used."""
    options = parser().parse_args(arguments)
    with exit_codes("interrupted; run the same command again to continue"):
        study = read_study(options.study)
        if options.jobs is not None and options.jobs < 1:
            raise InputError(f"--jobs must be at least 1, got {options.jobs}")
        if options.stack < 1:
            raise InputError(f"--stack must be at least 1, got {options.stack}")
        if options.folds < 2:
            raise InputError(f"--folds must be at least 2, got {options.folds}")
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise InputError("a study starts its own processes; start it with python or sentemb, without a launcher")
        _run(_with_imports(study, options.imports), options)


def _with_imports(study: Study, paths: Sequence[str]) -> Study:
    """The study whose encoders may name what these files add to the tables; each of its processes imports them."""
    if not paths:
        return study
    from recipes.runner import import_file
    from sentemb.registry import absolute

    files = [absolute(path) for path in paths]
    for file in files:
        import_file(file)
    return study.changed(lambda encoder: replace(encoder, settings={**encoder.settings, "imports": files}))


def _run(study: Study, options: argparse.Namespace) -> None:
    place = StudyFolder((options.out or Path("runs") / study.name).resolve())
    if place.out.exists() and (not place.out.is_dir() or (any(place.out.iterdir()) and not _about(place.out))):
        raise InputError(f"{place.out} exists and is not the folder of a study; choose another --out")
    if options.page:
        from recipes.study import conclude

        if not _about(place.out):
            raise InputError(f"{place.out} holds no study yet; run it without --page first")
        print(conclude(place.out))
        return
    if options.dry_run:
        from recipes.study import prepare
        from sentemb.corpus import check_corpus

        check_corpus(str(options.corpus or study.corpus))
        if options.data is not None:
            from eval import data_folder

            data_folder(options.data)
        _list(prepare(study, options.corpus or study.corpus, None, study.tasks or "MR,CR"), place)
        return

    from sentemb.storage import writes_alone

    with writes_alone(place.out, f"{place.out} is in use by another sweep; wait for its end"):
        _train(study, place, options)


def _list(study: Study, place: StudyFolder) -> None:
    """Print what a study would run, and its state."""
    trials = StudyFolder(place.out / TRIALS)
    for planned in study.encoders:
        _print_planned(planned, place)
    for choice in study.choices:
        for trial in choice.trials:
            _print_planned(trial, trials)
        names = ", ".join(planned.name for planned in choice.candidates[0])
        print(f"{names}  [with the settings of the best of these {len(choice.trials)} by held-out retrieval]")
    every = [*study.encoders, *(planned for choice in study.choices for planned in choice.candidates[0])]
    references = sum(planned.reference for planned in every)
    number = sum(len(choice.trials) for choice in study.choices)
    tried = f" after {number} trials" if number else ""
    print(f"{len(every) - references} encoders and {references} for reference{tried}")


def _print_planned(planned: EncoderSpec, place: StudyFolder) -> None:
    what = [planned.settings[key] for key in ("objective", "encoder", "pairs")] if planned.trained else []
    shown = place.row(planned).get("status", "to do")
    print("  ".join([planned.name, f"[{shown}]", *(what or [planned.settings["encoder"], "not trained"])]))


def _train(study: Study, place: StudyFolder, options: argparse.Namespace) -> None:
    """Look at all that is given, then run what is not done."""
    import torch

    from eval import data_folder, read
    from recipes.study import Processes, conclude, prepare, refuse_others, run_all, trials_of, with_choices, with_starts
    from sentemb.corpus import absolute_corpus, open_corpus
    from sentemb.storage import write_text
    from sentemb.training import usable_cores
    from sentemb.validation import held_out_pairs

    folder = folder.resolve() if (folder := data_folder(options.data)) else None
    tasks = _tasks(study, folder)
    spec = absolute_corpus(options.corpus or study.corpus)
    study = with_starts(prepare(study, spec, folder, ",".join(task.name for task in tasks)), place)
    trials, trial_place = trials_of(study), StudyFolder(place.out / TRIALS)
    refuse_others(place, study)
    refuse_others(trial_place, trials)
    corpus = open_corpus(spec, progress=True, language=study.language)
    before = _about(place.out)
    corpus = _begun_with(place.out, before, corpus, options.folds)
    held_out_pairs(corpus)  # an InputError now is better than one of each encoder
    data = [read(task, folder) for task in tasks]
    gpus = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    jobs = min(options.jobs or gpus or usable_cores(), max(study.size, len(trials.encoders)))
    processes = Processes(jobs, _threads(jobs, options.jobs is not None), gpus, options.stack)
    about = _begin(study, place, options.folds, corpus, tasks)
    about |= {"jobs": jobs, "threads": processes.threads, "seconds": before.get("seconds", 0)}
    print(
        f"study folder: {place.out}; {counted(jobs, 'process')} at a time, {counted(processes.threads, 'thread')} each"
    )
    start = time.perf_counter()
    is_complete = not trials.encoders or run_all(trials, trial_place, corpus, options.folds, processes)
    if is_complete:
        study, about["choices"] = with_choices(study, trial_place)
        refuse_others(place, study)
        about["encoders"] = [planned.name for planned in study.encoders]
        write_text(place.out / STUDY, json.dumps(about, indent=1) + "\n")
        is_complete = run_all(study, place, corpus, options.folds, processes, data)
    about["seconds"] = round(about["seconds"] + time.perf_counter() - start)
    write_text(place.out / STUDY, json.dumps(about, indent=1) + "\n")
    if not is_complete:
        print("ended; run the same command again to continue")
        return
    print(conclude(place.out))


def _begin(study: Study, place: StudyFolder, folds: int, corpus: "Corpus", tasks: "Sequence[Task]") -> dict[str, Any]:
    """Make a study's folder; what its file says of it, as far as that is clear before anything is trained.

    Raises:
        InputError: the folder cannot be written.
    """
    from sentemb.storage import write_text

    about: dict[str, Any] = {key: getattr(study, key) for key in ("name", "title", "description", "keep", "base")}
    about["compare"] = study.compare
    about["corpus"] = {
        "name": corpus.name,
        "sentences": len(corpus),
        "fingerprint": corpus.fingerprint,
        "least_held_out": corpus.least_held_out,
    }
    about |= {"tasks": [task.name for task in tasks if task.probed], "folds": folds}
    about["encoders"] = [planned.name for planned in study.encoders]
    try:
        place.out.mkdir(parents=True, exist_ok=True)
        write_text(place.out / STUDY, json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to {place.out} ({error.strerror}); choose another --out") from None
    return about


def _threads(jobs: int, is_requested: bool) -> int:
    """Threads of each of ``jobs`` processes: OMP_NUM_THREADS, else one with ``--jobs``, else all cores shared."""
    from sentemb.training import threads_of_environment, usable_cores

    return threads_of_environment() or (1 if is_requested else max(1, usable_cores() // jobs))


def _tasks(study: Study, folder: Path | None) -> "list[Task]":
    """The tasks of a study: classified sentences, and pairs of sentences with human scores (STS-B).

    Raises:
        InputError: one is not, or there is no such task or data.
    """
    from eval import choose_tasks, read

    tasks = choose_tasks(study.tasks, folder)
    for task in tasks:
        classified = task.probed and not (folder and any(part.second for part in read(task, folder).parts.values()))
        if not classified and task.scheme != "similarity":
            raise InputError(
                f"a study's tasks are classified sentences or STS, and {task.name} is neither; leave it out of tasks"
            )
    return tasks


def _begun_with(out: Path, before: dict[str, Any], corpus: "Corpus", folds: int) -> "Corpus":
    """The corpus, with the documents held out that a study's folder was started with.

    Raises:
        InputError: it was started on another corpus, or with another number of folds.
    """
    from sentemb.runs import least_held_out

    if before.get("corpus", {}).get("fingerprint", corpus.fingerprint) != corpus.fingerprint:
        raise InputError(f"{out} was started on another corpus, or its files have changed; choose another --out")
    if before.get("folds", folds) != folds:
        raise InputError(
            f"{out} was started with --folds {before['folds']}; continue with that, or choose another --out"
        )
    return replace(corpus, least_held_out=least_held_out(before)) if before else corpus


def _about(out: Path) -> dict[str, Any]:
    """What a study's folder says of it; empty where there is none."""
    try:
        return dict(json.loads((out / STUDY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


if __name__ == "__main__":
    main()
