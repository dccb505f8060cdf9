"""Training: the loop, updates, batches, processes, checkpoints, log, signals and failures."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.training.checkpoints import ResumePoint, newest_valid_checkpoint
    from sentemb.training.data import BatchDataset, EpochLayout, Guide, Teacher, TeacherArray, TrainingData
    from sentemb.training.distributed import Patience, on_main
    from sentemb.training.evaluator import Evaluation
    from sentemb.training.failures import explained, last_checkpoint_of, report_to_others
    from sentemb.training.hardware import (
        bf16_units,
        processor,
        threads_of_environment,
        tune_memory,
        usable_cores,
        use_threads,
    )
    from sentemb.training.heartbeat import GRACE, Heartbeat, report_to_launcher
    from sentemb.training.log import StepRecord
    from sentemb.training.loop import FitResult, fit
    from sentemb.training.schedule import learning_rate, total_steps
    from sentemb.training.settings import TrainingSettings
    from sentemb.training.setup import (
        RunTarget,
        agreed_checkpoint,
        describe,
        refuse_misfit,
        refuse_other_dimension,
        refuse_useless_guide,
    )
    from sentemb.training.signals import tell
    from sentemb.training.stacked import Lane, fit_stacked

_HOMES = {
    "BatchDataset": "data",
    "Guide": "data",
    "Teacher": "data",
    "TeacherArray": "data",
    "TrainingData": "data",
    "ResumePoint": "checkpoints",
    "newest_valid_checkpoint": "checkpoints",
    "Patience": "distributed",
    "on_main": "distributed",
    "Evaluation": "evaluator",
    "explained": "failures",
    "last_checkpoint_of": "failures",
    "report_to_others": "failures",
    "GRACE": "heartbeat",
    "Heartbeat": "heartbeat",
    "report_to_launcher": "heartbeat",
    "bf16_units": "hardware",
    "processor": "hardware",
    "tune_memory": "hardware",
    "threads_of_environment": "hardware",
    "usable_cores": "hardware",
    "use_threads": "hardware",
    "FitResult": "loop",
    "fit": "loop",
    "StepRecord": "log",
    "EpochLayout": "data",
    "learning_rate": "schedule",
    "total_steps": "schedule",
    "TrainingSettings": "settings",
    "RunTarget": "setup",
    "agreed_checkpoint": "setup",
    "describe": "setup",
    "refuse_misfit": "setup",
    "refuse_other_dimension": "setup",
    "refuse_useless_guide": "setup",
    "tell": "signals",
    "Lane": "stacked",
    "fit_stacked": "stacked",
}

__all__ = [
    "GRACE",
    "BatchDataset",
    "EpochLayout",
    "Evaluation",
    "FitResult",
    "Guide",
    "Heartbeat",
    "Lane",
    "Patience",
    "ResumePoint",
    "RunTarget",
    "StepRecord",
    "Teacher",
    "TeacherArray",
    "TrainingData",
    "TrainingSettings",
    "agreed_checkpoint",
    "bf16_units",
    "describe",
    "explained",
    "fit",
    "fit_stacked",
    "last_checkpoint_of",
    "learning_rate",
    "newest_valid_checkpoint",
    "on_main",
    "refuse_misfit",
    "refuse_other_dimension",
    "refuse_useless_guide",
    "report_to_launcher",
    "report_to_others",
    "tell",
    "total_steps",
    "processor",
    "threads_of_environment",
    "tune_memory",
    "usable_cores",
    "use_threads",
]

__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
