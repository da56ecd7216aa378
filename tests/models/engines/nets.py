"""Small networks, images and an ONNX file for the tests of engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from models.augmentation.rendering import to_input
from models.engines.benchmark import ImageSample
from models.engines.engine import Network
from models.networks.build import build

SIZE = 48
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
CLASSES = 5


def micro_network(features: str | None = None) -> Network:
    """`micro_xs` with five classes."""
    module = build("micro_xs", num_classes=CLASSES, seed=3).module
    return Network(SIZE, MEAN, STD, CLASSES, module=module, features=features)


def images(count: int, seed: int = 0) -> np.ndarray:
    """Blocks of random colour, uint8 [count, SIZE, SIZE, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def sample(count: int = 32, seed: int = 0) -> ImageSample:
    """`images` as engines are compared on them."""
    pixels = images(count, seed)
    return ImageSample(count, lambda start, stop: pixels[start:stop])


def floats(pixels: np.ndarray) -> np.ndarray:
    """The pixels as a network's float input, the way the rest of the house makes it."""
    return to_input(pixels, SIZE, MEAN, STD)


def expected(network: Network, pixels: np.ndarray) -> np.ndarray:
    """The module's own logits."""
    assert network.module is not None
    with torch.inference_mode():
        return network.module(torch.from_numpy(floats(pixels))).numpy()


def linear_onnx(path: Path, *, batch: int | str = "n", kind: int = TensorProto.FLOAT) -> tuple[Network, np.ndarray]:
    """An ONNX file of average pooling and a linear layer, with the pooled planes as second output; and its weights."""
    weight = np.random.default_rng(1).normal(size=(3, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["float"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["planes"]),
        helper.make_node("MatMul", ["planes", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", kind, [batch, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES]),
            helper.make_tensor_value_info("planes", TensorProto.FLOAT, [batch, 3]),
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return Network(SIZE, MEAN, STD, CLASSES, onnx=path), weight
