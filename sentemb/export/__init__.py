"""Encoders for use outside of training: static ones in fewer bytes, any in ONNX."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.export.command import main
    from sentemb.export.onnx_folder import export_onnx

__all__ = ["export_onnx", "main"]

_HOMES = {"export_onnx": "sentemb.export.onnx_folder", "main": "sentemb.export.command"}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
