"""Training: the loop, what an update is, batches, processes, checkpoints, log, signals and failures."""

from sentemb.training.batches import BatchDataset
from sentemb.training.checkpoints import newest_valid_checkpoint
from sentemb.training.config import FitConfig
from sentemb.training.distributed import Patience, on_main
from sentemb.training.failures import explained
from sentemb.training.hardware import bf16_units, tune_malloc, usable_cores, use_threads
from sentemb.training.loop import agreed_checkpoint, fit
from sentemb.training.samplers import EpochLayout
from sentemb.training.setup import describe, refuse_misfit
from sentemb.training.signals import tell

__all__ = [
    "BatchDataset",
    "FitConfig",
    "Patience",
    "EpochLayout",
    "agreed_checkpoint",
    "bf16_units",
    "describe",
    "explained",
    "fit",
    "tune_malloc",
    "newest_valid_checkpoint",
    "on_main",
    "refuse_misfit",
    "tell",
    "usable_cores",
    "use_threads",
]
