"""The processes of a run: device, precision, tracker, and their end."""

import ctypes
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import InitProcessGroupKwargs

from sentemb.errors import InputError, TrainingFailed, in_a_line
from sentemb.pipeline.settings import ComputeSettings
from sentemb.registry import choose
from sentemb.training import GRACE, bf16_units


def make_accelerator(compute: ComputeSettings, transformer: bool) -> Accelerator:
    """Accelerate's settings decide device, processes and, unless it is given, precision; a tracker may be added.

    ``transformer``: whether the encoder is one; it decides the precision where that is "auto".

    Raises:
        InputError: fp16 without a GPU; a tracker that is unknown or not installed; processes that Accelerate does not
            see; or a precision other than that of an Accelerator which this process has already made.
        TrainingFailed: the processes cannot connect to each other.
    """
    track = compute.track
    if track is not None:
        choose("tracker", track, LOGGER_TYPE_TO_CLASS)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    # Without a GPU accelerate takes processes started by torchrun for separate runs, unless they know that they run on
    # the CPU.
    cpu = launched > 1 and not torch.accelerator.is_available()
    # A GPU's collectives end the process where they give up; the heartbeat comes first, with a sentence.
    later = 0 if cpu else 4 * GRACE
    waiting = InitProcessGroupKwargs(timeout=timedelta(minutes=compute.timeout, seconds=later))
    precision = precision_of(compute, transformer)
    if precision == "fp16" and not torch.accelerator.is_available():
        raise InputError("precision fp16 needs a GPU; choose bf16 or no")
    made = AcceleratorState._shared_state.get("_mixed_precision")
    if made is not None and made != precision:
        if compute.precision != "auto":
            raise InputError(
                f"precision {precision} is asked for, and an Accelerator of this process has {made}; give that one, or "
                "begin a new process"
            )
        precision = made
    # A tracker must be given a folder before the run has one; it is set to the run folder once that is claimed.
    try:
        accelerator = Accelerator(
            cpu=cpu, mixed_precision=precision, log_with=track, project_dir="runs", kwargs_handlers=[waiting]
        )
        if accelerator.num_processes != launched:
            raise InputError(
                f"{launched} processes were started but accelerate sees {accelerator.num_processes}; use torchrun"
            )
        # A process that refuses the settings and exits while another one still connects would end that one by an error.
        accelerator.wait_for_everyone()
    except RuntimeError as error:
        if launched == 1:
            raise
        raise TrainingFailed(not_connected(launched, error)) from error
    if track is not None and not accelerator.log_with:
        raise InputError(f"--track {track} needs its package; pip install {track}")
    return accelerator


def not_connected(processes: int, error: BaseException) -> str:
    """What is said where the processes of a run could not connect to each other."""
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"{socket.gethostname()} could not connect to all of the {processes} processes of this run, which meet at "
        f"{place}; see what the others printed, that each host reaches all others, and that GLOO_SOCKET_IFNAME (for "
        f"GPUs NCCL_SOCKET_IFNAME) names the network interface between them ({in_a_line(error)})"
    )


def precision_of(compute: ComputeSettings, transformer: bool) -> str:
    """The requested precision, else Accelerate's, else bf16 for transformers if the processor has it.

    (MiniLM trains twice as fast with it on a CPU with AMX.)
    """
    if compute.precision != "auto":
        return compute.precision
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    return "bf16" if launched == "no" and transformer and bf16_units() else launched


@contextmanager
def preserved_caller_state() -> Iterator[None]:
    """Put back what a run changes in this process: random states, threads, and Accelerate's state if there was none."""
    made = bool(AcceleratorState._shared_state)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)
        torch.set_num_threads(threads)
        if not made:
            AcceleratorState._reset_state()


def end_with_launcher() -> None:
    """End this process with its launcher (on Linux), so that none trains on unnoticed."""
    launched = "TORCHELASTIC_RUN_ID" in os.environ or started_by_accelerate()
    if sys.platform.startswith("linux") and launched:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGHUP)  # PR_SET_PDEATHSIG


def started_by_accelerate() -> bool:
    """Whether ``accelerate launch`` started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ
