"""Encoders as ONNX graphs: read and run by onnxruntime."""

from sentemb.encoders.onnx.encoder import (
    GRAPH,
    ONNX,
    ONNX_CONFIG,
    ONNX_INPUTS,
    ONNX_INSTALL,
    ONNX_OUTPUT,
    ONNX_TOKENIZER,
    OnnxEncoder,
    write_onnx_config,
)

__all__ = [
    "GRAPH",
    "ONNX",
    "ONNX_CONFIG",
    "ONNX_INPUTS",
    "ONNX_INSTALL",
    "ONNX_OUTPUT",
    "ONNX_TOKENIZER",
    "OnnxEncoder",
    "write_onnx_config",
]
