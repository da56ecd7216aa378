"""A network as one ONNX file: names, free batch size, the answers of the module, nothing of this machine inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.engines.engine import Network
from models.engines.normalised_graph import Normalised
from models.export.onnx_graph import IR, OPSET, export_onnx
from models.networks.build import build

SIDE, CLASSES = 32, 5


def network(module: nn.Module) -> Network:
    return Network(SIDE, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), CLASSES, module=module.eval())


def shaped(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.fixture(scope="module")
def student() -> Network:
    return network(build("micro_xs", num_classes=CLASSES, seed=3).module)


@pytest.fixture(scope="module")
def data(student: Network) -> bytes:
    return export_onnx(student)


def test_the_graph_takes_whole_images_and_gives_logits(data: bytes) -> None:
    graph = onnx.load_from_string(data).graph
    (image,), (logits,) = graph.input, graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert shaped(image) == ["batch", SIDE, SIDE, 3]
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)
    assert shaped(logits) == ["batch", CLASSES]


def test_the_file_is_of_the_named_versions_and_valid(data: bytes) -> None:
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (IR, [("", OPSET)])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_images_gets_the_answers_of_the_module(student: Network, data: bytes, count: int) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": images})
    with torch.no_grad():
        expected = Normalised(student).eval()(torch.from_numpy(images))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_the_same_network_gives_the_same_bytes(student: Network, data: bytes) -> None:
    assert export_onnx(student) == data


def test_the_file_names_no_place_of_this_machine(data: bytes) -> None:
    for word in (str(Path(__file__).parents[3]), str(Path(torch.__file__).parent), str(Path.home()), ".py"):
        assert word.encode() not in data


def test_a_network_whose_way_depends_on_its_images_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return x_BCHW.mean((2, 3)) if bool(x_BCHW.sum() > 0) else x_BCHW.amax((2, 3))

    with pytest.raises(ValueError, match="cannot be exported as ONNX for any batch size"):
        export_onnx(network(Branching()))
