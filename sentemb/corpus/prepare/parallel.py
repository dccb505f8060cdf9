"""Run jobs on all cores, if that saves more time than starting processes costs."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sentemb.errors import PreparationInterrupted

WORTH = 4_000_000  # bytes of text below which starting processes costs more than it saves


def spread(jobs: Sequence[Callable[..., int]], size: int, tell: Callable[[int], Any]) -> Iterator[int]:
    """What each job returns, as they end; done by processes on all cores where that is worth their start.

    Args:
        jobs: picklable. size: bytes of text in all of them.
        tell: a job that runs in this process reports its progress to it (``job(tell=...)``) and returns the rest.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(cores, len(jobs)) < 2 or size < WORTH:
        yield from (job(tell=tell) for job in jobs)
        return
    # loky and not multiprocessing: it neither forks a process that has threads nor runs the user's script again
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pool = Parallel(n_jobs=cores, return_as="generator_unordered", max_nbytes=None, batch_size=1)
    try:
        yield from pool(delayed(_alone)(job) for job in jobs)
    except TerminatedWorkerError:
        raise PreparationInterrupted(
            "a process that prepared the corpus was killed (out of memory?); run the same command again to continue"
        ) from None
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)  # they would keep their memory while we train


def _alone(job: Callable[..., int]) -> int:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # (its threads would fight for the cores of the other processes)
    return job()
