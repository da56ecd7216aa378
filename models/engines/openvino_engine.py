"""OpenVINO as an engine, on CPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.engines.engine import BFLOAT16, FLOAT32, Engine, EngineError, Network, Prediction, in_short, quiet
from models.engines.normalised_graph import Normalised, output_number

if TYPE_CHECKING:
    import openvino as ov

_PRECISION = {FLOAT32: "f32", BFLOAT16: "bf16"}


class OpenvinoEngine(Engine):
    """Runs a traced module or an ONNX file; any batch size, unless the file fixes it.

    Raises:
        EngineError: OpenVINO does not have the precision on a CPU, or the ONNX file does not fit `Network`.
    """

    def __init__(self, network: Network, precision: str, *, threads: int) -> None:
        import openvino as ov

        super().__init__(f"openvino-{precision}", network)
        if precision not in _PRECISION:
            raise EngineError(f"{self.name}: OpenVINO computes in {' or '.join(_PRECISION)} on a CPU")
        if network.module is not None and network.features is not None:
            raise EngineError(f"{self.name}: features of a module come from torch engines only")
        model = _traced(network, threads) if network.module is not None else _read(network)
        batch = model.input(0).partial_shape[0]
        self.block = batch.get_length() if batch.is_static else None
        self._features = (
            None if network.features is None else output_number(network, (port.get_names() for port in model.outputs))
        )
        compiled = ov.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _PRECISION[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                # All workers of a machine would pin their threads to its first cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request: ov.InferRequest = compiled.create_infer_request()

    def _infer(self, images_BSS3: np.ndarray) -> Prediction:
        found = self._request.infer({0: images_BSS3}, share_inputs=True)
        logits = np.asarray(found[0], dtype=np.float32)
        return Prediction(
            logits, None if self._features is None else np.asarray(found[self._features], dtype=np.float32)
        )

    def close(self) -> None:
        """Drop the compiled network."""
        del self._request


def _traced(network: Network, threads: int) -> ov.Model:
    import openvino as ov

    torch.set_num_threads(threads)
    side = network.size
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    module = Normalised(network).eval()
    with torch.no_grad(), quiet(), _root_logger_restored():
        return ov.convert_model(module, example_input=example, input=[-1, side, side, 3])


@contextmanager
def _root_logger_restored() -> Iterator[None]:
    """Undo what `convert_model` does to the root logger.

    It sets the root logger to ERROR, and back only when it succeeds; after a failure warnings of the whole process
    would be lost.
    """
    root = logging.getLogger()
    level, filters, handlers = root.level, list(root.filters), list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _read(network: Network) -> ov.Model:
    import openvino as ov

    assert network.onnx is not None
    try:
        model = ov.Core().read_model(network.onnx)
    except RuntimeError as error:
        raise EngineError(f"{network.onnx}: cannot be read as ONNX: {in_short(error)}") from error
    side = network.size
    given = model.inputs
    wanted = ov.PartialShape([-1, 3, side, side])
    if len(given) != 1 or given[0].element_type != ov.Type.f32 or not given[0].partial_shape.compatible(wanted):
        inputs = ", ".join(f"{port.element_type.get_type_name()} {port.partial_shape}" for port in given)
        raise EngineError(f"{network.onnx}: takes {inputs}; it must take one float32 [B, 3, {side}, {side}]")
    model.reshape([given[0].partial_shape[0], 3, side, side])
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    change = steps.input().preprocess().convert_element_type(ov.Type.f32)
    change.mean([255 * value for value in network.mean]).scale([255 * value for value in network.std])
    return steps.build()
