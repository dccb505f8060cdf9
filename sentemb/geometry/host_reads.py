"""Where a number of a tensor can be read without waiting for a device."""

from torch import Tensor


def reads_are_free(x: Tensor) -> bool:
    """Whether reading a number of ``x`` waits for nothing: its memory is the host's.

    Elsewhere a read waits for all that the device has been asked to do, and the device then waits for the host.
    """
    return x.device.type == "cpu"
