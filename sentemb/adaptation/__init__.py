"""Adapt a finished model to a text: methods tried within a budget, the choice judged on text that chose nothing."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.adaptation.adapted_run import AdaptedRun
    from sentemb.adaptation.arms import ARMS, MappedArm, TrainedArm, chosen_arms
    from sentemb.adaptation.folder import AdaptationFolder, refuse_used_folder
    from sentemb.adaptation.interpolation import interpolated
    from sentemb.adaptation.measures import Similarity
    from sentemb.adaptation.python_api import adapt
    from sentemb.adaptation.settings import AdaptationSettings
    from sentemb.adaptation.whitening import LinearMap, linear_maps, with_map

_HOMES = {
    "adapted_run": ("AdaptedRun",),
    "arms": ("ARMS", "MappedArm", "TrainedArm", "chosen_arms"),
    "folder": ("AdaptationFolder", "refuse_used_folder"),
    "interpolation": ("interpolated",),
    "whitening": ("LinearMap", "linear_maps", "with_map"),
    "measures": ("Similarity",),
    "python_api": ("adapt",),
    "settings": ("AdaptationSettings",),
}

__all__ = [
    "ARMS",
    "AdaptationFolder",
    "AdaptationSettings",
    "AdaptedRun",
    "LinearMap",
    "MappedArm",
    "Similarity",
    "TrainedArm",
    "adapt",
    "chosen_arms",
    "interpolated",
    "linear_maps",
    "refuse_used_folder",
    "with_map",
]

__getattr__, __dir__ = lazy_exports(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
