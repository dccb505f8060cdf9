"""Processes that kill themselves at a chosen place, as a power cut or the kernel would."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in(owner: type, method: str, calls: int | None, at_sync: bool) -> None:
    """Kill this process in the call of a method after ``calls`` of them (None: never), or where a file is synced."""
    plain, count = getattr(owner, method), 0

    def counting(self: Any, *arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if calls is not None and count > calls:
            kill()
        return plain(self, *arguments, **more)

    setattr(owner, method, counting)
    if at_sync:
        os.fsync = lambda _: kill()


def exit_code_of(target: Callable[..., None], *arguments: Any) -> int | None:
    """The exit code of a process that calls ``target``, a function of a module of tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([target.__module__])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode
