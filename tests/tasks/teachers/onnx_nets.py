"""Small ONNX files: channel means times a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest


def write_onnx(
    folder: Path,
    *,
    shape: Sequence[int | str] = ("batch", 3, 32, 32),
    answer: Sequence[int | str] = ("batch", 3),
    kind: str = "float32",
    inputs: int = 1,
    external: bool = False,
) -> Path:
    """An ONNX file whose logits are the means of its input's channels; skips where `onnx` is not installed.

    Args:
        shape, answer: as declared of its input and output.
        kind: type of input, weights and output.
        inputs: inputs that it declares.
        external: keep the weights in another file.
    """
    onnx = pytest.importorskip("onnx")
    helper, dtype = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    names = [f"images{number or ''}" for number in range(inputs)]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"] if len(answer) == 2 else ["logits"]),
    ]
    if len(answer) == 2:
        nodes.append(helper.make_node("MatMul", ["flat", "eye"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name in names],
        [helper.make_tensor_value_info("logits", dtype, list(answer))],
        [onnx.numpy_helper.from_array(np.eye(3, dtype=kind), "eye")],
    )
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "net.onnx"
    onnx.save(net, str(path), save_as_external_data=external, size_threshold=0)
    return path
