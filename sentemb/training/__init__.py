"""Training: the loop, what an update is, batches, processes, checkpoints, log, signals and failures."""

from sentemb.training.batches import BatchDataset
from sentemb.training.checkpoints import newest_whole
from sentemb.training.config import FitConfig
from sentemb.training.distributed import Patience, on_main
from sentemb.training.failures import explained
from sentemb.training.hardware import bf16_units, keep_memory, usable_cores, use_threads
from sentemb.training.loop import agreed_checkpoint, fit
from sentemb.training.samplers import Updates
from sentemb.training.setup import describe, refuse_misfit
from sentemb.training.signals import tell

__all__ = [
    "BatchDataset",
    "FitConfig",
    "Patience",
    "Updates",
    "agreed_checkpoint",
    "bf16_units",
    "describe",
    "explained",
    "fit",
    "keep_memory",
    "newest_whole",
    "on_main",
    "refuse_misfit",
    "tell",
    "usable_cores",
    "use_threads",
]
