"""Claim a run folder for one process, and protect its files from being overwritten."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from sentemb.errors import InputError
from sentemb.pipeline.settings_of_run import refuse_used
from sentemb.runs import CONFIG
from sentemb.storage import writes_alone

TRIAL = f".{CONFIG}.try"  # written and removed, to see whether the folder can be written to


@contextmanager
def claimed(
    out: Path | None, name: str, accelerator: Accelerator, new: bool = False, temporary: bool = False
) -> Iterator[Path]:
    """Make the run folder, and lock it against other processes.

    Args:
        out: the folder; None: the first free one of runs/NAME, runs/NAME-2, ...
        name: NAME.
        accelerator: the processes, which all get the main process' answer.
        new: whether there must be nothing in it.
        temporary: whether a temporary folder is made where ``out`` is None.

    Raises:
        InputError: it cannot be made, or another process of this machine writes into it.
    """
    names: list[Path | None] = [out]
    alone: AbstractContextManager[None] = nullcontext()
    if accelerator.is_main_process:
        try:
            folder = names[0] = _make(out, name, temporary)
            (folder / TRIAL).touch()
            (folder / TRIAL).unlink()
        except OSError as error:
            raise InputError(
                f"cannot write to the run folder {out or 'runs'} ({error.strerror}); choose another --out"
            ) from None
        refusal = f"{folder} is in use by another process; wait until it ends, or choose another --out"
        alone = writes_alone(folder, refusal)
    with alone:
        if new and accelerator.is_main_process:
            refuse_used(folder)  # (it may have been begun while this one prepared)
        broadcast_object_list(names)
        assert names[0] is not None
        yield names[0]


def _make(out: Path | None, name: str, temporary: bool) -> Path:
    if out is None and temporary:
        return Path(tempfile.mkdtemp(prefix="sentemb-"))
    number = 1
    while out is None:
        free = Path("runs") / (name if number == 1 else f"{name}-{number}")
        number += 1
        with suppress(FileExistsError):  # (two may be started at once)
            free.mkdir(parents=True)
            out = free
    out.mkdir(parents=True, exist_ok=True)
    return out
