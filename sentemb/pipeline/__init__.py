"""From text to a trained model: the stages of a run, its settings by concern, and training from Python."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.pipeline.data import PreparedData
    from sentemb.pipeline.experiment import BegunRun, Experiment
    from sentemb.pipeline.initial_encoder import averaged_name, initial_model, initial_name
    from sentemb.pipeline.model import make_model, trains_transformer
    from sentemb.pipeline.processes import end_with_launcher
    from sentemb.pipeline.python_api import train
    from sentemb.pipeline.saved_model import save_trained_model, selected
    from sentemb.pipeline.settings import (
        PASSAGES,
        STORED,
        ComputeSettings,
        DataSettings,
        EncoderSettings,
        EvaluationSettings,
        ObjectiveSettings,
        PairSettings,
        RunSettings,
        default_settings,
        may_change,
        pick,
    )
    from sentemb.pipeline.settings_of_run import absolute_settings, refuse_used, resumed_settings
    from sentemb.pipeline.specs import check_specs
    from sentemb.pipeline.trained_run import TrainedRun

_HOMES = {
    "data": ("PreparedData",),
    "experiment": ("BegunRun", "Experiment"),
    "saved_model": ("save_trained_model", "selected"),
    "initial_encoder": ("averaged_name", "initial_model", "initial_name"),
    "model": ("make_model", "trains_transformer"),
    "processes": ("end_with_launcher",),
    "python_api": ("train",),
    "settings_of_run": ("absolute_settings", "refuse_used", "resumed_settings"),
    "settings": (
        "PASSAGES",
        "STORED",
        "ComputeSettings",
        "DataSettings",
        "EncoderSettings",
        "EvaluationSettings",
        "ObjectiveSettings",
        "PairSettings",
        "RunSettings",
        "default_settings",
        "may_change",
        "pick",
    ),
    "specs": ("check_specs",),
    "trained_run": ("TrainedRun",),
}

__all__ = [
    "PASSAGES",
    "STORED",
    "BegunRun",
    "ComputeSettings",
    "DataSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "Experiment",
    "ObjectiveSettings",
    "PairSettings",
    "PreparedData",
    "RunSettings",
    "TrainedRun",
    "absolute_settings",
    "averaged_name",
    "check_specs",
    "default_settings",
    "end_with_launcher",
    "initial_model",
    "initial_name",
    "make_model",
    "may_change",
    "pick",
    "refuse_used",
    "resumed_settings",
    "save_trained_model",
    "selected",
    "train",
    "trains_transformer",
]

__getattr__, __dir__ = lazy_exports(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
