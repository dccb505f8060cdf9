"""A study's encoders in processes side by side: what is done stays done, what fails stops no other."""

import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval import Data
from recipes.study.columns import described, varied
from recipes.study.plan import (
    DEFAULTS,
    ENCODERS,
    LOGS,
    PLANNED,
    ROW,
    EncoderSpec,
    Study,
    StudyFolder,
)
from sentemb.corpus import Corpus, absolute_corpus
from sentemb.errors import InputError
from sentemb.registry import parse
from sentemb.runs import MODEL
from sentemb.storage import write_text

LEAST = 4  # encoders that are worth a process, where they are alike
MAY_DIFFER = (  # settings, between encoders that are trained together
    *("objective", "head", "lr", "warmup", "schedule", "optimizer", "weight_decay", "clip", "on_nan", "select"),
    *("log_every", "eval_every", "save_every", "keep"),
)
DECIDE_NOTHING = ("threads", "data", "save_every", "keep", "log_every", "timeout")  # settings


@dataclass(frozen=True)
class Processes:
    """How a study's encoders are computed."""

    jobs: int = 1  # processes at a time
    threads: int = 1  # of each
    gpus: int = 0  # that the processes take in turn; 0: none
    stack: int = 1  # encoders that a process may train together


def refuse_others(place: StudyFolder, study: Study) -> None:
    """InputError where an encoder of this name was run with other settings."""
    for planned in study.encoders:
        if not place.run(planned).exists():  # never begun, or deleted to be run again
            continue
        now, mend = asked(planned), f"delete {place.run(planned)} to run it again, or choose another --out"
        try:
            before = DEFAULTS | json.loads(place.planned(planned).read_text(encoding="utf-8"))["asked"]
            before["corpus"] = absolute_corpus(str(before["corpus"]))  # (earlier versions left paths in specs relative)
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{place.planned(planned)}, which says what it was, cannot be read; {mend}") from None
        for key, value in sorted(now.items()):  # (an earlier version had not all of them: then the default)
            if before.get(key) != value:
                raise InputError(
                    f"encoder {planned.name} was started with {key} {before.get(key)!r}, and now it is {value!r}; "
                    f"{mend}"
                )


def asked(planned: EncoderSpec) -> dict[str, Any]:
    """What decides an encoder's result, as it is written down."""
    deciding = {k: v for k, v in planned.settings.items() if k not in DECIDE_NOTHING}
    return json.loads(json.dumps(deciding | {"trained": planned.trained}))


def run_all(
    study: Study,
    place: StudyFolder,
    corpus: Corpus,
    folds: int,
    processes: Processes = Processes(),
    tasks: Sequence[Data] = (),
) -> bool:
    """Run what is not done; returns whether all is (False: a signal ended it).

    Args:
        study: what to run. place: where. corpus: that all are trained on. folds: of the tasks' scores.
        processes: how many, and what each has. tasks: that the encoders are scored on, as read.
    """
    for name in (LOGS, PLANNED, ENCODERS):
        (place.out / name).mkdir(parents=True, exist_ok=True)
    for planned, differing in zip(study.encoders, varied(study.encoders), strict=True):
        content = {"asked": asked(planned), "described": described(planned), "varied": differing}
        write_text(place.planned(planned), json.dumps(content, indent=1) + "\n")
    todo = [planned for planned in study.encoders if place.row(planned).get("status") not in ("ok", "diverged")]
    done = len(study.encoders) - len(todo)
    if done:
        print(f"{done} of {len(study.encoders)} encoders are done already", file=sys.stderr)
    if not todo:
        return True
    context = _context(processes.threads)
    text = (corpus.fingerprint, corpus.least_held_out)
    stop = _Stop()
    bar = tqdm(total=len(study.encoders), initial=done, desc=study.name, unit="encoder")

    def start(group: _Group) -> Any:
        gpu = group.slot % processes.gpus if processes.gpus else None
        more = (text, folds, gpu, tasks, processes.jobs)
        return _start(context, group.waiting, study, place, more, processes.threads)

    with bar, stop:
        for part in _in_order(todo, place):
            _run_side_by_side(groups(part, processes.jobs, processes.stack), processes.jobs, place, start, stop, bar)
    return not stop.asked


def _in_order(todo: Sequence[EncoderSpec], place: StudyFolder) -> list[list[EncoderSpec]]:
    """Encoders that start from none of this study, then those that do."""
    parts: tuple[list[EncoderSpec], ...] = ([], [])
    for planned in todo:
        parts[_starts_in_study(planned, place)].append(planned)
    return [part for part in parts if part]


def _starts_in_study(planned: EncoderSpec, place: StudyFolder) -> bool:
    return str(planned.settings["init"]).startswith(str(place.out / ENCODERS) + os.sep)


def with_starts(study: Study, place: StudyFolder) -> Study:
    """The study where ``init`` is the name of another of its encoders: then its model is meant.

    Raises:
        InputError: that encoder starts from another one itself or keeps no model, or one of them is a trial, which is
            made before.
    """
    chosen = [planned for choice in study.choices for planned in choice.candidates[0]]  # (named alike in all outcomes)
    by_name = {planned.name: planned for planned in [*study.encoders, *chosen]}
    for choice in study.choices:
        for trial in choice.trials:
            if trial.settings["init"] in by_name:
                raise InputError(
                    f"{choice.name} has choose, whose trials are made before {trial.settings['init']}; "
                    "leave choose or init out"
                )

    def with_start(planned: EncoderSpec) -> EncoderSpec:
        start = by_name.get(str(planned.settings["init"]))
        if start is None:
            return planned
        if start.settings["init"] in by_name:
            raise InputError(f"encoder {planned.name}: init is {start.name}, which starts from another one itself")
        if study.keep == "none":
            raise InputError(
                f"encoder {planned.name}: init is {start.name}, of which keep: none leaves no model; write keep: model"
            )
        return replace(planned, settings=planned.settings | {"init": str(place.run(start) / MODEL)})

    return study.changed(with_start)


def _run_side_by_side(
    parts: list[list[EncoderSpec]],
    jobs: int,
    place: StudyFolder,
    start: Callable[["_Group"], Any],
    stop: "_Stop",
    bar: Any,
) -> None:
    """Run each part in a process of its own, ``jobs`` at a time, until all are done or a signal came."""
    running: dict[Any, _Group] = {}
    free, queue = list(range(jobs))[::-1], parts[::-1]
    while running or (queue and not stop.asked):
        while queue and free and not stop.asked:
            group = _Group(queue.pop(), free.pop())
            running[start(group)] = group
        ended = wait([process.sentinel for process in running], timeout=0.5)
        if stop.asked and not stop.passed_on:
            stop.passed_on = True
            for process in running:
                process.terminate()
        for process, group in list(running.items()):
            if has_ended := process.sentinel in ended:
                process.join()
                free.append(running.pop(process).slot)
            is_lost = has_ended and not stop.asked
            for planned, row in group.finished(place, process.exitcode if is_lost else None, is_lost):
                bar.update()
                bar.write(line(planned, row), file=sys.stderr)


@dataclass
class _Group:
    """The encoders of a process that has begun."""

    waiting: list[EncoderSpec]  # those without a row yet
    slot: int  # which of the processes

    def finished(self, place: StudyFolder, code: int | None, is_lost: bool) -> list[tuple[EncoderSpec, dict[str, Any]]]:
        """Those that have got their row since the last call; with ``is_lost`` a row for each that has none, too."""
        rows = [(planned, place.row(planned)) for planned in self.waiting]
        rows = [(planned, lost(place, planned, code) if is_lost and not row else row) for planned, row in rows]
        self.waiting = [planned for planned, row in rows if not row]
        return [(planned, row) for planned, row in rows if row]


def groups(todo: Sequence[EncoderSpec], jobs: int, most: int) -> list[list[EncoderSpec]]:
    """The encoders that one process after another takes, those that can be trained together in one.

    Encoders that are alike are shared out evenly: over as many processes as there are ``jobs``, or a multiple of it
    where that would be more than ``most`` a process; not fewer than ``LEAST`` in one, unless a job had nothing to do.
    Recurrent encoders and the larger groups, which take longest, come first.
    """
    by_key: dict[str, list[EncoderSpec]] = {}
    for planned in todo:
        by_key.setdefault(stacking_key(planned) or planned.name, []).append(planned)
    parts: list[list[EncoderSpec]] = []
    for alike in by_key.values():
        number = jobs * math.ceil(len(alike) / (jobs * most))
        least = math.ceil(len(alike) / most)
        parts += _shared_out(alike, max(least, min(number, len(alike) // LEAST)))
    while len(parts) < jobs and len(largest := max(parts, key=len)) > 1:
        parts.remove(largest)
        parts += _shared_out(largest, 2)
    return sorted(parts, key=lambda part: (parse(str(part[0].settings["encoder"]))[0] != "rnn", -len(part)))


def _shared_out(encoders: list[EncoderSpec], number: int) -> list[list[EncoderSpec]]:
    """``number`` parts of the encoders, in order, whose lengths differ by one at most."""
    bounds = [len(encoders) * i // number for i in range(number + 1)]
    return [encoders[start:stop] for start, stop in pairwise(bounds)]


def stacking_key(planned: EncoderSpec) -> str:
    """Equal for encoders that one process can train together, as far as settings tell; empty: trained alone."""
    settings = planned.settings
    kind, options = parse(str(settings["encoder"]))
    alone = (
        not planned.trained
        or settings["init"] is not None
        or kind not in ("rnn", "static")
        or float(options.get("dropout", 0)) > 0
        or settings["mlm"] > 0
        or settings["compile"]
        or settings["micro_batch"] > 0
        or settings["precision"] == "fp16"
        or settings["negatives"] != "none"
    )
    return "" if alone else repr({name: value for name, value in settings.items() if name not in MAY_DIFFER})


def _context(threads: int) -> BaseContext:
    """Processes forked off one that has imported all and computed nothing; on other systems started from scratch."""
    # The threads of a process wait for work by spinning, which takes the cores of other processes away.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recipes.study.run.process_group", "recipes.study.run.worker"])
    return context


def _start(
    context: BaseContext,
    encoders: Sequence[EncoderSpec],
    study: Study,
    place: StudyFolder,
    more: tuple[Any, ...],
    threads: int,
) -> Any:
    from recipes.study.run.worker import work

    for planned in encoders:
        (place.run(planned) / ROW).unlink(missing_ok=True)  # of a failed one
    planned_encoders = [replace(each, settings=each.settings | {"threads": threads}) for each in encoders]
    process = context.Process(  # type: ignore[attr-defined]
        target=work, args=(planned_encoders, place, study.keep, *more)
    )
    process.start()
    return process


def lost(place: StudyFolder, planned: EncoderSpec, code: int | None) -> dict[str, Any]:
    """The row of an encoder whose process is gone without one."""
    name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
    why = ", for want of memory mostly (fewer --jobs, or a smaller --stack)" if name == "SIGKILL" else ""
    row = {"status": "failed", "reason": f"its process ended with {name}{why}; see {place.log(planned).name}"}
    place.run(planned).mkdir(parents=True, exist_ok=True)
    write_text(place.run(planned) / ROW, json.dumps(row) + "\n")
    return row


def line(planned: EncoderSpec, row: dict[str, Any]) -> str:
    """An encoder's row in a line."""
    if row["status"] != "ok":
        return f"{planned.name}: {row['status']}: {row['reason']}"
    numbers = [f"{key[:-4]} {value:.2f}" for key, value in row.items() if key.endswith("_acc")]
    shape = f"alignment {row['alignment']:.3f}, uniformity {row['uniformity']:.3f}"
    return f"{planned.name}: {', '.join([*numbers, shape])} ({row['seconds']:.0f} s)"


class _Stop:
    """SIGTERM and SIGINT: those that train save and end, nothing new is begun."""

    def __init__(self) -> None:
        self.asked, self.passed_on, self._since, self._before = 0, False, 0.0, dict[int, Any]()

    def __enter__(self) -> "_Stop":
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.asked and signal.Signals(number).name != "SIGHUP" and time.monotonic() - self._since > 0.5:
            os._exit(128 + number)
        self.asked, self._since = number, time.monotonic()
        with suppress(OSError):  # (the terminal may be gone)
            os.write(2, b"\nending: what trains is saved; once more to exit at once\n")

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def prepare(study: Study, corpus: str, data: Path | None, tasks: str) -> Study:
    """The study with what all its encoders share, each setting checked as the recipe does."""
    from recipes.runner import RecipeSettings, check_tasks
    from sentemb.pipeline import PASSAGES, RunSettings, check_specs
    from sentemb.registry import absolute

    chooses = any(planned.settings["dev"] == "search" for planned in study.everything)
    search = study.search or (PASSAGES if chooses else None)
    shared = {
        "corpus": corpus,
        "language": study.language,
        "data": str(data) if data else None,
        "tasks": tasks,
        "search": search if search in (None, PASSAGES) else absolute(str(search)),
        "score": False,
    }

    def checked(planned: EncoderSpec) -> EncoderSpec:
        planned = replace(planned, settings=planned.settings | shared)
        try:
            settings = RecipeSettings.of(planned.settings, RunSettings())
            check_specs(settings.data, settings.encoder, settings.pairs, settings.objective)
            check_tasks(settings.evaluation)
        except InputError as error:
            raise InputError(f"encoder {planned.name}: {error}") from None
        return planned

    return replace(study.changed(checked), corpus=corpus, tasks=tasks)
