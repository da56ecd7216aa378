"""int8 graphs: what is quantised, what stays, how near the answers are, and how quiet it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from models.engines.engine import Network
from models.export.int8 import normalising_nodes, to_int8
from models.export.onnx_graph import export_onnx
from models.networks.build import build

SIDE, CLASSES = 32, 5


def images(count: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures: noise would calibrate on values that no photograph has."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.float32)
    return small.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def graph() -> bytes:
    module = build("micro_xs", num_classes=CLASSES, seed=3).module
    return export_onnx(Network(SIDE, (0.5,) * 3, (0.25,) * 3, CLASSES, module=module))


@pytest.fixture(scope="module")
def made(graph: bytes) -> bytes:
    return to_int8(graph, images(32))


def logits(data: bytes, given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": given})[0])


def test_the_answers_stay_near(graph: bytes, made: bytes) -> None:
    given = images(16, seed=1)
    exact, found = logits(graph, given), logits(made, given)
    assert 0 < np.abs(found - exact).max() < 0.1 * np.ptp(exact)


def test_weights_are_int8_with_a_scale_a_channel(made: bytes) -> None:
    model = onnx.load_from_string(made)
    weights = {value.name: value for value in model.graph.initializer}
    kernels = [w for w in weights.values() if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(kernels) == len(convolutions) > 0
    for kernel in kernels:
        (read,) = (node for node in model.graph.node if kernel.name in node.input)
        assert list(weights[read.input[1]].dims) == [kernel.dims[0]]


def test_what_normalises_is_left_out_and_logits_stay_float(made: bytes) -> None:
    model = onnx.load_from_string(made)
    assert len(normalising_nodes(model)) == 4
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    assert last.op_type == "Gemm"


def test_the_file_keeps_versions_names_and_is_smaller(graph: bytes, made: bytes) -> None:
    before, after = onnx.load_from_string(graph), onnx.load_from_string(made)
    assert (after.ir_version, list(after.opset_import)) == (before.ir_version, list(before.opset_import))
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert (len(made) < len(graph), list(after.metadata_props)) == (True, [])


def test_the_same_images_give_the_same_bytes(graph: bytes, made: bytes) -> None:
    assert to_int8(graph, images(32)) == made


def test_nothing_is_printed(graph: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    to_int8(graph, images(3))
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def test_images_are_needed(graph: bytes) -> None:
    with pytest.raises(ValueError, match="needs images to calibrate on"):
        to_int8(graph, images(0))
