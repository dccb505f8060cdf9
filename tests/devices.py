"""The device that tests of numbers run on, tensors there, and how near a number must be to its reference.

``SENTEMB_TEST_DEVICE`` names the device (default cpu). Random numbers are drawn on the CPU by seed and moved, so that
every device computes with the same ones. What is equal to the last bit on one machine (the same command twice, on as
many threads) is compared so; what depends on the order of sums, as it does between processors, devices and batches of
other sizes, is compared by these tolerances.
"""

import os

import pytest
import torch
from torch import Tensor

DEVICE = torch.device(os.environ.get("SENTEMB_TEST_DEVICE") or "cpu")
GPU = DEVICE.type != "cpu"

# How far from its reference a value may be.
DOUBLE = 1e-9  # float64: sums in another order, of values around 1
SINGLE = 1e-5  # float32: training = inference, one process = two, as DESIGN promises
COARSE = 1e-3 if GPU else 1e-4  # float32 after updates, or sums of thousands
HALF = 2e-2  # bfloat16 and float16, 8 and 11 bits

numbers = pytest.mark.numbers


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers ``shape``, the same on every device."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def tensor(values, **more) -> Tensor:
    return torch.tensor(values, device=DEVICE, **more)


def ones(*shape: int, **more) -> Tensor:
    return torch.ones(*shape, device=DEVICE, **more)


def zeros(*shape: int, **more) -> Tensor:
    return torch.zeros(*shape, device=DEVICE, **more)


def eye(n: int, **more) -> Tensor:
    return torch.eye(n, device=DEVICE, **more)


def arange(*bounds: int, **more) -> Tensor:
    return torch.arange(*bounds, device=DEVICE, **more)


def near(expected, tolerance: float):
    """What is equal to ``expected`` to an absolute and relative tolerance."""
    return pytest.approx(expected, abs=tolerance, rel=tolerance)
