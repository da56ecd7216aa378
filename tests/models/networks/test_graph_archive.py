"""Archives of torch.export: ours open, those that could run code do not, and the code does not run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.networks.graph_archive import load_graph
from models.networks.weight_files import export_pt2, load_pt2, read_state

Records = dict[str, bytes]
MODEL = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
EXAMPLE = "archive/data/sample_inputs/model.pt"


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class _Touch:
    """Its unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def archive() -> bytes:
    return export_pt2(_Small(), 2)


def _changed(archive: bytes, change: Callable[[Records], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        records = {name: file.read(name) for name in file.namelist()}
    change(records)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in records.items():
            file.writestr(name, data)
    return buffer.getvalue()


def _edited(archive: bytes, edit: Callable[[Any], None], name: str = MODEL) -> bytes:
    def change(records: Records) -> None:
        document = json.loads(records[name])
        edit(document)
        records[name] = json.dumps(document).encode()

    return _changed(archive, change)


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_an_archive_written_again_still_opens(archive: bytes) -> None:
    assert load_pt2(_changed(archive, lambda records: None))(torch.zeros(3, 3, 2, 2)).shape == (3, 2)


def test_a_pickle_as_example_input_is_refused_and_not_run(archive: bytes, tmp_path: Path) -> None:
    example = _pickled(((_Touch(tmp_path / "ran"),), {}))
    torch.load(io.BytesIO(example), weights_only=False)  # as torch.export.load does where the restricted way fails
    (tmp_path / "ran").rmdir()
    bad = _changed(archive, lambda records: records.update({EXAMPLE: example}))
    with pytest.raises(ValueError, match="example input is a pickle"):
        load_graph(bad)
    assert not (tmp_path / "ran").exists()


def test_a_pickled_weight_is_refused_and_not_run(archive: bytes, tmp_path: Path) -> None:
    def change(records: Records) -> None:
        config = json.loads(records[WEIGHTS])
        config["config"]["layer.weight"]["use_pickle"] = True
        records[WEIGHTS] = json.dumps(config).encode()
        records["archive/data/weights/weight_0"] = _pickled(_Touch(tmp_path / "ran"))

    with pytest.raises(ValueError, match=r"layer\.weight pickled"):
        load_graph(_changed(archive, change))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/model.so",
        "data/aotinductor/model/model.wrapper.cpp",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "extra/code.py",
        "models/second.json",
        "data/weights/../../x",
    ],
)
def test_a_record_that_no_network_needs_is_refused(archive: bytes, name: str) -> None:
    with pytest.raises(ValueError, match="may be code"):
        load_graph(_changed(archive, lambda records: records.update({f"archive/{name}": b"x"})))


@pytest.mark.parametrize("name", ["data/weights/model.pt", "data/constants/model.pt"])
def test_the_pickled_layout_of_an_older_torch_says_how_to_save_it(archive: bytes, name: str) -> None:
    with pytest.raises(ValueError, match="save it again with torch"):
        load_graph(_changed(archive, lambda records: records.update({f"archive/{name}": b"x"})))


def test_an_archive_of_torch_2_7_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("version", "serialized_exported_program.json", "serialized_state_dict.pt"):
            file.writestr(name, b"8.8")
    with pytest.raises(ValueError, match=r"no archive of torch\.export"):
        load_graph(buffer.getvalue())


def test_a_record_that_stands_twice_is_refused(archive: bytes) -> None:
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(MODEL, b"{}")
    with pytest.raises(ValueError, match="stand twice"):
        load_graph(buffer.getvalue())


def test_guards_which_torch_would_execute_are_refused(archive: bytes) -> None:
    with pytest.raises(ValueError, match="guards, which are code"):
        load_graph(_edited(archive, lambda model: model.update(guards_code=["__import__('os').getpid()"])))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getpid()",
        "().__class__",
        "Symbol('s0', positive=True).func",
        "[s0 for s0 in (1,)]",
        "lambda: s0",
        "9**9**9**9",
        "open('s1')",
        "s0 if s1 else s2",
        "Symbol('os; x')",
    ],
)
def test_an_expression_other_than_arithmetic_is_refused(archive: bytes, text: str) -> None:
    def edit(model: Any) -> None:
        value = next(iter(model["graph_module"]["graph"]["tensor_values"].values()))
        value["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}

    with pytest.raises(ValueError, match="its expression"):
        load_graph(_edited(archive, edit))


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.mkldnn.x.default",
        "_operator.methodcaller",
        "builtins.eval",
        "math.__loader__.load_module",
    ],
)
def test_an_operator_besides_those_of_tensors_is_refused(archive: bytes, target: str) -> None:
    with pytest.raises(ValueError, match="its operator"):
        load_graph(_edited(archive, lambda model: model["graph_module"]["graph"]["nodes"][0].update(target=target)))


def test_an_argument_name_with_code_in_it_is_refused(archive: bytes) -> None:
    def edit(model: Any) -> None:
        for entry in model["graph_module"]["module_call_graph"]:
            if entry["signature"] is not None:
                entry["signature"]["forward_arg_names"] = ["x=__import__('os').getpid()"]

    with pytest.raises(ValueError, match="forward_arg_names"):
        load_graph(_edited(archive, edit))


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "collections.defaultdict", "context": '{"default_factory_module": "antigravity"}'},
        {"type": "builtins.dict", "context": '["a b"]'},
        {"type": "builtins.dict", "context": '{"__enum__": true}'},
    ],
)
def test_an_input_of_another_structure_is_refused(archive: bytes, spec: dict[str, Any]) -> None:
    text = json.dumps([1, {**spec, "children_spec": []}])

    def edit(model: Any) -> None:
        for entry in model["graph_module"]["module_call_graph"]:
            if entry["signature"] is not None:
                entry["signature"]["in_spec"] = text

    with pytest.raises(ValueError, match="its structure"):
        load_graph(_edited(archive, edit))


def test_what_is_no_archive_is_said_to_be_none(archive: bytes) -> None:
    with pytest.raises(ValueError, match=r"no archive of torch\.export"):
        load_graph(archive[:500])


def test_a_weight_file_that_could_run_code_is_refused(archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt2"
    path.write_bytes(_changed(archive, lambda records: records.update({"archive/data/aotinductor/m/m.so": b"x"})))
    with pytest.raises(ValueError, match=r"weights\.pt2: .*may be code"):
        read_state(path)
