"""Static int8 quantisation of an ONNX graph with ONNX Runtime's quantiser, calibrated on images that are given.

Quantise and dequantise nodes stand around every operator (QDQ), so that any runtime may fuse them: weights int8 with a
scale per output channel, activations uint8 with a range by percentile (Wu et al. 2020, arXiv 2004.09602). What
normalises the input, and the logits, stay float32.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from models.engines.engine import in_short, quiet
from models.export.onnx_graph import INPUT

PERCENTILE = 99.999
"""Share of a tensor's values, in percent, that its range holds."""

BATCH = 8
"""Images whose activations are held in memory at once."""

_NORMALISING = ("Transpose", "Cast", "Mul", "Sub")
_LAST = "Gemm"

# Tells the quantiser that shapes and fused operators need no pass of its own; torch's exporter has done that.
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")

_PRINTS = threading.Lock()


def to_int8(graph: bytes, images: np.ndarray) -> bytes:
    """The graph with int8 weights and uint8 activations.

    Args:
        graph: from `models.export.onnx_graph.export_onnx`.
        images: uint8 [N, S, S, 3] to calibrate on; of N the largest multiple of `BATCH` is used, all where N is less.

    Returns:
        An ONNX file with the same input and output.

    Raises:
        ValueError: there are no images, or the quantiser cannot treat this graph.
    """
    import onnx

    if not len(images):
        raise ValueError("int8 needs images to calibrate on")
    model = onnx.load_from_string(graph)
    size = min(BATCH, len(images))
    model.metadata_props.add(key=_PREPARED[0], value=_PREPARED[1])
    with TemporaryDirectory(prefix="stillroom-int8-") as folder:
        given, made = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, given)
        try:
            _quantise(given, made, images[: len(images) // size * size], size, normalising_nodes(model))
        # The quantiser raises whatever its steps raise; its caller goes on without int8.
        except Exception as error:
            raise ValueError(f"cannot be quantised: {in_short(error)}") from error
        found = onnx.load(made)
    del found.metadata_props[:]
    onnx.checker.check_model(found)
    data: bytes = found.SerializeToString()
    return data


def normalising_nodes(model: Any) -> list[str]:
    """Names of the nodes between the input and the network's first own operator."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: list[str] = []
    tensor = INPUT
    for kind in _NORMALISING:
        following = readers.get(tensor, [])
        if len(following) != 1 or following[0].op_type != kind:
            break
        found.append(following[0].name)
        tensor = following[0].output[0]
    return found


def _quantise(given: Path, made: Path, images: np.ndarray, size: int, spared: Sequence[str]) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        calibrate,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        """Batches of the images; the quantiser asks for one of them at a time."""

        def __init__(self) -> None:
            self.place, self.end = 0, len(self)

        def __len__(self) -> int:
            return len(images) // size

        def set_range(self, start_index: int, end_index: int) -> None:
            self.place, self.end = start_index, end_index

        def get_next(self) -> dict[str, np.ndarray] | None:
            if self.place >= self.end:
                return None
            self.place += 1
            return {INPUT: np.ascontiguousarray(images[size * (self.place - 1) : size * self.place])}

    # The module prints its progress; silencing standard output would silence other threads too.
    with _PRINTS, quiet():
        vars(calibrate)["print"] = lambda *_: None
        try:
            quantize_static(
                given,
                made,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(spared),
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={
                    "CalibPercentile": PERCENTILE,
                    "CalibStridedMinMax": 1,  # batches whose activations are held at once; of every method
                    "OpTypesToExcludeOutputQuantization": [_LAST],
                },
            )
        finally:
            vars(calibrate).pop("print", None)
