"""Inputs and outputs of an ONNX file, read without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from tasks.teachers.onnx_external import has_external_data

_FLOAT32 = "float32"


@dataclass(frozen=True)
class OnnxFacts:
    """One input and the outputs of a network; None where the file leaves a number open."""

    side: int | None
    classes: int | None
    outputs: tuple[str, ...]


def onnx_facts(path: Path) -> OnnxFacts | None:
    """Read a file; None where neither `onnx` nor `onnxruntime` is installed, after a look for tensors in other files.

    Raises:
        UsageError: it is no ONNX network that takes float32 [B, 3, S, S] and returns [B, C], with B left open and
            all weights inside; the text does not name the file.
    """
    _check_whole(path)
    read = _by_onnx if find_spec("onnx") else _by_onnxruntime if find_spec("onnxruntime") else None
    if read is None:
        return None
    inputs, outputs = read(path)
    if len(inputs) != 1:
        raise UsageError(f"it has {len(inputs)} inputs; a teacher takes images alone")
    _, kind, shape = inputs[0]
    height, width = shape[2:] if len(shape) == 4 else (None, None)
    if len(shape) != 4 or shape[1] not in (3, None) or (height is not None and width is not None and height != width):
        raise UsageError(f"its input is {_shown(shape)}; a teacher takes RGB images [B, 3, S, S]")
    if kind != _FLOAT32:
        raise UsageError(f"its input is {kind}; a teacher takes float32")
    logits = outputs[0][2]
    if len(logits) != 2:
        raise UsageError(f"its first output is {_shown(logits)}; a teacher returns logits [B, C]")
    if shape[0] is not None:
        raise UsageError(f"it takes batches of {shape[0]} alone; export it with a free batch axis")
    return OnnxFacts(height or width, logits[1], tuple(name for name, _, _ in outputs))


def _check_whole(path: Path) -> None:
    # Its digest stands for the teacher in every key, and covers this one file.
    try:
        external = has_external_data(path)
    except ValueError as error:
        raise UsageError(f"it is no ONNX file ({error})") from None
    if external:
        raise UsageError("its weights lie in another file beside it; save it as one file")


def check_onnx(facts: OnnxFacts, *, size: int, classes: int, features: str | None) -> None:
    """Whether a network fits; UsageError says what does not, without the file's name."""
    if facts.classes not in (None, classes):
        raise UsageError(f"it has {facts.classes} classes, the corpus has {classes}")
    if facts.side not in (None, size):
        raise UsageError(f"it takes images of {facts.side} px, not of {size}; set size to {facts.side}")
    if features is not None and features not in facts.outputs:
        raise UsageError(f"it has no output {features}; its outputs are {', '.join(facts.outputs)}")


_Value = tuple[str, str, list[int | None]]  # name, type, shape


def _by_onnx(path: Path) -> tuple[list[_Value], list[_Value]]:
    onnx = import_module("onnx")
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    # protobuf and onnx name their errors differently in every release.
    except Exception as error:
        raise UsageError(f"it is no ONNX file ({type(error).__name__})") from error
    constants = {tensor.name for tensor in graph.initializer}

    def value(info: Any) -> _Value:
        tensor = info.type.tensor_type
        kind = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "untyped"
        return info.name, kind, [dim.dim_value or None for dim in tensor.shape.dim]

    return [value(i) for i in graph.input if i.name not in constants], [value(o) for o in graph.output]


def _by_onnxruntime(path: Path) -> tuple[list[_Value], list[_Value]]:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # Its errors share no class but Exception.
    except Exception as error:
        raise UsageError(f"ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error

    def value(node: Any) -> _Value:
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        return node.name, _FLOAT32 if kind == "float" else kind, [d if isinstance(d, int) else None for d in node.shape]

    return [value(i) for i in session.get_inputs()], [value(o) for o in session.get_outputs()]


def _shown(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
