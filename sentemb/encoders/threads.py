"""The threads of torch for work that one process of a machine does while the others wait for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def all_threads() -> Iterator[None]:
    """The threads of all processes of this machine for this one, as the others wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before * int(os.environ.get("LOCAL_WORLD_SIZE", 1)), os.cpu_count() or before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
