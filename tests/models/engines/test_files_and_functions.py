"""Networks that are not torch modules: ONNX files and functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from models.engines.engine import EngineError, Network
from models.engines.opening import names, open_engine
from tests.models.engines.nets import CLASSES, MEAN, SIZE, STD, floats, images, linear_onnx

BOTH = ["onnxruntime-float32", "openvino-float32"]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_file_predicts_any_number_of_images(tmp_path: Path, name: str, batch: int | str) -> None:
    network, weight = linear_onnx(tmp_path / "net.onnx", batch=batch)
    pixels = images(6)
    answer = open_engine(network, name, device="cpu", threads=1)(pixels)
    np.testing.assert_allclose(answer.logits_BC, floats(pixels).mean(axis=(2, 3)) @ weight, atol=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_a_named_output_is_the_features(tmp_path: Path, name: str) -> None:
    network = replace(linear_onnx(tmp_path / "net.onnx", batch=4)[0], features="planes")
    answer = open_engine(network, name, device="cpu", threads=1)(images(6))
    assert answer.features_BD is not None
    np.testing.assert_allclose(answer.features_BD, floats(images(6)).mean(axis=(2, 3)), atol=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_an_output_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    network = replace(linear_onnx(tmp_path / "net.onnx")[0], features="pooled")
    with pytest.raises(
        EngineError, match=r"no output 'pooled' \('pooled' is for modules\); its outputs are logits, pl"
    ):
        open_engine(network, name, device="cpu", threads=1)


@pytest.mark.parametrize("name", BOTH)
def test_a_file_with_another_input_is_refused(tmp_path: Path, name: str) -> None:
    network, _ = linear_onnx(tmp_path / "net.onnx", kind=TensorProto.DOUBLE)
    with pytest.raises(EngineError, match=r"net\.onnx: takes .*; it must take one float"):
        open_engine(network, name, device="cpu", threads=1)
    network, _ = linear_onnx(tmp_path / "net.onnx")
    with pytest.raises(EngineError, match=r"it must take one float.*64, 64"):
        open_engine(replace(network, size=64), name, device="cpu", threads=1)


@pytest.mark.parametrize("name", BOTH)
def test_a_file_that_is_no_onnx_is_refused_by_name(tmp_path: Path, name: str) -> None:
    network, _ = linear_onnx(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(b"no model" * 9)
    with pytest.raises(EngineError, match=r"net\.onnx"):
        open_engine(network, name, device="cpu", threads=1)


def test_a_file_runs_on_the_two_runtimes_only(tmp_path: Path) -> None:
    network, _ = linear_onnx(tmp_path / "net.onnx")
    assert {name.split("-")[0] for name in names(network, "cpu")} == {"onnxruntime", "openvino"}
    with pytest.raises(EngineError, match="only a torch module"):
        open_engine(network, "eager-float32", device="cpu", threads=1)


def test_a_function_is_asked_as_it_is() -> None:
    def means(pixels: np.ndarray) -> np.ndarray:
        return pixels.mean(axis=(1, 2))

    network = Network(SIZE, MEAN, STD, 3, call=means)
    assert names(network, "cpu") == ["call-float32"]
    answer = open_engine(network, "call-float32", device="cpu", threads=1)(images(4))
    assert answer.logits_BC.dtype == np.float32
    np.testing.assert_allclose(answer.logits_BC, means(images(4)), rtol=1e-6)
    with pytest.raises(EngineError, match="a function runs as call-float32 only"):
        open_engine(network, "openvino-float32", device="cpu", threads=1)


def test_a_function_that_returns_another_shape_is_an_error() -> None:
    network = Network(SIZE, MEAN, STD, CLASSES, call=lambda pixels: np.zeros((1, CLASSES)))
    with pytest.raises(EngineError, match=r"returned \[1, 5\], expected \[4, 5\]"):
        open_engine(network, "call-float32", device="cpu", threads=1)(images(4))
