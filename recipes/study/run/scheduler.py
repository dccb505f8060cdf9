"""A study's encoders in processes side by side: what is done stays done, what fails stops no other."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval import Data
from recipes.study.plan import (
    DEFAULTS,
    ENCODERS,
    LOGS,
    PLANNED,
    ROW,
    EncoderSpec,
    Study,
    StudyFolder,
    described,
    varied,
)
from sentemb.corpus import Corpus, absolute_corpus
from sentemb.errors import InputError
from sentemb.storage import write_text

DECIDE_NOTHING = ("threads", "data", "save_every", "keep", "log_every", "timeout")  # settings


def refuse_others(place: StudyFolder, study: Study) -> None:
    """InputError where an encoder of this name was run with other settings."""
    for planned in study.encoders:
        if not place.run(planned).exists():  # never begun, or deleted to be run anew
            continue
        now, mend = asked(planned), f"delete {place.run(planned)} to have it run anew, or choose another --out"
        try:
            before = DEFAULTS | json.loads(place.planned(planned).read_text(encoding="utf-8"))["asked"]
            before["corpus"] = absolute_corpus(str(before["corpus"]))  # (earlier versions left paths in specs relative)
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{place.planned(planned)}, which says what it was, cannot be read; {mend}") from None
        for key, value in sorted(now.items()):  # (an earlier version had not all of them: then the default)
            if before.get(key) != value:
                raise InputError(
                    f"encoder {planned.name} was begun with {key} {before.get(key)!r}, and now it is {value!r}; {mend}"
                )


def asked(planned: EncoderSpec) -> dict[str, Any]:
    """What decides an encoder's result, as it is written down."""
    deciding = {k: v for k, v in planned.settings.items() if k not in DECIDE_NOTHING}
    return json.loads(json.dumps(deciding | {"trained": planned.trained}))


def run_all(
    study: Study,
    place: StudyFolder,
    corpus: Corpus,
    jobs: int,
    threads: int,
    folds: int,
    gpus: int = 0,
    tasks: Sequence[Data] = (),
) -> bool:
    """Run what is not done; returns whether all is (False: a signal ended it).

    Args:
        study: what to run. place: where. corpus: that all are trained on. jobs: processes at a time. threads: of each.
        folds: of the tasks' scores. gpus: that the processes take in turn; 0: none.
        tasks: that the encoders are scored on, as read.
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
    context = _context(threads)
    stop = _Stop()
    running: dict[Any, tuple[EncoderSpec, int]] = {}
    free = list(range(jobs))[::-1]
    bar = tqdm(total=len(study.encoders), initial=done, desc=study.name, unit="encoder")
    with bar, stop:
        queue = list(reversed(todo))
        while running or (queue and not stop.asked):
            while queue and free and not stop.asked:
                planned, slot = queue.pop(), free.pop()
                more = ((corpus.fingerprint, corpus.least_held_out), folds, slot % gpus if gpus else None, tasks)
                running[_start(context, planned, study, place, more, threads)] = planned, slot
            ended = wait([process.sentinel for process in running], timeout=0.5)
            if stop.asked and not stop.passed_on:
                stop.passed_on = True
                for process in running:
                    process.terminate()
            for process in [p for p in running if p.sentinel in ended]:
                process.join()
                planned, slot = running.pop(process)
                free.append(slot)
                row = place.row(planned)
                if not row and not stop.asked:
                    row = lost(place, planned, process.exitcode)
                if row:
                    bar.update()
                    bar.write(line(planned, row), file=sys.stderr)
    return not stop.asked


def _context(threads: int) -> BaseContext:
    """Processes forked off one that has imported all and computed nothing; on other systems started anew."""
    # The threads of a process wait for work by turning round; beside others that takes their cores away.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recipes.study.run.process_group", "recipes.study.run.worker"])
    return context


def _start(
    context: BaseContext, planned: EncoderSpec, study: Study, place: StudyFolder, more: tuple[Any, ...], threads: int
) -> Any:
    from recipes.study.run.worker import work

    out = place.run(planned)
    (out / ROW).unlink(missing_ok=True)  # of a failed one
    settings = planned.settings | {"threads": threads}
    process = context.Process(  # type: ignore[attr-defined]
        target=work, args=(replace(planned, settings=settings), out, place.log(planned), study.keep, *more)
    )
    process.start()
    return process


def lost(place: StudyFolder, planned: EncoderSpec, code: int | None) -> dict[str, Any]:
    """The row of an encoder whose process is gone without one."""
    name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
    why = ", for want of memory mostly (fewer --jobs)" if name == "SIGKILL" else ""
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
    from sentemb.pipeline import RunSettings, check_specs

    shared = {
        "corpus": corpus,
        "language": study.language,
        "data": str(data) if data else None,
        "tasks": tasks,
        "score": False,
    }
    encoders: Sequence[EncoderSpec] = [replace(p, settings=p.settings | shared) for p in study.encoders]
    for planned in encoders:
        try:
            settings = RecipeSettings.of(planned.settings, RunSettings())
            check_specs(settings.data, settings.encoder, settings.pairs, settings.objective)
            check_tasks(settings.evaluation)
        except InputError as error:
            raise InputError(f"encoder {planned.name}: {error}") from None
    return replace(study, encoders=list(encoders), corpus=corpus, tasks=tasks)
