"""Tensors of an ONNX file that lie in another file are found, wherever they are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.errors import UsageError
from tasks.teachers import onnx_file
from tasks.teachers.onnx_external import has_external_data
from tasks.teachers.onnx_file import onnx_facts
from tests.tasks.teachers.onnx_nets import write_onnx

onnx = pytest.importorskip("onnx")


def _elsewhere() -> Any:
    tensor = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "far")
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    return tensor


def _constant(model: Any) -> Any:
    node = model.graph.node.add(op_type="Constant", output=["far"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    return attribute.t


def _subgraph(model: Any) -> Any:
    node = model.graph.node.add(op_type="If", output=["chosen"])
    branch = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
    return branch.g.initializer.add()


PLACES: dict[str, Callable[[Any], Any]] = {
    "initializer": lambda model: model.graph.initializer.add(),
    "constant": _constant,
    "subgraph": _subgraph,
    "sparse": lambda model: model.graph.sparse_initializer.add().values,
    "function": lambda model: model.functions.add(name="f").node.add().attribute.add(name="v").tensors.add(),
    "training": lambda model: model.training_info.add().algorithm.initializer.add(),
}


@pytest.mark.parametrize("place", list(PLACES))
def test_a_tensor_in_another_file_is_found(place: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    assert not has_external_data(path)
    model = onnx.load(str(path))
    PLACES[place](model).CopyFrom(_elsewhere())
    path.write_bytes(model.SerializeToString())
    assert has_external_data(path)


def test_a_file_is_refused_where_no_package_of_onnx_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx(tmp_path, external=True)
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="weights lie in another file"):
        onnx_facts(path)


@pytest.mark.parametrize("cut", [1, 40])
def test_a_file_that_is_cut_is_no_onnx_file(cut: int, tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UsageError, match="it is no ONNX file"):
        onnx_facts(path)
