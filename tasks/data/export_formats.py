"""The formats of an exported student, and the names that its files have where people find them."""

from __future__ import annotations

PT2, ONNX, INT8 = "pt2", "onnx", "onnx_int8"
"""torch's archive, float32 ONNX, int8 ONNX: the kinds of outputs in a manifest of stage export."""

FILES = {PT2: "network.pt2", ONNX: "network.onnx", INT8: "network.int8.onnx"}
"""File of each format in a registered model."""
